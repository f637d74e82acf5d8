package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"sallyport/host/source"
)

// The example in the docs is sound.
func TestDocumentInDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/image-configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "as a block of text under `files`:\n\n")
	block, _, also := strings.Cut(rest, "\n\n")
	if !ok || !also {
		t.Fatal("the docs have no example")
	}
	block = strings.ReplaceAll(block, "cert: tls.crt, key: tls.key", "self_signed: true")
	if err := checkDocument(source.Document{Config: []byte(block + "\n")}); err != nil {
		t.Errorf("%v\n%s", err, block)
	}
}

// What a person has given is there at the next start, and a newer one takes its place as a whole.
func TestKeepDocument(t *testing.T) {
	folder := t.TempDir()
	if _, err := keptDocument(folder); !errors.Is(err, source.ErrNone) {
		t.Fatalf("an empty folder: %v", err)
	}
	for _, text := range []string{"a: b\n", soundDocument} {
		if err := keepDocument(folder, []byte(text)); err != nil {
			t.Fatal(err)
		}
		d, err := keptDocument(folder)
		if err != nil || string(d.Config) != text {
			t.Errorf("%+v, %v", d, err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
