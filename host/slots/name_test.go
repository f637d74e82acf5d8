package slots

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]Slot{
		"sallyport_1.4.0.efi":          {Version: "1.4.0", Blessed: true},
		"sallyport_1.4.0+2.efi":        {Version: "1.4.0", Left: 2},
		"sallyport_1.4.0+1-1.efi":      {Version: "1.4.0", Left: 1, Done: 1},
		"sallyport_1.4.0+0-2.efi":      {Version: "1.4.0", Done: 2},
		"sallyport_0.1.0~dev.efi":      {Version: "0.1.0-dev", Blessed: true},
		"sallyport_0.1.0~rc.1-x+2.efi": {Version: "0.1.0-rc.1-x", Left: 2},
	} {
		want.file = name
		if got, ok := ParseName(name); !ok || got != want || got.Name() != name {
			t.Errorf("%s: %+v, %s", name, got, got.Name())
		}
	}
	for _, name := range []string{"", "other.efi", "sallyport_.efi", "sallyport_1.0.efi.bak", "sallyport_1.0+2-.efi", "sallyport_1.0+.efi", "sallyport_1/2.efi", "sallyport_1.0+200.efi"} {
		if got, ok := ParseName(name); ok {
			t.Errorf("%q is %+v", name, got)
		}
	}
	if got, ok := ParseName("SALLYPORT_1.4.0.EFI"); !ok || got.Version != "1.4.0" {
		t.Errorf("in capitals: %+v", got)
	}
}

func variable(text string) []byte {
	b := []byte{6, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func TestLoader(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadLoader(dir); !errors.Is(err, ErrNoLoader) {
		t.Errorf("none: %v", err)
	}
	set := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name+"-"+vendor), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("LoaderEntrySelected", variable("sallyport_1.4.0.efi"))
	set("LoaderDevicePartUUID", variable("6A1F9C1E-0000-4000-8000-000000000001"))
	l, err := ReadLoader(dir)
	if err != nil || l.Entry != "sallyport_1.4.0.efi" || l.CountPath != "" || l.Partition != "6a1f9c1e-0000-4000-8000-000000000001" {
		t.Errorf("%+v, %v", l, err)
	}
	if s, err := l.Running(); err != nil || s != (Slot{Version: "1.4.0", Blessed: true, file: "sallyport_1.4.0.efi"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := (Loader{Entry: "windows.efi"}).Running(); err == nil {
		t.Errorf("windows is %+v", s)
	}
	for _, bad := range [][]byte{{}, {1, 0, 0}, make([]byte, maxVariable+2), append(variable("x"), 0)} {
		set("LoaderEntrySelected", bad)
		if l, err := ReadLoader(dir); err == nil {
			t.Errorf("%d bytes are %+v", len(bad), l)
		}
	}
}

// FuzzNames: what is read of a name is written as a name that is read alike.
func FuzzNames(f *testing.F) {
	f.Add("sallyport_1.4.0+1-1.efi")
	f.Add("sallyport_1.4.0~rc.1.efi")
	f.Fuzz(func(t *testing.T, name string) {
		s, ok := ParseName(name)
		if !ok {
			return
		}
		if filepath.Base(s.Name()) != s.Name() {
			t.Errorf("%q is a path: %q", name, s.Name())
		}
		again, ok := ParseName(s.Name())
		if s.file = again.file; !ok || again != s {
			t.Errorf("%q: %+v became %+v", name, s, again)
		}
	})
}

func FuzzVariable(f *testing.F) {
	f.Add(variable("sallyport_1.4.0.efi"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if text, err := parseVariable(b); err == nil {
			Loader{Entry: text, CountPath: text}.Running()
		}
	})
}
