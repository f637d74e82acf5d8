package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Main is the name of the document's own file.
const Main = "sallyport.yaml"

var fileName = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// checkName says what is wrong with the name of a file beside the document.
func checkName(name string) error {
	switch {
	case !fileName.MatchString(name):
		return fmt.Errorf("%.140q is no name for a file beside %s: up to 64 of a-z, A-Z, 0-9, _, - and ., and at most one folder", name, Main)
	case name == Main:
		return fmt.Errorf("no file beside %s may have its name", Main)
	}
	return nil
}

// A Fault is what is wrong at one place of a document.
type Fault struct {
	File         string
	Line, Column int // from 1
	Message      string
	Hint         string // what to do; may be empty
}

// Error is one line: file:line:column: message; hint.
func (f *Fault) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

// User returns the document of a user-data text: what stands below the key sallyport of a "#cloud-config", or else the
// whole text. Lines and columns stay as they are.
func User(data []byte) ([]byte, error) {
	lines := splitLines(data)
	var first string
	if len(lines) > 0 {
		first = strings.TrimSpace(lines[0])
	}
	fault := func(message string) error {
		return &Fault{"user-data", 1, 1, message, "write the configuration itself, or #cloud-config and the configuration below the key sallyport"}
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, ErrNone
	case strings.HasPrefix(first, "#!") || strings.HasPrefix(strings.ToLower(first), "content-type:") || strings.HasPrefix(strings.ToLower(first), "mime-version:"):
		return nil, fault("it is something to run or in parts, not a configuration")
	case first != "#cloud-config":
		return data, nil
	}
	begin := slices.IndexFunc(lines, func(l string) bool { return keyOf(l, 0) == "sallyport" })
	if begin < 0 {
		return nil, fault("this #cloud-config has no key sallyport")
	}
	end := sectionEnd(lines, begin, 0)
	value := strings.TrimSpace(strings.SplitN(lines[begin], ":", 2)[1])
	for i, l := range lines {
		switch {
		case i < begin || i >= end:
			lines[i] = blank(l)
		case i > begin:
		case strings.HasPrefix(value, "{"): // the mapping begins on the key's own line
			at := strings.Index(l, ":") + 1
			lines[i] = strings.Repeat(" ", at) + l[at:]
		default:
			lines[i] = blank(l)
		}
	}
	return []byte(strings.Join(lines, "")), nil
}

// Split takes the files that stand in the document out of it, and puts them beside it. In their place there are empty lines.
// A file is a block of literal text; what is written otherwise is a *Fault.
func (d Document) Split() (Document, error) {
	lines := splitLines(d.Config)
	root := indentOfFirst(lines)
	begin := slices.IndexFunc(lines, func(l string) bool { return keyOf(l, root) == "files" })
	if begin < 0 {
		return d, nil
	}
	fault := func(line int, message, hint string) error {
		column := len(lines[line]) - len(strings.TrimLeft(lines[line], " ")) + 1
		return &Fault{Main, line + 1, column, message, hint}
	}
	const how = "such as access.yaml: |  and the file's lines below it, indented"
	if rest := afterKey(lines[begin]); rest != "" {
		return Document{}, fault(begin, "files must be a mapping of names to texts", how)
	}
	out := Document{From: d.From, Files: maps.Clone(d.Files)}
	end := sectionEnd(lines, begin, root)
	inner := root
	for i := begin + 1; i < end; {
		if insignificant(lines[i]) {
			i++
			continue
		}
		if inner == root {
			inner = indentOf(lines[i])
		}
		name := keyOf(lines[i], inner)
		if name == "" {
			return Document{}, fault(i, "this is not the name of a file", how)
		}
		if err := checkName(name); err != nil {
			return Document{}, fault(i, err.Error(), "")
		}
		if _, twice := out.Files[name]; twice {
			return Document{}, fault(i, fmt.Sprintf("file %s is there twice", name), "")
		}
		style := afterKey(lines[i])
		if style != "|" && style != "|-" && style != "|+" {
			return Document{}, fault(i, fmt.Sprintf("the text of file %s must begin with | and stand below it", name), how)
		}
		last := sectionEnd(lines, i, inner)
		text, bad := literal(lines[i+1:last], inner, style)
		if bad >= 0 {
			return Document{}, fault(i+1+bad, "this line is indented less than the text's first", "")
		}
		if out.Files == nil {
			out.Files = map[string][]byte{}
		}
		if out.Files[name] = []byte(text); len(out.Files) > maxNames {
			return Document{}, fault(i, fmt.Sprintf("more than %d files", maxNames), "")
		}
		i = last
	}
	for i := begin; i < end; i++ {
		lines[i] = blank(lines[i])
	}
	out.Config = []byte(strings.Join(lines, ""))
	return out, nil
}

