package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/frame"
)

// A Home is the folder in which a person's sign-ins are kept: profiles.json, and NAME.key and NAME.grants for each appliance. The
// folder is 0700, the files are 0600 and replaced as a whole. A device key may be in the computer's keychain instead of NAME.key.
type Home struct {
	dir      string
	keychain keychain
}

// OpenHome returns the Home in dir; empty means the sallyport folder among the person's configuration.
func OpenHome(dir string) (Home, error) {
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return Home{}, frame.Refuse(frame.Auth, "there is no folder for the sign-in: "+err.Error(), "set SALLYPORT_HOME")
		}
		dir = filepath.Join(base, "sallyport")
	}
	return Home{dir, systemKeychain{}}, nil
}

// Dir is the folder's path.
func (h Home) Dir() string { return h.dir }

// A Profile is what is known of one appliance.
type Profile struct {
	Name     string   `json:"name"`
	Address  string   `json:"address"` // host:port
	User     string   `json:"user"`    // whom the appliance takes this device for
	Device   string   `json:"device"`  // the device's id
	Trust    Trust    `json:"trust"`
	Identity [][]byte `json:"identity"`            // the appliance's Ed25519 keys, pinned at login, and their successors
	KeyStore string   `json:"key_store,omitempty"` // where the device key is: KeyKeychain; empty: NAME.key
}

// Profiles are all of them, and which is used when none is named.
type Profiles struct {
	Default    string    `json:"default"`
	Appliances []Profile `json:"appliances"`
}

const profilesFile = "profiles.json"

// Profiles reads what is kept; nothing is kept before the first login.
func (h Home) Profiles() (*Profiles, error) {
	path := filepath.Join(h.dir, profilesFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Profiles{}, nil
	}
	broken := func(why string) error {
		return frame.Refuse(frame.Auth, fmt.Sprintf("%s cannot be used: %s", path, why), "move the file away and log in again")
	}
	if err != nil {
		return nil, broken(err.Error())
	}
	var p Profiles
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, broken(err.Error())
	}
	for _, a := range p.Appliances {
		if err := a.check(); err != nil {
			return nil, broken(err.Error())
		}
	}
	return &p, nil
}

func (p *Profile) check() error {
	switch {
	case checkProfileName(p.Name) != nil:
		return fmt.Errorf("%q is not an appliance's name", frame.Clip(p.Name, 64))
	case p.Address == "":
		return fmt.Errorf("appliance %s has no address", p.Name)
	case len(p.Identity) == 0:
		return fmt.Errorf("appliance %s has no identity key", p.Name)
	case p.KeyStore != "" && p.KeyStore != KeyKeychain:
		return fmt.Errorf("the key of appliance %s is in %q, which is not known here", p.Name, frame.Clip(p.KeyStore, 64))
	}
	for _, k := range p.Identity {
		if len(k) != 32 {
			return fmt.Errorf("an identity key of appliance %s has %d bytes, not 32", p.Name, len(k))
		}
	}
	return p.Trust.check()
}

// Profile returns the appliance of that name; empty means the default.
func (h Home) Profile(name string) (*Profile, error) {
	all, err := h.Profiles()
	if err != nil {
		return nil, err
	}
	if len(all.Appliances) == 0 {
		return nil, frame.Refuse(frame.Auth, "not signed in", "run: sallyport login https://BASTION")
	}
	want := name
	if want == "" {
		want = all.Default
	}
	i := all.index(want)
	if i < 0 {
		return nil, frame.Refuse(frame.Auth, fmt.Sprintf("not signed in to an appliance named %q", frame.Clip(want, 64)),
			"signed in to: "+strings.Join(all.names(), ", "))
	}
	return &all.Appliances[i], nil
}

func (p *Profiles) index(name string) int {
	return slices.IndexFunc(p.Appliances, func(a Profile) bool { return a.Name == name })
}

func (p *Profiles) names() []string {
	var names []string
	for _, a := range p.Appliances {
		names = append(names, a.Name)
	}
	return names
}

// put keeps p, in the place of one of the same name.
func (h Home) put(p Profile, makeDefault bool) error {
	all, err := h.Profiles()
	if err != nil {
		return err
	}
	if i := all.index(p.Name); i >= 0 {
		all.Appliances[i] = p
	} else {
		all.Appliances = append(all.Appliances, p)
	}
	if makeDefault {
		all.Default = p.Name
	}
	return h.writeProfiles(all)
}

// Forget removes the appliance of that name, its device key and its grants. A keychain that does not let go of the key is an error, but
// everything else is gone.
func (h Home) Forget(name string) error {
	all, err := h.Profiles()
	if err != nil {
		return err
	}
	store := KeyFile
	if i := all.index(name); i >= 0 {
		store = all.Appliances[i].KeyStore
	}
	all.Appliances = slices.DeleteFunc(all.Appliances, func(a Profile) bool { return a.Name == name })
	if all.Default == name {
		all.Default = ""
		if len(all.Appliances) > 0 {
			all.Default = all.Appliances[0].Name
		}
	}
	if err := h.writeProfiles(all); err != nil {
		return err
	}
	h.dropToken(name)
	if err := os.Remove(filepath.Join(h.dir, h.grantsFile(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return h.dropKey(name, store)
}

func (h Home) writeProfiles(p *Profiles) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return h.write(profilesFile, append(b, '\n'))
}

// write replaces a file of the folder as a whole.
func (h Home) write(name string, b []byte) error {
	f, err := h.stage(name, b)
	if err != nil {
		return err
	}
	return f.commit()
}

// make makes the folder.
func (h Home) make() error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return notKept(err)
	}
	return nil
}

// A staged file is on disk and waits for its place.
type staged struct{ temporary, final string }

// stage writes what may become a file of the folder: either commit or discard follows.
func (h Home) stage(name string, b []byte) (*staged, error) {
	if err := h.make(); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(h.dir, name+".new-*") // 0600
	if err != nil {
		return nil, notKept(err)
	}
	s := &staged{f.Name(), filepath.Join(h.dir, name)}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.discard()
		return nil, notKept(err)
	}
	return s, nil
}

func (s *staged) commit() error {
	if err := os.Rename(s.temporary, s.final); err != nil {
		s.discard()
		return notKept(err)
	}
	return nil
}

func (s *staged) discard() { os.Remove(s.temporary) }

func notKept(err error) error {
	return frame.Refuse(frame.Auth, "the sign-in cannot be kept: "+err.Error(), "make the folder writable, or set SALLYPORT_HOME to another")
}

// checkProfileName makes sure that a name can be a file's.
func checkProfileName(name string) error {
	ok := name != "" && len(name) <= 64 && strings.IndexFunc(name, func(r rune) bool { return r == ':' || !nameRune(r) }) < 0 &&
		!strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "-")
	if !ok {
		return frame.Refuse("E_USAGE", fmt.Sprintf("%q cannot be an appliance's name", frame.Clip(name, 64)),
			"use up to 64 letters, digits, dots, dashes and underscores")
	}
	return nil
}

// profileName is what an appliance is called when the person gives it no name.
func profileName(host, port string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r == ':' || !nameRune(r) {
			return '-'
		}
		return r
	}, host), ".-")
	if port != "443" {
		name += "-" + port
	}
	return strings.TrimLeft(name[:min(len(name), 64)], ".-")
}
