package gobuild

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestOwnersSettings: what the owner of a computer has told Go does not get into a program.
func TestOwnersSettings(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"src/go.mod":   "module example\n\ngo 1.26\n",
		"src/main.go":  "package main\n\nvar version, word string\n\nfunc main() { println(version, word) }\n",
		"src/other.go": "//go:build other\n\npackage main\n\nfunc init() { word = \"other\" }\n",
		"env":          "GOFLAGS=-tags=other\nGOAMD64=v3\nGOFIPS140=latest\nGOEXPERIMENT=nogreenteagc\n",
		"go.work":      "go 1.26\n\nuse ./src\n\ngodebug http2client=0\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compile := func(name string) []byte {
		t.Helper()
		c := Config{Source: filepath.Join(dir, "src"), Package: ".", OS: "linux", Arch: "amd64", Variables: []string{"main.version=1.2.3"}, Out: filepath.Join(dir, name)}
		if err := Compile(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(c.Out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := compile("plain")
	if !bytes.Contains(plain, []byte("1.2.3")) {
		t.Error("the linker's variable is not in it")
	}
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOENV", filepath.Join(dir, "env"))
	t.Setenv("GOWORK", filepath.Join(dir, "go.work"))
	if !bytes.Equal(compile("told"), plain) {
		t.Error("a file of go env -w, or a go.work, has changed the program")
	}
	t.Setenv("GOFLAGS", "-tags=other")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOFIPS140", "latest")
	if !bytes.Equal(compile("asked"), plain) {
		t.Error("the environment has changed the program")
	}
}
