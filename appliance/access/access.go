// Package access is versions of the access files: which files a version may have, what they say, and how two of them
// differ in what counts.
//
//	rules, err := access.Read(files, options)          // policy.Faults: one line a fault, with line and column
//	changes := access.Diff(old.Things, rules.Things)   // targets, groups, rules … that were added, changed, removed
//	access.Summary(changes)                            // "2 changed: target db-1, rule operators"
//
// # Files
//
// A version has access.yaml, any number of *.cedar files, and accounts.yaml if accounts are kept with the rules. They are
// kept by name, without a folder, and packed into one piece of JSON whose SHA-256 names what is in it.
//
// # Accounts
//
// accounts.yaml says which local accounts there are, which groups they are in and whether they may sign in; never a secret.
// A version does to an account what it says differently from the version before it: an account that somebody has disabled
// by hand stays so until its lines change. An account that it does not name any more is removed. Accounts that no version
// has named are left alone.
package access

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"

	"sallyport/appliance/policy"
)

// AccountsFile is the name of the file of accounts.
const AccountsFile = "accounts.yaml"

// Bounds of a version.
const (
	MaxFiles = 200
	MaxFile  = 1 << 20 // bytes
	MaxTotal = 4 << 20 // bytes
)

// Files are a version's, by name.
type Files map[string][]byte

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(yaml|cedar)$`)

// Check says whether these may be the files of a version, before anybody reads them.
func (f Files) Check() error {
	if len(f) == 0 {
		return fmt.Errorf("there are no files")
	}
	if len(f) > MaxFiles {
		return fmt.Errorf("there are %d files; at most %d are taken", len(f), MaxFiles)
	}
	total := 0
	for name, data := range f {
		if !fileName.MatchString(name) {
			return fmt.Errorf("%.80q is not the name of an access file, which ends with .yaml or .cedar", name)
		}
		if len(data) > MaxFile {
			return fmt.Errorf("%s has %d bytes; at most %d are taken", name, len(data), MaxFile)
		}
		total += len(data)
	}
	if total > MaxTotal {
		return fmt.Errorf("the files have %d bytes together; at most %d are taken", total, MaxTotal)
	}
	return nil
}

// Pack returns the files in one piece, the same for the same files.
func (f Files) Pack() []byte {
	packed, _ := json.Marshal(map[string][]byte(f)) // bytes have a form, and keys are sorted
	return packed
}

// Unpack is the opposite of Pack.
func Unpack(packed []byte) (Files, error) {
	var f Files
	if len(packed) > 2*MaxTotal {
		return nil, fmt.Errorf("a version of %d bytes", len(packed))
	}
	if err := json.Unmarshal(packed, &f); err != nil {
		return nil, fmt.Errorf("a version's files cannot be read: %w", err)
	}
	return f, f.Check()
}

// Hash is the SHA-256 of a packed version.
func Hash(packed []byte) []byte {
	sum := sha256.Sum256(packed)
	return sum[:]
}

// HashText is a hash as people see it.
func HashText(hash []byte) string { return "sha256:" + hex.EncodeToString(hash) }

// Rules are what a version says.
type Rules struct {
	Policy   *policy.Policy
	Things   []policy.Thing // accounts too, of the kind KindAccount
	Accounts []Account
}

// Read reads a version strictly, and has its policy pass the tests that stand in it. The error is policy.Faults where the
// files are to blame.
func Read(f Files, o policy.Options) (*Rules, error) {
	if err := f.Check(); err != nil {
		return nil, policy.Faults{{File: "access", Line: 1, Column: 1, Message: err.Error()}}
	}
	var list []policy.File
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != AccountsFile {
			list = append(list, policy.File{Name: name, Data: f[name]})
		}
	}
	p, things, err := policy.ParseThings(list, o)
	if err != nil {
		return nil, err
	}
	if err := Test(p); err != nil {
		return nil, err
	}
	r := &Rules{Policy: p, Things: things}
	if r.Accounts, err = readAccounts(f[AccountsFile], things); err != nil {
		return nil, err
	}
	for _, a := range r.Accounts {
		r.Things = append(r.Things, a.thing())
	}
	return r, nil
}

// Test runs the tests of a policy. Those that fail are Faults.
func Test(p *policy.Policy) error {
	failures, _ := p.Test()
	var faults policy.Faults
	for _, f := range failures {
		faults = append(faults, policy.Fault{File: f.File, Line: f.Line, Column: 1, Message: fmt.Sprintf("test %q: got %s, want %s", f.Name, f.Got, f.Want)})
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// Initial are the files of an appliance that has none: nobody reaches anything, and who has an account in the group sallyport-admins
// may administer.
func Initial() Files {
	return Files{
		"access.yaml":  []byte("groups: {sallyport-admins: []}   # accounts are in it, see sallyportd accounts add\ntargets: []\nrules: []\n"),
		"admins.cedar": []byte("@id(\"administrators\")\npermit (principal in Group::\"sallyport-admins\", action in [Action::\"admin\", Action::\"view_session\", Action::\"kill_session\"], resource);\n"),
	}
}

// FromFolder are files that were read from a folder, or one file whatever its name.
func FromFolder(read map[string][]byte) Files {
	f := Files{}
	for name, data := range read {
		if len(read) == 1 && path.Ext(name) == ".yaml" {
			name = "access.yaml"
		}
		f[name] = data
	}
	return f
}
