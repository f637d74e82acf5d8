package yamlfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Position is a place in a file; both numbers begin at 1.
type Position struct{ Line, Column int }

// A Fault is one thing that is wrong with a file.
type Fault struct {
	File    string
	Line    int
	Column  int
	Message string // what is wrong, and with which value
	Hint    string // what to do; may be empty
}

// Error is one line: file:line:column: message; hint.
func (f Fault) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

// Faults is everything that is wrong with a file, in the order of the file. It is an error of one line a fault.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single Fault.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}

// maxFaults is how many faults one report holds. A person mends a hundred before asking for the rest, and a file of
// a mebibyte cannot make a report of a gibibyte.
const maxFaults = 100

// Fault notes that something at p is wrong; hint says what to do and may be empty. A value that could not be decoded
// has its fault already: what its caller says about it after Read is not noted, and nothing at all about a file that
// could not be parsed.
func (f *File) Fault(p Position, hint, format string, args ...any) {
	if len(f.faults) < maxFaults && !f.unread[p] && !f.unparsed {
		f.faults = append(f.faults, Fault{f.name, p.Line, p.Column, fmt.Sprintf(format, args...), hint})
	}
}

// Err returns all faults noted so far as Faults, in the order of the file, or nil.
func (f *File) Err() error {
	if len(f.faults) == 0 {
		return nil
	}
	sorted := slices.Clone(f.faults)
	slices.SortStableFunc(sorted, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(sorted)
}
