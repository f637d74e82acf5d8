package sbom

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sallyport/appliance/portal/web"
)

// product is a program for another platform and two packages.
func product(t *testing.T) Product {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chaoslink")
	build := exec.Command("go", "build", "-trimpath", "-o", file, "sallyport/tests/chaoslink")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := ReadBinary("chaoslink", "1.2.3", file)
	if err != nil {
		t.Fatal(err)
	}
	b.Scripts = []web.Package{{Name: "@xterm/xterm", Version: "6.0.0", Integrity: "sha512-" + base64.StdEncoding.EncodeToString(make([]byte, 64)), License: "MIT OR Apache-2.0"}}
	return Product{
		Name: "probe", Version: "1.2.3", Binaries: []Binary{b},
		Packages: []Package{
			{"systemd-boot-efi", "252.39-1~deb12u2", "amd64", strings.Repeat("8f", 32)},
			{"g++-12", "4:12.2.0+x-1", "amd64", strings.Repeat("e7", 32)},
		},
	}
}

func document(t *testing.T, p Product) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDocument(t *testing.T) {
	p := product(t)
	got := document(t, p)
	sys := p.Binaries[0].Info.Deps[0]
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sys.Sum, "h1:"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"ref": "probe@1.2.3"`,
		`"purl": "pkg:deb/debian/systemd-boot-efi@252.39-1~deb12u2?arch=amd64"`,
		`"purl": "pkg:deb/debian/g%2B%2B-12@4:12.2.0%2Bx-1?arch=amd64"`,
		`"purl": "pkg:golang/golang.org/x/sys@` + sys.Version + `"`,
		`"content": "` + hex.EncodeToString(sum) + `"`,
		`"purl": "pkg:npm/%40xterm/xterm@6.0.0"`,
		`"expression": "MIT OR Apache-2.0"`,
		`"alg": "SHA-512"`,
		`"content": "` + strings.Repeat("0", 128) + `"`,
		`"purl": "pkg:golang/std@` + strings.TrimPrefix(runtime.Version(), "go") + `"`,
		`"content": "` + p.Binaries[0].SHA256 + `"`,
		`"serialNumber": "urn:uuid:`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %s:\n%s", want, got)
		}
	}
	if again := document(t, product(t)); again != got {
		t.Error("a second document of the same product differs")
	}
	p.Binaries[0].Scripts[0].Integrity = "sha1-AAAA"
	if err := Write(io.Discard, p); err == nil || !strings.Contains(err.Error(), "@xterm/xterm") {
		t.Errorf("a hash that is none: %v", err)
	}
	p.Binaries[0].Scripts, p.Packages = nil, p.Packages[:1]
	if other := document(t, p); serialOf(t, other) == serialOf(t, got) {
		t.Error("another product has the same serial number")
	}
}

func serialOf(t *testing.T, document string) string {
	t.Helper()
	var d struct{ SerialNumber string }
	if err := json.Unmarshal([]byte(document), &d); err != nil {
		t.Fatal(err)
	}
	return d.SerialNumber
}

// TestSchema holds the document against the schema of its specification, which the library's module has.
func TestSchema(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	schemas := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	for url, file := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":  "bom-1.6.schema.json",
		"http://cyclonedx.org/schema/spdx.schema.json":     "spdx.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		f, err := os.Open(filepath.Join(schemas, file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		parsed, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(url, parsed); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(document(t, product(t))))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(instance); err != nil {
		t.Error(err)
	}
}

func TestReadBinaryOfNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBinary("text", "1", file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a shell script: %v", err)
	}
}
