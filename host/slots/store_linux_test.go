package slots

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// partition is a store on a folder that has these files.
func partition(t *testing.T, files ...string) (*Store, string) {
	root := t.TempDir()
	fillWith(t, root, files...)
	return &Store{Mount: func() (string, func() error, error) { return root, func() error { return nil }, nil }}, root
}

func fillWith(t *testing.T, root string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(root, folder, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, root string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	slices.Sort(list)
	return list
}

func want(t *testing.T, root string, files ...string) {
	t.Helper()
	slices.Sort(files)
	if got := names(t, root); !slices.Equal(got, files) {
		t.Errorf("there are %q, want %q", got, files)
	}
}

func running(version string) Slot { return Slot{Version: version, Blessed: true} }

func install(version, image string) Install {
	return Install{Version: version, Size: int64(len(image)), Image: strings.NewReader(image)}
}

// TestListMountsOnce: what has not changed is not read again.
func TestListMountsOnce(t *testing.T) {
	s, root := partition(t, "sallyport_1.0.0.efi")
	mounts := 0
	s.Mount = func() (string, func() error, error) { mounts++; return root, func() error { return nil }, nil }
	list := func(versions, want int) {
		t.Helper()
		for range 3 {
			if list, _, err := s.List(); err != nil || len(list) != versions {
				t.Errorf("%+v, %v", list, err)
			}
		}
		if mounts != want {
			t.Errorf("mounted %d times, want %d", mounts, want)
		}
	}
	list(1, 1)
	if err := s.Install(running("1.0.0"), install("1.1.0", "new")); err != nil {
		t.Fatal(err)
	}
	list(2, 3)
	if err := s.Install(running("1.0.0"), Install{Version: "1.2.0", Size: 9, Image: strings.NewReader("short")}); err == nil {
		t.Error("a short image is installed")
	}
	list(2, 5)
	if _, err := s.Rollback(running("1.0.0")); err != nil {
		t.Fatal(err)
	}
	list(2, 7)
}

// TestLife is that of a version, from installing it to the next one but one, as the loader renames its file.
func TestLife(t *testing.T) {
	s, root := partition(t, "sallyport_1.0.0.efi", "other.efi")
	if err := s.Install(running("1.0.0"), install("1.1.0", "new")); err != nil {
		t.Fatal(err)
	}
	want(t, root, "other.efi", "sallyport_1.0.0.efi", "sallyport_1.1.0+2.efi")

	counted := filepath.Join(root, folder, "sallyport_1.1.0+1-1.efi")
	if err := os.Rename(filepath.Join(root, folder, "sallyport_1.1.0+2.efi"), counted); err != nil {
		t.Fatal(err)
	}
	l := Loader{Entry: "sallyport_1.1.0+2.efi", CountPath: `\EFI\Linux\sallyport_1.1.0+1-1.efi`}
	now, err := l.Running()
	if err != nil || now.Version != "1.1.0" || now.Blessed || now.Left != 1 || now.Done != 1 {
		t.Errorf("running: %+v, %v", now, err)
	}
	if err := s.Install(now, install("1.2.0", "newer")); !errors.Is(err, ErrTrial) {
		t.Errorf("installed while on trial: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := s.Bless(l); err != nil {
			t.Fatal(err)
		}
		want(t, root, "other.efi", "sallyport_1.0.0.efi", "sallyport_1.1.0.efi")
	}
	if err := s.Install(running("1.1.0"), install("1.2.0", "newer")); err != nil {
		t.Fatal(err)
	}
	want(t, root, "other.efi", "sallyport_1.1.0.efi", "sallyport_1.2.0+2.efi")
	if b, err := os.ReadFile(filepath.Join(root, folder, "sallyport_1.2.0+2.efi")); string(b) != "newer" {
		t.Errorf("%q, %v", b, err)
	}

	// The loader has given 1.2.0 up; the same version is installed anew, and then a later one.
	if err := os.Rename(filepath.Join(root, folder, "sallyport_1.2.0+2.efi"), filepath.Join(root, folder, "sallyport_1.2.0+0-2.efi")); err != nil {
		t.Fatal(err)
	}
	list, _, err := s.List()
	if err != nil || len(list) != 2 || !list[0].Given() || list[0].Size != 5 || list[1].Version != "1.1.0" || !list[1].Blessed {
		t.Errorf("%+v, %v", list, err)
	}
	for _, version := range []string{"1.2.0", "1.2.1-rc.1"} {
		if err := s.Install(running("1.1.0"), install(version, "better")); err != nil {
			t.Fatal(err)
		}
	}
	want(t, root, "other.efi", "sallyport_1.1.0.efi", "sallyport_1.2.1~rc.1+2.efi")
}

// TestRoom: two versions have room, three have not, so that the one that does not run makes way.
func TestRoom(t *testing.T) {
	s, root := partition(t, "sallyport_1.0.0.efi", "sallyport_1.1.0.efi")
	s.Free = func(string) (int64, error) { return int64(4-len(names(t, root)))*spare + 10, nil }
	if err := s.Install(running("1.1.0"), Install{Version: "1.2.0", Size: spare + 20, Image: strings.NewReader(strings.Repeat("x", spare+20))}); err != nil {
		t.Fatal(err)
	}
	want(t, root, "sallyport_1.1.0.efi", "sallyport_1.2.0+2.efi")
}

// TestRefused: what goes wrong leaves what was there, and nothing more.
func TestRefused(t *testing.T) {
	bad := errors.New("not genuine")
	for name, c := range map[string]struct {
		in   Install
		free int64
		want error
	}{
		"not genuine":      {Install{Version: "1.1.0", Size: 3, Image: io.MultiReader(strings.NewReader("new"), iotest.ErrReader(bad))}, 1 << 30, bad},
		"short":            {Install{Version: "1.1.0", Size: 4, Image: strings.NewReader("new")}, 1 << 30, nil},
		"no room":          {install("1.1.0", "new"), spare, ErrSpace},
		"the same version": {install("1.0.0", "new"), 1 << 30, nil},
		"a path":           {install("../1.1.0", "new"), 1 << 30, nil},
		"no version":       {install("", "new"), 1 << 30, nil},
	} {
		s, root := partition(t, "sallyport_1.0.0.efi", temporary)
		s.Free = func(string) (int64, error) { return c.free, nil }
		err := s.Install(running("1.0.0"), c.in)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if got := names(t, root); slices.Contains(got, "sallyport_1.1.0+2.efi") || !slices.Contains(got, "sallyport_1.0.0.efi") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestCut: a power cut at any moment leaves the running version, and the next attempt succeeds.
func TestCut(t *testing.T) {
	for _, left := range [][]string{
		{temporary},                                      // while it was written
		{"sallyport_1.2.0+0-2.efi", temporary},           // before an earlier attempt was removed
		{"sallyport_1.2.0+2.efi", temporary},             // FAT: renamed, with the old name still there
		{"sallyport_0.9.0.efi", "sallyport_1.2.0+2.efi"}, // before the others were removed
	} {
		s, root := partition(t, append(left, "sallyport_1.1.0.efi")...)
		if err := s.Install(running("1.1.0"), install("1.2.0", "new")); err != nil {
			t.Fatal(err)
		}
		want(t, root, "sallyport_1.1.0.efi", "sallyport_1.2.0+2.efi")
	}
}

// TestFloor: a floor holds from the moment at which the version that brings it is blessed, and not before.
func TestFloor(t *testing.T) {
	s, root := partition(t, "sallyport_1.0.0.efi")
	holds := func(want string) {
		t.Helper()
		if _, floor, err := s.List(); err != nil || floor != want {
			t.Errorf("floor %q, want %q, %v", floor, want, err)
		}
	}
	prove := func(running, version, floor string) {
		t.Helper()
		in := install(version, "new")
		in.Floor = floor
		if err := s.Install(Slot{Version: running, Blessed: true}, in); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, folder, "sallyport_"+version+"+2.efi"), filepath.Join(root, folder, "sallyport_"+version+"+1-1.efi")); err != nil {
			t.Fatal(err)
		}
	}
	bless := func(version string) {
		t.Helper()
		if err := s.Bless(Loader{CountPath: `\EFI\Linux\sallyport_` + version + "+1-1.efi"}); err != nil {
			t.Fatal(err)
		}
	}
	prove("1.0.0", "1.5.0", "1.5.0") // which is given up
	holds("")
	prove("1.0.0", "1.1.0", "1.1.0")
	holds("")
	bless("1.1.0")
	holds("1.1.0")
	if _, err := s.Rollback(running("1.1.0")); !errors.Is(err, ErrNoOther) {
		t.Errorf("rolled back below the floor: %v", err)
	}
	prove("1.1.0", "1.2.0", "0.5.0") // lower than the one that holds
	bless("1.2.0")
	holds("1.1.0")
	prove("1.2.0", "1.3.0", "1.3.0")
	prove("1.2.0", "1.3.0", "") // and then without
	bless("1.3.0")
	holds("1.1.0")

	prove("1.3.0", "1.4.0", "1.4.0")
	if err := os.WriteFile(filepath.Join(root, nextFloor), []byte("1.4.0 ?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Bless(Loader{CountPath: `\EFI\Linux\sallyport_1.4.0+1-1.efi`}); err == nil {
		t.Error("the floor of a version is damaged, and it is blessed without")
	}
	if err := os.WriteFile(filepath.Join(root, floorFile), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.List(); err == nil {
		t.Error("a damaged floor is none")
	}
	if _, err := s.Rollback(running("1.4.0")); err == nil || errors.Is(err, ErrNoOther) {
		t.Errorf("rolled back with a damaged floor: %v", err)
	}
}

// TestCheck: what does not pass does not count, and leaves nothing.
func TestCheck(t *testing.T) {
	s, root := partition(t, "sallyport_1.0.0.efi")
	bad, seen := errors.New("bad"), ""
	in := install("1.1.0", "new")
	in.Check = func(name string) error {
		b, err := os.ReadFile(name)
		seen = string(b)
		return errors.Join(err, bad)
	}
	if err := s.Install(running("1.0.0"), in); !errors.Is(err, bad) || seen != "new" {
		t.Errorf("%v; it saw %q", err, seen)
	}
	want(t, root, "sallyport_1.0.0.efi")
}

func TestRollback(t *testing.T) {
	for name, c := range map[string]struct {
		files   []string
		version string
		want    error
		after   []string
	}{
		"to the one before":       {[]string{"sallyport_1.0.0.efi", "sallyport_1.1.0.efi"}, "1.0.0", nil, []string{"sallyport_1.0.0+2.efi", "sallyport_1.1.0+0-1.efi"}},
		"from one on trial":       {[]string{"sallyport_1.0.0.efi", "sallyport_1.1.0+1-1.efi"}, "1.0.0", nil, []string{"sallyport_1.0.0+2.efi", "sallyport_1.1.0+0-1.efi"}},
		"of one that waits":       {[]string{"sallyport_1.1.0.efi", "sallyport_1.2.0+2.efi"}, "1.1.0", nil, []string{"sallyport_1.1.0.efi", "sallyport_1.2.0+0-1.efi"}},
		"written otherwise":       {[]string{"SALLYPORT_1.0.0.EFI", "sallyport_1.1.0+01-1.efi"}, "1.0.0", nil, []string{"sallyport_1.0.0+2.efi", "sallyport_1.1.0+0-1.efi"}},
		"alone":                   {[]string{"sallyport_1.1.0.efi"}, "", ErrNoOther, []string{"sallyport_1.1.0.efi"}},
		"beside one given up":     {[]string{"sallyport_1.1.0.efi", "sallyport_1.2.0+0-2.efi"}, "", ErrNoOther, []string{"sallyport_1.1.0.efi", "sallyport_1.2.0+0-2.efi"}},
		"to one that is given up": {[]string{"sallyport_1.0.0+0-1.efi", "sallyport_1.1.0.efi"}, "", ErrNoOther, []string{"sallyport_1.0.0+0-1.efi", "sallyport_1.1.0.efi"}},
	} {
		s, root := partition(t, c.files...)
		version, err := s.Rollback(running("1.1.0"))
		if !errors.Is(err, c.want) || err == nil && version != c.version {
			t.Errorf("%s: %q, %v", name, version, err)
		}
		want(t, root, c.after...)
	}
}

func TestBlessForeign(t *testing.T) {
	s, root := partition(t, "sallyport_1.0.0.efi", "sallyport_1.1.0+1-1.efi")
	for _, path := range []string{`\EFI\Linux\other+1.efi`, `\EFI\sallyport_1.1.0+1-1.efi`, `..\EFI\Linux\sallyport_1.1.0+1-1.efi`, `\EFI\Linux\sallyport_9.0.0+1-1.efi`} {
		if err := s.Bless(Loader{CountPath: path}); err == nil {
			t.Errorf("%s is blessed", path)
		}
	}
	if err := s.Bless(Loader{Entry: "sallyport_1.0.0.efi"}); err != nil {
		t.Errorf("nothing counted: %v", err)
	}
	want(t, root, "sallyport_1.0.0.efi", "sallyport_1.1.0+1-1.efi")
}

func TestUnmount(t *testing.T) {
	mounted := 0
	s, root := partition(t, "sallyport_1.0.0.efi")
	s.Mount = func() (string, func() error, error) {
		mounted++
		return root, func() error { mounted--; return nil }, nil
	}
	s.List()
	s.Install(running("1.0.0"), Install{Version: "1.1.0", Size: 1, Image: bytes.NewReader(nil)})
	s.Rollback(running("1.0.0"))
	if mounted != 0 {
		t.Errorf("mounted %d times more than unmounted", mounted)
	}
}
