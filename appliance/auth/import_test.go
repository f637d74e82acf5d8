package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The files of an older program, with a device of ann's and two codes, of which the device has used one.
var (
	oldDevices = fmt.Sprintf(`{"version": 1, "devices": [{"id": %q, "user": "ann", "name": "laptop", "platform": "linux/amd64",
		"key": %q, "enrolled": "2026-03-02T12:00:00.123456789Z", "last_seen": "2026-03-02T12:00:01Z", "last_source": "192.0.2.7",
		"client_version": "1.0", "codes": ["%064d"]}]}`, DeviceID(key(1)), base64.StdEncoding.EncodeToString(key(1)), 1)
	oldCodes = fmt.Sprintf(`{"version": 1, "codes": [{"hash": "%064d", "user": "ann", "expires": "2026-03-02T12:10:00Z"},
		{"hash": "%064d", "user": "bob", "expires": "2026-03-02T12:10:00Z"}]}`, 1, 2)
)

// oldState is a state folder with those files; one that is empty is not there.
func oldState(t testing.TB, devices, codes string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"devices.json": devices, "codes.json": codes} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheFilesOfAnOlderProgramAreTakenOver(t *testing.T) {
	store, dir := new(Memory), oldState(t, oldDevices, oldCodes)
	for _, cut := range []string{"", "devices.json", "codes.json"} { // as if the process had died before it was put aside
		if cut != "" {
			if err := os.Rename(filepath.Join(dir, cut+".imported"), filepath.Join(dir, cut)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Open(t.Context(), dir, store, newClock().time)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		d, err := r.Device(key(1))
		if err != nil || d.User != "ann" || d.Name != "laptop" || d.LastSource != "192.0.2.7" || d.Version != "1.0" || d.LastSeen.IsZero() {
			t.Errorf("%+v, %v", d, err)
		}
		if len(store.codes) != 2 || store.codes[0].By != d.ID || !store.codes[0].Used.Equal(d.Enrolled) || !store.codes[1].Used.IsZero() {
			t.Errorf("%+v", store.codes)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		want := []string{filepath.Join(dir, "codes.json.imported"), filepath.Join(dir, "devices.json.imported")}
		if err != nil || !slices.Equal(files, want) {
			t.Errorf("%q are there, %v", files, err)
		}
	}
}

func TestWhatCannotBeTakenOverStaysWhereItIs(t *testing.T) {
	store, dir := new(failingImport), oldState(t, oldDevices, oldCodes)
	if _, err := Open(t.Context(), dir, store, newClock().time); !errors.Is(err, ErrControlDown) {
		t.Error(err)
	}
	for _, name := range []string{"devices.json", "codes.json"} {
		if there, err := exists(filepath.Join(dir, name)); !there {
			t.Errorf("%s is gone, %v", name, err)
		}
	}
}

type failingImport struct{ Memory }

func (*failingImport) Import(context.Context, []Device, []Code) error { return ErrControlDown }

func TestBrokenFilesStopTheStart(t *testing.T) {
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	tests := []struct {
		what, file string
		change     func(string) string
		want       string
	}{
		{"empty", "devices.json", func(string) string { return " " }, "the file ends in the middle"},
		{"cut", "devices.json", func(s string) string { return s[:len(s)/2] }, "the file ends in the middle"},
		{"zeros", "devices.json", func(s string) string { return strings.Repeat("\x00", len(s)) }, "invalid character"},
		{"doubled", "devices.json", func(s string) string { return s + s }, "something follows the end of the data"},
		{"an unknown key", "devices.json", replace(`"user"`, `"usr"`), `unknown field "usr"`},
		{"of a later version", "devices.json", replace(`"version": 1`, `"version": 2`), "its version is 2, this program reads 1"},
		{"another user", "devices.json", replace(`"ann"`, `"Ann\n"`), "a user name is 1 to 64"},
		{"another id", "devices.json", replace(`"dev-`, `"dev-x`), "its key's is dev-"},
		{"another key", "devices.json", replace(`"key": "`, `"key": "AA`), "its key is not an Ed25519 public key"},
		{"a hash that is none", "devices.json", replace(`"codes": ["`, `"codes": ["zz`), "the hash of a code is not 64 hexadecimal digits"},
		{"empty", "codes.json", func(string) string { return " " }, "the file ends in the middle"},
		{"a hash that is none", "codes.json", replace(`"hash": "`, `"hash": "zz`), "code 1: the hash of a code is not 64 hexadecimal digits"},
		{"of a later version", "codes.json", replace(`"version": 1`, `"version": 9`), "its version is 9, this program reads 1"},
		{"lost", "devices.json", func(string) string { return "" }, "is missing"},
		{"lost", "codes.json", func(string) string { return "" }, "is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.what, func(t *testing.T) {
			devices, codes := oldDevices, oldCodes
			if tt.file == "devices.json" {
				devices = tt.change(devices)
			} else {
				codes = tt.change(codes)
			}
			dir, store := oldState(t, devices, codes), new(Memory)
			path := filepath.Join(dir, tt.file)
			before, _ := os.ReadFile(path)
			_, err := Open(t.Context(), dir, store, newClock().time)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "put back a backup") {
				t.Errorf("got %v, want %q, the file's name and what to do", err, tt.want)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) || len(store.devices) > 0 {
				t.Error("the broken file was changed, or taken over by half")
			}
		})
	}
}

// TestTheBeginningOfAnOlderProgram is what is left of a first start that was cut: codes.json came first.
func TestTheBeginningOfAnOlderProgram(t *testing.T) {
	dir := oldState(t, "", `{"version": 1, "codes": []}`)
	r, err := Open(t.Context(), dir, new(Memory), newClock().time)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

func TestTheStateFolderIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	r, err := Open(t.Context(), dir, new(Memory), newClock().time)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestReplaceFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"one", "two"} {
		if err := replaceFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != content || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := replaceFile(filepath.Join(dir, "none", "f"), nil); err == nil {
		t.Error("wrote into a folder that does not exist")
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(filepath.Join(dir, "folder"), nil); err == nil {
		t.Error("replaced a folder by a file")
	}
	if entries, err := os.ReadDir(dir); len(entries) != 2 || err != nil {
		t.Errorf("%v, %v", entries, err)
	}
}

func FuzzParseDevices(f *testing.F) {
	f.Add([]byte(oldDevices))
	f.Add([]byte(`{"version":1,"devices":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, used, err := parseDevices(data)
		if err != nil {
			return
		}
		known := map[string]bool{}
		for _, d := range devices {
			if known[d.ID] || d.ID != DeviceID(d.Key) || CheckUser(d.User) != nil {
				t.Fatalf("%+v", d)
			}
			known[d.ID] = true
		}
		for _, d := range used {
			if !known[d.ID] {
				t.Fatalf("a code was used by %+v, which is not there", d)
			}
		}
	})
}

func FuzzParseCodes(f *testing.F) {
	f.Add([]byte(oldCodes))
	f.Add([]byte(`{"version":1,"codes":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		codes, err := parseCodes(data)
		if err != nil {
			return
		}
		for _, c := range codes {
			if CheckUser(c.User) != nil || len(c.Hash) != 32 {
				t.Fatalf("%+v", c)
			}
		}
	})
}
