package auth

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBrokenFilesStopTheStart(t *testing.T) {
	makeState := func(t *testing.T) string {
		dir := t.TempDir()
		mustEnrol(t, mustOpen(t, dir, newClock()), "ann", 1)
		return dir
	}
	rewrite := func(t *testing.T, path string, change func(string) string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(data))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	tests := []struct {
		what, file string
		change     func(string) string
		want       string
	}{
		{"empty", "devices.json", func(string) string { return "" }, "the file ends in the middle"},
		{"cut", "devices.json", func(s string) string { return s[:len(s)/2] }, "the file ends in the middle"},
		{"zeros", "devices.json", func(s string) string { return strings.Repeat("\x00", len(s)) }, "invalid character"},
		{"doubled", "devices.json", func(s string) string { return s + s }, "something follows the end of the data"},
		{"an unknown key", "devices.json", replace(`"user"`, `"usr"`), `unknown field "usr"`},
		{"of a later version", "devices.json", replace(`"version": 1`, `"version": 2`), "its version is 2, this program reads 1"},
		{"another user", "devices.json", replace(`"ann"`, `"Ann\n"`), "a user name is 1 to 64"},
		{"another id", "devices.json", replace(`"dev-`, `"dev-x`), "its key's is dev-"},
		{"another key", "devices.json", replace(`"key": "`, `"key": "AA`), "its key is not an Ed25519 public key"},
		{"a hash that is none", "devices.json", replace("\"codes\": [\n        \"", "\"codes\": [\n        \"zz"), "the hash of a code is not 64 hexadecimal digits"},
		{"empty", "codes.json", func(string) string { return "" }, "the file ends in the middle"},
		{"a hash that is none", "codes.json", replace(`"hash": "`, `"hash": "zz`), "code 1: the hash of a code is not 64 hexadecimal digits"},
		{"of a later version", "codes.json", replace(`"version": 1`, `"version": 9`), "its version is 9, this program reads 1"},
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.what, func(t *testing.T) {
			dir := makeState(t)
			path := filepath.Join(dir, tt.file)
			rewrite(t, path, tt.change)
			before, _ := os.ReadFile(path)
			_, err := Open(dir, newClock().time)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "put back a backup") {
				t.Errorf("got %v, want %q, the file's name and what to do", err, tt.want)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the broken file was changed")
			}
		})
	}
	for _, file := range []string{"devices.json", "codes.json"} {
		t.Run(file+" lost", func(t *testing.T) {
			dir := makeState(t)
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, newClock().time); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "is missing") {
				t.Error(err)
			}
		})
	}
}

func TestAFirstStartThatWasCutGoesOn(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir, newClock())
	if err := os.Remove(filepath.Join(dir, "devices.json")); err != nil {
		t.Fatal(err)
	}
	mustEnrol(t, mustOpen(t, dir, newClock()), "ann", 1)
	mustOpen(t, dir, newClock())
}

func TestTheStateFolderIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	mustOpen(t, dir, newClock())
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
	dir := f.TempDir()
	r := mustOpen(f, dir, newClock())
	mustEnrol(f, r, "ann", 1)
	data, err := os.ReadFile(r.devicesFile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"devices":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := parseDevices(data)
		if err != nil {
			return
		}
		for id, rec := range devices {
			if id != rec.ID || rec.ID != DeviceID(rec.Key) || CheckUser(rec.User) != nil {
				t.Fatalf("%+v", rec)
			}
		}
		r := &Registry{devices: devices}
		r.write = func(_ string, written []byte) error {
			if again, err := parseDevices(written); err != nil || len(again) != len(devices) {
				t.Fatalf("what was read cannot be written and read again: %v\n%s", err, written)
			}
			return nil
		}
		if err := r.writeDevices(record{}); err != nil {
			if _, unwritable := err.(*json.MarshalerError); !unwritable { // a year beyond 9999
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseCodes(f *testing.F) {
	r := mustOpen(f, f.TempDir(), newClock())
	mustCode(f, r, "ann")
	data, err := os.ReadFile(r.codesFile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"codes":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		codes, err := parseCodes(data)
		if err != nil {
			return
		}
		for _, c := range codes {
			if CheckUser(c.user) != nil {
				t.Fatalf("%+v", c)
			}
		}
	})
}
