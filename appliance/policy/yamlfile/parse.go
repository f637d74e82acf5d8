// Package yamlfile reads a YAML file strictly into a struct and reports everything that is wrong with it at once,
// each fault with its line and column.
//
//	var c Config
//	f := yamlfile.Read("sallyport.yaml", data, &c)
//	if c.Port == 0 {
//		f.Fault(f.At("listen", "port"), "give a port such as 443", "listen.port is 0")
//	}
//	if err := f.Err(); err != nil {
//		return err // Faults: one line for each
//	}
//
// # What it accepts
//
// The part of YAML that people write by hand: mappings, lists, scalars, comments, one document. Anchors, aliases,
// merge keys, tags, directives and keys that are not plain words are refused: they let a small file unfold into a
// large one, or make a line mean something that stands elsewhere. A key that the struct does not have, a key given
// twice, a key without a value and a value of another type are faults.
//
// # Two passes
//
// Read looks at spelling and types. What the values mean together is its caller's to check, which finds the place of
// each value again with At.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. The YAML library's time grows with the square of a mapping's size and its stack with depth, so
// both are counted on the tokens, before it parses them: 4,096 keys take it 30 ms, 131,072 would take half a minute.
const (
	MaxSize  = 1 << 20
	maxDepth = 32
	maxKeys  = 4096
)

// A File is a file that has been read, with the faults found in it so far.
type File struct {
	name   string
	root   *Node
	faults Faults

	unparsed bool              // nothing of the file is known
	unread   map[Position]bool // where values stand that could not be decoded
}

// Read decodes data into the struct that into points to. What is wrong is noted in the File; a value that is wrong
// leaves its field as it was, so that the caller's checks can go on with the rest.
func Read(name string, data []byte, into any) *File {
	f := &File{name: name, root: &Node{Kind: Map, Position: Position{1, 1}}}
	root := f.parse(data)
	if root == nil {
		f.unparsed = true
		return f
	}
	f.root = root
	f.decodeRoot(into)
	f.unread = make(map[Position]bool)
	for _, fault := range f.faults {
		f.unread[Position{fault.Line, fault.Column}] = true
	}
	return f
}

// Plain is the File of a text that is not YAML, which its caller reads: it has faults and no values. ok is false, and the
// fault noted, where the data is too large or holds what no text has.
func Plain(name string, data []byte) (f *File, text string, ok bool) {
	f = &File{name: name, root: &Node{Kind: Map, Position: Position{1, 1}}}
	data, ok = f.plain(data)
	f.unparsed = !ok
	return f, string(data), ok
}

