// Package npm installs what a test needs of npm's packages. They come from the registry once, into tests/.cache;
// package-lock.json says which, to the byte.
//
//	//go:embed package.json package-lock.json server.mjs
//	var files embed.FS
//
//	dir := npm.Install(t, "server", files)
//	cmd := exec.Command("node", filepath.Join(dir, "server.mjs"))
//
// Where neither is to be had the test is skipped, but for root, as whom everything is tested: then it fails.
package npm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Install returns a folder with the files, of which package.json and package-lock.json are two, and with the packages that
// they name. Files that change get another folder.
func Install(t testing.TB, name string, files fs.FS) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			without(t, "%s needs %s: make packages installs it", name, program)
		}
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	content := map[string][]byte{}
	for _, e := range entries {
		data, err := fs.ReadFile(files, e.Name())
		if err != nil {
			t.Fatal(err)
		}
		content[e.Name()] = data
		fmt.Fprintf(sum, "%s %d\n%s", e.Name(), len(data), data)
	}
	dir := filepath.Join(cache(t), name+"-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	// Into a folder beside, which takes its name when it is whole: of two tests that install at once the second finds it.
	next, err := os.MkdirTemp(cache(t), name+"-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(next)
	for file, data := range content {
		if err := os.WriteFile(filepath.Join(next, file), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev")
	npm.Dir = next
	if out, err := npm.CombinedOutput(); err != nil {
		without(t, "%s cannot be installed: %v\n%s", name, err, out)
	}
	if err := os.Rename(next, dir); err != nil {
		if _, exists := os.Stat(dir); exists != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// without says that the packages are not to be had.
func without(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// cache returns tests/.cache of the module that the test is in.
func cache(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("the test is in no module")
		}
		dir = up
	}
	dir = filepath.Join(dir, "tests", ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
