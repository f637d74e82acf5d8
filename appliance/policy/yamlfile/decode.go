package yamlfile

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/policy/spell"
)

// A NodeDecoder reads its own value, for a key that may be written in more than one way. What is wrong is noted with
// f.Fault; what is the key's path, for messages.
type NodeDecoder interface {
	DecodeNode(f *File, n *Node, what string)
}

// At returns the place of the value that the steps lead to: names of keys, and ints for items of lists. Where a step
// leads nowhere it is the place of what the last good step found, so that "x is missing" points at where x belongs.
func (f *File) At(steps ...any) Position {
	n, _ := f.find(steps)
	return n.Position
}

// Has reports whether the file gives the value that the steps lead to.
func (f *File) Has(steps ...any) bool {
	_, found := f.find(steps)
	return found
}

// KeyAt is At for the name of a key, not its value.
func (f *File) KeyAt(steps ...any) Position {
	parent, _ := f.find(steps[:len(steps)-1])
	for _, k := range parent.Keys {
		if k.Name == steps[len(steps)-1] {
			return k.Position
		}
	}
	return f.At(steps...)
}

// Parsed reports whether the file could be read at all, so that what it does not hold is missing.
func (f *File) Parsed() bool { return !f.unparsed }

func (f *File) find(steps []any) (n *Node, found bool) {
	n = f.root
	for _, step := range steps {
		switch step := step.(type) {
		case string:
			i := slices.IndexFunc(n.Keys, func(k Key) bool { return k.Name == step })
			if i < 0 {
				return n, false
			}
			n = n.Keys[i].Value
		case int:
			if step >= len(n.Items) {
				return n, false
			}
			n = n.Items[step]
		}
	}
	return n, true
}

func (f *File) decodeRoot(into any) {
	if f.root.Kind == Null {
		f.root = &Node{Kind: Map, Position: Position{1, 1}}
	}
	f.Decode(f.root, into, "")
}

// Decode decodes n into what into points to; what is the path of n, for messages.
func (f *File) Decode(n *Node, into any, what string) {
	f.decode(n, reflect.ValueOf(into).Elem(), what)
}