// plain is data without what editors add, if it is a text.
func (f *File) plain(data []byte) ([]byte, bool) {
	if len(data) > MaxSize {
		f.Fault(Position{1, 1}, "", "the file has %d bytes; at most %d are read", len(data), MaxSize)
		return nil, false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	return data, f.checkText(data)
}

// parse turns data into a tree of nodes, or notes why it cannot.
func (f *File) parse(data []byte) (root *Node) {
	start := Position{1, 1}
	data, ok := f.plain(data)
	if !ok {
		return nil
	}
	// The library has panicked on hostile text before. A file that it cannot read is a fault of the file.
	defer func() {
		if p := recover(); p != nil {
			f.Fault(start, "", "the file cannot be read as YAML: %v", p)
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if !f.checkTokens(tokens) {
		return nil
	}
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		f.syntaxFault(err)
		return nil
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			f.Fault(positionOf(doc.Body.GetToken()), "", "a second document begins here; one is read")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		return f.root
	}
	before := len(f.faults)
	root = f.convert(body, 0)
	if len(f.faults) > before {
		return nil
	}
	return root
}

// checkText refuses what has no place in a text file before the YAML library sees it.
func (f *File) checkText(data []byte) bool {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		at := Position{line, column}
		switch {
		case r == utf8.RuneError && n == 1:
			f.Fault(at, "save the file as UTF-8", "this byte (0x%02x) is not UTF-8", data[i])
			return false
		case r < ' ' && r != '\n' && r != '\t', r == 0x7f, r >= 0x80 && r < 0xa0, r == '\u2028', r == '\u2029':
			f.Fault(at, "", "a control character (%U) has no place in this file", r)
			return false
		case isBidi(r):
			f.Fault(at, "", "%U changes the direction of text, so that the line reads other than it is", r)
			return false
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		i += n
	}
	return true
}

// isBidi reports whether r is one of Unicode's marks that reorder the text around them.
func isBidi(r rune) bool {
	return r == '\u061c' || r >= '\u200e' && r <= '\u200f' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// checkTokens refuses the parts of YAML that this package does not take, and what is too deep or too wide to parse.
func (f *File) checkTokens(tokens token.Tokens) bool {
	before := len(f.faults)
	depth := 0                 // of [ and {
	flow := make(map[int]int)  // keys at each depth of [ and {
	block := make(map[int]int) // keys at each column, outside them
	entries, entryLine := 0, 0 // dashes in a row on one line
	for _, tk := range tokens {
		if tk == nil {
			continue
		}
		at := positionOf(tk)
		if tk.Type != token.SequenceEntryType {
			entries = 0
		}
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			f.Fault(at, "write the value out where it is needed", "anchors, aliases and merge keys are not read (%q)", tk.Value)
		case token.TagType:
			f.Fault(at, "leave it out", "tags are not read (%q)", tk.Value)
		case token.DirectiveType:
			f.Fault(at, "leave it out", "directives are not read")
		case token.MappingKeyType:
			f.Fault(at, `write "key: value"`, "keys with a question mark are not read")
		case token.SequenceStartType, token.MappingStartType:
			depth++
			flow[depth] = 0
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			if at.Line != entryLine {
				entries, entryLine = 0, at.Line
			}
			entries++
			forgetRightOf(block, at.Column)
		case token.MappingValueType:
			if depth > 0 && gluedColon(tk) {
				f.Fault(positionOf(tk.Prev), fmt.Sprintf("put it in quotes: %q", tk.Prev.Value+":"+tk.Next.Value), "text with a colon stands inside { }")
			}
			keys, level := flow, depth
			if depth <= 0 {
				keys, level = block, keyColumn(tk)
				forgetRightOf(block, level)
			}
			keys[level]++
			if keys[level] == maxKeys+1 {
				f.Fault(at, "", "a mapping has more than %d keys", maxKeys)
			}
		}
		if depth > maxDepth || entries > maxDepth || len(block) > maxDepth {
			f.Fault(at, "", "the file is nested deeper than %d", maxDepth)
			return false
		}
	}
	return len(f.faults) == before
}

// gluedColon reports whether the colon tk stands in the middle of a word. Inside { } the YAML library takes that for a
// key and its value, other readers for text, so neither reading is right.
func gluedColon(tk *token.Token) bool {
	if tk.Prev == nil || tk.Next == nil || tk.Prev.Indicator == token.QuotedScalarIndicator {
		return false
	}
	at, next := positionOf(tk), positionOf(tk.Next)
	return at.Line == next.Line && next.Column == at.Column+1 && tk.Next.Type != token.CollectEntryType &&
		tk.Next.Type != token.MappingEndType && tk.Next.Type != token.SequenceEndType
}

// forgetRightOf ends the mappings that are indented deeper than column.
func forgetRightOf(keys map[int]int, column int) {
	for c := range keys {
		if c > column {
			delete(keys, c)
		}
	}
}

// keyColumn is where the key in front of the colon tk begins.
func keyColumn(tk *token.Token) int {
	if tk.Prev != nil {
		return tk.Prev.Position.Column
	}
	return tk.Position.Column
}

// syntaxFault notes what the YAML library could not read.
func (f *File) syntaxFault(err error) {
	at, message := Position{1, 1}, err.Error()
	var ye yaml.Error
	if errors.As(err, &ye) {
		message = ye.GetMessage()
		if tk := ye.GetToken(); tk != nil {
			at = positionOf(tk)
		}
	}
	message, _, _ = strings.Cut(message, "\n")
	hint := ""
	for _, s := range slips {
		if strings.HasPrefix(message, s.theirs) {
			message, hint = s.ours, s.hint
			break
		}
	}
	f.Fault(at, hint, "%s", message)
}

// slips are what people get wrong most often, as the YAML library begins to say it and as we do.
var slips = []struct{ theirs, ours, hint string }{
	{"sequence end token ']' not found", "the list that begins here does not end", "add the ]"},
	{"could not find flow mapping end token '}'", "the mapping that begins here does not end", "add the }"},
	{"could not find end character of double-quoted text", "the text that begins here does not end", `add the "`},
	{"could not find end character of single-quoted text", "the text that begins here does not end", "add the '"},
	{"',' or ']' must be specified", "there is neither a comma nor the end of the list here", ""},
	{"',' or '}' must be specified", "there is neither a comma nor the end of the mapping here", ""},
	{"mapping value is not allowed in this context", "a value already stands before this colon", "check the indentation, or put text with a colon in quotes"},
	{"value is not allowed in this context", "this does not belong here", "check the indentation and the brackets before it"},
	{"found character '\t' that cannot start any token", "a tab stands where the line is indented", "indent by spaces"},
}

func positionOf(tk *token.Token) Position {
	if tk == nil || tk.Position == nil {
		return Position{1, 1}
	}
	return Position{max(tk.Position.Line, 1), max(tk.Position.Column, 1)}
}

// A Kind is the shape of a Node.
type Kind int

const (
	Null Kind = iota
	Map
	List
	String
	Integer
	Bool
	Other // a float, an infinity, a NaN: nothing that a file of ours holds
)

func (k Kind) String() string {
	return [...]string{"nothing", "a mapping", "a list", "text", "a whole number", "true or false", "a number"}[k]
}

// A Node is a value and its place.
type Node struct {
	Position
	Kind  Kind
	Text  string // a scalar, unquoted
	Items []*Node
	Keys  []Key
}

// A Key is one entry of a mapping.
type Key struct {
	Position
	Name  string
	Value *Node
}

// convert copies the library's tree into nodes and notes keys that are given twice.
func (f *File) convert(from ast.Node, depth int) *Node {
	if from == nil {
		return &Node{Position: Position{1, 1}}
	}
	n := &Node{Position: positionOf(from.GetToken())}
	if depth > maxDepth {
		f.Fault(n.Position, "", "the file is nested deeper than %d", maxDepth)
		return n
	}
	switch from := from.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		n.Kind, n.Text = Bool, from.Token.Value
	case *ast.IntegerNode:
		n.Kind, n.Text = Integer, from.Token.Value
	case *ast.StringNode:
		n.Kind, n.Text = String, from.Value
	case *ast.LiteralNode:
		n.Kind, n.Text = String, from.Value.Value
	case *ast.SequenceNode:
		n.Kind = List
		for _, v := range from.Values {
			n.Items = append(n.Items, f.convert(v, depth+1))
		}
	case *ast.MappingNode:
		n.Kind = Map
		f.convertKeys(n, from.Values, depth)
	case *ast.MappingValueNode:
		n.Kind = Map
		f.convertKeys(n, []*ast.MappingValueNode{from}, depth)
	default:
		n.Kind, n.Text = Other, strings.TrimSpace(fmt.Sprint(from))
	}
	return n
}

func (f *File) convertKeys(n *Node, values []*ast.MappingValueNode, depth int) {
	first := make(map[string]Position)
	for i, v := range values {
		k := Key{Position: positionOf(v.Key.GetToken()), Value: f.convert(v.Value, depth+1)}
		k.Name = v.Key.GetToken().Value
		if i == 0 {
			n.Position = k.Position
		}
		if v.Value == nil || v.Value.Type() == ast.NullType {
			k.Value.Position = k.Position
		}
		if at, twice := first[k.Name]; twice {
			f.Fault(k.Position, "", "key %q is given twice; the first is in line %d", k.Name, at.Line)
			continue
		}
		first[k.Name] = k.Position
		n.Keys = append(n.Keys, k)
	}
}
