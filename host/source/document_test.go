package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUser(t *testing.T) {
	for name, c := range map[string]struct{ text, want, fault string }{
		"bare":        {sample, sample, ""},
		"marked":      {"#sallyport\n" + sample, "#sallyport\n" + sample, ""},
		"mapping":     {"#cloud-config\nhostname: x\nsallyport:\n  listen: a\n\n  vnets: b\nruncmd: [x]\n", "\n\n\n  listen: a\n\n  vnets: b\n\n", ""},
		"block":       {"#cloud-config\nsallyport: |\n  listen: a\n", "\n\n  listen: a\n", ""},
		"on the line": {"#cloud-config\nsallyport: {listen: a}\n", "\n           {listen: a}\n", ""},
		"returns":     {"#cloud-config\r\nsallyport:\r\n  a: b\r\n", "\r\n\r\n  a: b\r\n", ""},
		"no key":      {"#cloud-config\nhostname: x\n", "", "user-data:1:1: this #cloud-config has no key sallyport; "},
		"script":      {"#!/bin/sh\n", "", "user-data:1:1: it is something to run"},
		"parts":       {"Content-Type: multipart/mixed\n", "", "user-data:1:1: it is something to run or in parts"},
		"nothing":     {" \n", "", ErrNone.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := User([]byte(c.text))
			if string(got) != c.want || c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.HasPrefix(err.Error(), c.fault)) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

const withFiles = `listen: {vnet: hub}
files: # what would lie beside it
  access.yaml: |
    admins:
      - ann

    # the end

  "tls.key": |-
      secret
  empty: |

  access/ops.cedar: |
    // z
state: /data/state
`

func TestUnpack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	if err := Unpack(Document{Config: []byte("x: y\nfiles:\n  old: |\n    x\n")}, dir); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(Document{Config: []byte(withFiles), Files: map[string][]byte{"beside.cedar": []byte("// x\n")}}, dir); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"sallyport.yaml":   "listen: {vnet: hub}\n" + strings.Repeat("\n", 13) + "state: /data/state\n",
		"access.yaml":      "admins:\n  - ann\n\n# the end\n",
		"tls.key":          "secret",
		"empty":            "",
		"access/ops.cedar": "// z\n",
		"beside.cedar":     "// x\n",
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("%v, %v", entries, err)
	}
	for name, text := range want {
		b, err := os.ReadFile(filepath.Join(dir, name))
		info, _ := os.Stat(filepath.Join(dir, name))
		if err != nil || string(b) != text || info.Mode() != 0o600 {
			t.Errorf("%s: %q, %v, %v", name, b, info, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestSplitFaults(t *testing.T) {
	for text, want := range map[string]string{
		"files: {a: b}\n":                                  "sallyport.yaml:1:1: files must be a mapping",
		"x: y\nfiles:\n  a.yaml: b\n":                      `sallyport.yaml:3:3: the text of file a.yaml must begin with |`,
		"files:\n  a.yaml: >\n    b\n":                     `sallyport.yaml:2:3: the text of file a.yaml must begin with |`,
		"files:\n  ../a: |\n    b\n":                       `sallyport.yaml:2:3: "../a" is no name for a file`,
		"files:\n  a/b/c: |\n    b\n":                      `sallyport.yaml:2:3: "a/b/c" is no name`,
		"files:\n  .hidden: |\n    b\n":                    `sallyport.yaml:2:3: ".hidden" is no name`,
		"files:\n  sallyport.yaml: |\n    b\n":             "sallyport.yaml:2:3: no file beside sallyport.yaml may have its name",
		"files:\n  a: |\n    b\n  a: |\n    c\n":           "sallyport.yaml:4:3: file a is there twice",
		"files:\n  - a\n":                                  "sallyport.yaml:2:3: this is not the name of a file",
		"files:\n  a: |\n      b\n    c\n":                 "sallyport.yaml:4:5: this line is indented less",
		"files:\n  beside: |\n    x\n":                     "sallyport.yaml:2:3: file beside is there twice",
		"files:\n  a: |\n    b\nlisten: x\nfiles:\n  b: c": "", // the second stays, for the configuration's reader to refuse
	} {
		_, err := Document{Config: []byte(text), Files: map[string][]byte{"beside": nil}}.Split()
		var f *Fault
		if want == "" && err != nil || want != "" && (!errors.As(err, &f) || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Lines keep their places, and what is taken out is taken out whole.
func FuzzDocument(f *testing.F) {
	f.Add([]byte(withFiles))
	f.Add([]byte("#cloud-config\nsallyport:\n  files:\n    a: |\n      b\n"))
	f.Add([]byte("files:\n a: |-\n\n\n  b\n  \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		inner, err := User(text)
		if err != nil {
			return
		}
		d, err := Document{Config: inner}.Split()
		if err != nil {
			return
		}
		if before, after := strings.Count(string(text), "\n"), strings.Count(string(d.Config), "\n"); before != after {
			t.Fatalf("%d lines became %d", before, after)
		}
		for name := range d.Files {
			if checkName(name) != nil {
				t.Fatalf("file %q", name)
			}
		}
	})
}