// Unpack writes the document, as sallyport.yaml, and the files beside and in it into dir, which it makes if needed: the
// folders with mode 0700, the files with 0600. What dir held before is removed first. dir is root's own, below /run.
func Unpack(d Document, dir string) error {
	d, err := d.Split()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range old {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name, data := range d.Files {
		if err := checkName(name); err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, Main), d.Config, 0o600)
}

// splitLines cuts behind each newline, which stays.
func splitLines(data []byte) []string {
	lines := strings.SplitAfter(string(data), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// blank is an empty line with the end that l has.
func blank(l string) string { return l[len(strings.TrimRight(l, "\r\n")):] }

// insignificant lines are empty or comments.
func insignificant(l string) bool {
	l = strings.TrimSpace(l)
	return l == "" || l[0] == '#'
}

func indentOf(l string) int { return len(l) - len(strings.TrimLeft(l, " ")) }

func indentOfFirst(lines []string) int {
	for _, l := range lines {
		if !insignificant(l) && !strings.HasPrefix(l, "---") {
			return indentOf(l)
		}
	}
	return 0
}

// keyOf is the plain or quoted key that begins l at the indentation, or nothing.
func keyOf(l string, indent int) string {
	if insignificant(l) || indentOf(l) != indent {
		return ""
	}
	key, _, ok := strings.Cut(strings.TrimSpace(l)+" ", ": ")
	key = strings.TrimSpace(key)
	if n := len(key); ok && n > 2 && (key[0] == '"' || key[0] == '\'') && key[n-1] == key[0] {
		key = key[1 : n-1]
	}
	if !ok {
		return ""
	}
	return key
}

// afterKey is what follows the key on its line, without a comment.
func afterKey(l string) string {
	_, rest, _ := strings.Cut(strings.TrimSpace(l)+" ", ": ")
	rest = strings.TrimSpace(rest)
	if before, _, ok := strings.Cut(" "+rest, " #"); ok {
		rest = strings.TrimSpace(before)
	}
	return rest
}

// sectionEnd is the line behind what belongs to the key at line begin, which has the indentation.
func sectionEnd(lines []string, begin, indent int) int {
	for i := begin + 1; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) != "" && indentOf(lines[i]) <= indent {
			return i
		}
	}
	return len(lines)
}

// literal is the text of a literal block (YAML 1.2.2 §8.1.2), whose header is style. bad is the line that is indented
// less than the first, or -1.
func literal(lines []string, outer int, style string) (text string, bad int) {
	var b strings.Builder
	indent := -1
	for i, l := range lines {
		switch {
		case strings.TrimSpace(l) == "" && (indent < 0 || len(strings.TrimRight(l, "\r\n")) < indent):
			b.WriteString(blank(l))
			continue
		case indent < 0:
			indent = indentOf(l)
		}
		if indentOf(l) < indent || indent <= outer {
			return "", i
		}
		b.WriteString(l[indent:])
	}
	text = b.String()
	switch style {
	case "|-":
		text = strings.TrimRight(text, "\r\n")
	case "|":
		if trimmed := strings.TrimRight(text, "\r\n"); trimmed == "" {
			text = ""
		} else if trimmed != text {
			text = trimmed + "\n"
		}
	}
	return text, -1
}