// Keys returns the names that a mapping for the struct v may have, in its order. The tests of schemas and of docs
// compare with it.
func Keys(t reflect.Type) (names []string) {
	for _, field := range reflect.VisibleFields(t) {
		if name := keyName(field); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func keyName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func (f *File) decode(n *Node, v reflect.Value, what string) {
	if d, ok := v.Addr().Interface().(NodeDecoder); ok {
		d.DecodeNode(f, n, what)
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		*p = f.duration(n, what)
		return
	case *netip.Addr:
		decodeText(f, n, what, p, netip.ParseAddr, "an IP address", "such as 10.0.0.4")
		return
	case *netip.Prefix:
		decodeText(f, n, what, p, netip.ParsePrefix, "an address with a prefix length", "such as 10.0.0.0/16")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		f.decodeStruct(n, v, what)
	case reflect.Map:
		f.decodeMap(n, v, what)
	case reflect.Slice:
		if f.Want(n, List, what) {
			list := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
			for i, item := range n.Items {
				f.decode(item, list.Index(i), fmt.Sprintf("%s[%d]", what, i))
			}
			v.Set(list)
		}
	case reflect.String:
		if f.Want(n, String, what) {
			v.SetString(n.Text)
		}
	case reflect.Bool:
		if f.Want(n, Bool, what) {
			v.SetBool(strings.EqualFold(n.Text, "true"))
		}
	case reflect.Int, reflect.Int64, reflect.Uint16:
		if i, ok := f.Whole(n, what); ok {
			if v.CanInt() {
				v.SetInt(int64(i))
			} else if v.OverflowUint(uint64(i)) {
				f.Fault(n.Position, "", "%s is %d; it must be at most 65535", what, i)
			} else {
				v.SetUint(uint64(i))
			}
		}
	default:
		panic(fmt.Sprintf("yamlfile: %s has type %s, which no file can hold", what, v.Type()))
	}
}

func (f *File) decodeStruct(n *Node, v reflect.Value, what string) {
	if !f.Want(n, Map, what) {
		return
	}
	fields := make(map[string]reflect.Value)
	for _, field := range reflect.VisibleFields(v.Type()) {
		if name := keyName(field); name != "" {
			fields[name] = v.FieldByIndex(field.Index)
		}
	}
	for _, k := range n.Keys {
		field, known := fields[k.Name]
		if !known {
			f.UnknownKey(k, what, Keys(v.Type()))
			continue
		}
		f.decode(k.Value, field, join(what, k.Name))
	}
}

// UnknownKey notes that a mapping has no key k, and which one was probably meant.
func (f *File) UnknownKey(k Key, what string, known []string) {
	where := ""
	if what != "" {
		where = " in " + what
	}
	f.Fault(k.Position, spell.DidYouMean(k.Name, known, "known here: "+strings.Join(known, ", ")), "unknown key %q%s", k.Name, where)
}

func (f *File) decodeMap(n *Node, v reflect.Value, what string) {
	if !f.Want(n, Map, what) {
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Keys))
	for _, k := range n.Keys {
		value := reflect.New(v.Type().Elem()).Elem()
		f.decode(k.Value, value, join(what, k.Name))
		m.SetMapIndex(reflect.ValueOf(k.Name).Convert(v.Type().Key()), value)
	}
	v.Set(m)
}

func join(what, key string) string {
	if what == "" {
		return key
	}
	return what + "." + key
}

// Want notes a fault unless n has the kind that is wanted.
func (f *File) Want(n *Node, kind Kind, what string) bool {
	if n.Kind == kind {
		return true
	}
	if what == "" {
		what = "the file"
	}
	hint := ""
	switch {
	case n.Kind == Null:
		f.Fault(n.Position, "give it one or leave the key out", "%s has no value", what)
		return false
	case kind == String && (n.Kind == Integer || n.Kind == Bool || n.Kind == Other):
		hint = fmt.Sprintf("put it in quotes: %q", n.Text)
	case kind == List && n.Kind == String:
		hint = fmt.Sprintf("put it in brackets: [%s]", n.Text)
	}
	f.Fault(n.Position, hint, "%s must be %s, not %s", what, kind, n.Kind)
	return false
}

// Whole reads a whole number of zero or more, in plain decimal: 022 is 22 to one reader and 18 to another.
func (f *File) Whole(n *Node, what string) (int, bool) {
	if !f.Want(n, Integer, what) {
		return 0, false
	}
	i, err := strconv.ParseUint(n.Text, 10, 31)
	if err != nil || n.Text != strconv.FormatUint(i, 10) {
		f.Fault(n.Position, "", "%s is %s; it must be a whole number from 0 to 2147483647 in plain decimal", what, n.Text)
		return 0, false
	}
	return int(i), true
}

func (f *File) duration(n *Node, what string) time.Duration {
	const hint = "write a number and its unit, such as 15m, 8h or 1h30m"
	if n.Kind == Integer {
		f.Fault(n.Position, hint, "%s is %s without a unit", what, n.Text)
		return 0
	}
	if !f.Want(n, String, what) {
		return 0
	}
	d, err := time.ParseDuration(n.Text)
	if err != nil || d <= 0 {
		f.Fault(n.Position, hint, "%s is %q, which is not a length of time", what, n.Text)
		return 0
	}
	return d
}

func decodeText[T any](f *File, n *Node, what string, into *T, parse func(string) (T, error), kind, example string) {
	if !f.Want(n, String, what) {
		return
	}
	v, err := parse(n.Text)
	if err != nil {
		f.Fault(n.Position, example, "%s is %q, which is not %s", what, n.Text, kind)
		return
	}
	*into = v
}

// Text returns the scalar that the steps lead to as it is written, or nothing.
func (f *File) Text(steps ...any) string {
	n, found := f.find(steps)
	if !found {
		return ""
	}
	return n.Text
}
