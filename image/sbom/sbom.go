// Package sbom writes down what a product is made of, as a CycloneDX 1.6 document in JSON: Go programs with the modules
// that they were built from, the npm packages that are in the pages they serve, and Debian packages.
//
//	daemon, err := sbom.ReadBinary("sallyportd", "0.4.0", "bin/sallyportd")
//	err = sbom.Write(w, sbom.Product{Name: "sallyport-image", Version: "0.4.0", Binaries: []sbom.Binary{daemon},
//		Packages: []sbom.Package{{Name: "linux-image-6.1.0-56-cloud-amd64", Version: "6.1.192-2", Architecture: "amd64", SHA256: sum}}})
//
// # The same product gives the same bytes
//
// There is no time in the document, and its serial number comes from its content.
package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"sallyport/appliance/portal/web"
)

// A Product is what a document is about. Name and Version must be there.
type Product struct {
	Name, Version string
	Binaries      []Binary
	Packages      []Package
}

// A Binary is a Go program in a product.
type Binary struct {
	Name, Version string
	SHA256        string           // of the file, in hex
	Info          *debug.BuildInfo // what the linker wrote into it
	Scripts       []web.Package    // of which something is in the pages that it serves
}

// A Package is a Debian package from which something is in a product.
type Package struct {
	Name, Version, Architecture string
	SHA256                      string // of the .deb, in hex
}

// ReadBinary reads what the linker wrote into a Go program, of whatever platform. It is called name at version in the
// document; the file knows only its modules' versions.
func ReadBinary(name, version, file string) (Binary, error) {
	f, err := os.Open(file)
	if err != nil {
		return Binary{}, err
	}
	defer f.Close()
	info, err := buildinfo.Read(f)
	if err != nil {
		return Binary{}, fmt.Errorf("read the build of %s: %w", file, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return Binary{}, fmt.Errorf("read %s: %w", file, err)
	}
	return Binary{Name: name, Version: version, SHA256: hex.EncodeToString(sum.Sum(nil)), Info: info}, nil
}

// Write writes the document of p. Each component is there once, in the order of its reference.
func Write(w io.Writer, p Product) error {
	components := map[string]cdx.Component{}
	uses := map[string][]string{}
	product := cdx.Component{BOMRef: p.Name + "@" + p.Version, Type: cdx.ComponentTypeApplication, Name: p.Name, Version: p.Version}
	uses[product.BOMRef] = nil
	for _, b := range p.Binaries {
		binary := b.component()
		components[binary.BOMRef] = binary
		uses[product.BOMRef] = append(uses[product.BOMRef], binary.BOMRef)
		uses[binary.BOMRef] = nil
		for _, m := range append([]*debug.Module{standardLibrary(b.Info)}, b.Info.Deps...) {
			module, err := moduleComponent(m)
			if err != nil {
				return fmt.Errorf("%s: %w", b.Name, err)
			}
			components[module.BOMRef] = module
			uses[binary.BOMRef] = append(uses[binary.BOMRef], module.BOMRef)
		}
		for _, s := range b.Scripts {
			script, err := scriptComponent(s)
			if err != nil {
				return fmt.Errorf("%s: %w", b.Name, err)
			}
			components[script.BOMRef] = script
			uses[binary.BOMRef] = append(uses[binary.BOMRef], script.BOMRef)
		}
	}
	for _, d := range p.Packages {
		debian := d.component()
		components[debian.BOMRef] = debian
		uses[product.BOMRef] = append(uses[product.BOMRef], debian.BOMRef)
	}

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &product}
	bom.Components, bom.Dependencies = sorted(components), dependencies(uses)
	var content bytes.Buffer
	if err := encode(&content, bom); err != nil {
		return err
	}
	bom.SerialNumber = serial(sha256.Sum256(content.Bytes()))
	return encode(w, bom)
}

