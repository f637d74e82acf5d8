package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A Thing is one of what the files speak of: a target, a group, a rule. Two versions of the files differ in their things,
// not in their lines: order, comments and spelling do not count.
type Thing struct {
	Kind string            // setting, group, target, rule, policy or test
	Name string            // unique in its kind
	Says map[string]string // what is said of it, by key; what is not said is missing
}

// The kinds of things.
const (
	KindSetting = "setting"
	KindGroup   = "group"
	KindTarget  = "target"
	KindRule    = "rule"
	KindPolicy  = "policy"
	KindTest    = "test"
)

// ParseThings is Parse that returns what the files speak of too, by kind and name.
func ParseThings(files []File, o Options) (*Policy, []Thing, error) {
	p, form, err := read(files, o)
	if err != nil {
		return nil, nil, err
	}
	things := form.things()
	for _, s := range p.statements {
		if s.word == "policy" {
			things = append(things, Thing{KindPolicy, s.id, map[string]string{"text": strings.Join(strings.Fields(s.text()), " ")}})
		}
	}
	p.ready()
	return p, things, nil
}

// things are those of access.yaml.
func (f *fileForm) things() (things []Thing) {
	whole := reflect.ValueOf(*f)
	for i, field := range reflect.VisibleFields(whole.Type()) {
		switch name := field.Tag.Get("yaml"); name {
		case "groups", "targets", "rules", "tests":
		default:
			if v := whole.Field(i); !v.IsZero() {
				things = append(things, Thing{KindSetting, name, map[string]string{"value": words(v.Interface())}})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Groups)) {
		things = append(things, Thing{KindGroup, name, map[string]string{"members": words(f.Groups[name])}})
	}
	for _, t := range f.Targets {
		things = append(things, thing(KindTarget, t.Name, t))
	}
	for _, r := range f.Rules {
		things = append(things, thing(KindRule, r.Name, r))
	}
	seen := map[string]int{}
	for _, t := range f.Tests { // whose names need not be there, nor differ
		name := t.Name
		if name == "" {
			name = t.User + ", " + t.Target
		}
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, seen[name])
		}
		things = append(things, thing(KindTest, name, t))
	}
	return things
}

// thing is one item of a list, with what its keys say.
func thing(kind, name string, form any) Thing {
	t := Thing{kind, name, map[string]string{}}
	v := reflect.ValueOf(form)
	for i, field := range reflect.VisibleFields(v.Type()) {
		if key := field.Tag.Get("yaml"); key != "name" && !v.Field(i).IsZero() {
			t.Says[key] = words(v.Field(i).Interface())
		}
	}
	return t
}

// words is a value as a person would read it, the same for what means the same.
func words(v any) string {
	switch v := v.(type) {
	case onOff:
		return "on" // off is the zero value
	case []string:
		return strings.Join(slices.Sorted(slices.Values(v)), ", ")
	case map[string]string:
		var all []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, key+"="+v[key])
		}
		return strings.Join(all, ", ")
	case desktopForm:
		form := thing("", "", v)
		return words(form.Says)
	case certificatesForm:
		return words([]string(v))
	case autologonForm:
		return "off" // on is the zero value
	case offersForm:
		var all []string
		for _, o := range v {
			for _, port := range o.Ports {
				all = append(all, fmt.Sprintf("%s:%d", o.Protocol, port))
			}
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprint(v)
}

// Member says whether a person is in a group: by access.yaml, or by the groups that are named of them elsewhere.
func (p *Policy) Member(user string, named []string, group string) bool {
	return p.HasGroup(group) && (slices.Contains(p.groups[group], user) || slices.Contains(named, group))
}

// HasGroup says whether access.yaml has a group: others count nowhere.
func (p *Policy) HasGroup(name string) bool {
	_, known := p.groups[name]
	return known
}
