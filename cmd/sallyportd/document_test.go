package main

import (
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