// encode keeps to 1.6, which today's scanners read.
func encode(w io.Writer, bom *cdx.BOM) error {
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// serial is a UUID of version 8, whose bits are ours to choose (RFC 9562 §5.8).
func serial(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func sorted(components map[string]cdx.Component) *[]cdx.Component {
	list := make([]cdx.Component, 0, len(components))
	for _, c := range components {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	return &list
}

func dependencies(uses map[string][]string) *[]cdx.Dependency {
	list := make([]cdx.Dependency, 0, len(uses))
	for ref, on := range uses {
		slices.Sort(on)
		on = slices.Compact(on)
		list = append(list, cdx.Dependency{Ref: ref, Dependencies: &on})
	}
	slices.SortFunc(list, func(a, b cdx.Dependency) int { return cmp.Compare(a.Ref, b.Ref) })
	return &list
}

// component names a program by its platform too: a product may have it for more than one.
func (b Binary) component() cdx.Component {
	settings := map[string]string{}
	for _, s := range b.Info.Settings {
		settings[s.Key] = s.Value
	}
	properties := []cdx.Property{{Name: "go:version", Value: b.Info.GoVersion}}
	for _, key := range []string{"CGO_ENABLED", "GOARCH", "GOOS", "-tags", "-trimpath"} {
		if settings[key] != "" {
			properties = append(properties, cdx.Property{Name: "go:" + key, Value: settings[key]})
		}
	}
	return cdx.Component{
		BOMRef: fmt.Sprintf("%s@%s?goos=%s&goarch=%s", b.Name, b.Version, settings["GOOS"], settings["GOARCH"]),
		Type:   cdx.ComponentTypeApplication, Name: b.Name, Version: b.Version,
		Hashes: hashes(b.SHA256), Properties: &properties,
	}
}

// standardLibrary is a module that the linker does not list. Vulnerability databases call it std, or stdlib.
func standardLibrary(info *debug.BuildInfo) *debug.Module {
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	return &debug.Module{Path: "std", Version: version}
}

// moduleComponent has the module's sum as its hash, as cyclonedx-gomod does it: h1 is the SHA-256 of a list of its files'
// hashes (golang.org/x/mod/sumdb/dirhash), and go.sum has the same in base64.
func moduleComponent(m *debug.Module) (cdx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	purl := "pkg:golang/" + escape(m.Path) + "@" + escape(m.Version)
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl}
	if m.Sum != "" {
		encoded, h1 := strings.CutPrefix(m.Sum, "h1:")
		sum, err := base64.StdEncoding.DecodeString(encoded)
		if !h1 || err != nil || len(sum) != sha256.Size {
			return c, fmt.Errorf("module %s has a sum that is none: %q", m.Path, m.Sum)
		}
		c.Hashes = hashes(hex.EncodeToString(sum))
	}
	return c, nil
}

func scriptComponent(s web.Package) (cdx.Component, error) {
	purl := "pkg:npm/" + strings.ReplaceAll(escape(s.Name), "@", "%40") + "@" + escape(s.Version)
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: s.Name, Version: s.Version, PackageURL: purl,
		Licenses: &cdx.Licenses{{Expression: s.License}}}
	encoded, isSHA512 := strings.CutPrefix(s.Integrity, "sha512-")
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if !isSHA512 || err != nil || len(sum) != sha512.Size {
		return c, fmt.Errorf("package %s has a hash that is none: %q", s.Name, s.Integrity)
	}
	c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA512, Value: hex.EncodeToString(sum)}}
	return c, nil
}

func (d Package) component() cdx.Component {
	purl := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", escape(d.Name), escape(d.Version), escape(d.Architecture))
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: d.Name, Version: d.Version, PackageURL: purl, Hashes: hashes(d.SHA256)}
}

func hashes(sum string) *[]cdx.Hash {
	if sum == "" {
		return nil
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}
}

// escape is percent-encoding of what a package URL is made of; slashes part a module's path as they part the URL's.
func escape(s string) string {
	parts := strings.Split(s, "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(part), "+", "%2B")
	}
	return strings.Join(parts, "/")
}
