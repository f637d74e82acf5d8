package image

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"sallyport/appliance/portal/web"
	"sallyport/image/deb"
	"sallyport/image/disk"
	"sallyport/image/sbom"
	"sallyport/image/uki"
	"sallyport/image/update"
)

// A Manifest says what went into an image and what came out. It is the file manifest.json beside the image.
type Manifest struct {
	Name        string  `json:"name"` // "sallyport"
	Version     string  `json:"version"`
	Flavour     string  `json:"flavour"`
	Epoch       int64   `json:"epoch"` // of the files in the image, in seconds of Unix time
	Inputs      []Input `json:"inputs"`
	Daemon      Daemon  `json:"daemon"`
	Kernel      string  `json:"kernel"` // its release
	CommandLine string  `json:"command_line"`
	Updates     string  `json:"update_keys,omitempty"` // public keys whose updates it takes
	Sections    []Part  `json:"sections"`              // of the unified kernel image
	Modules     []Part  `json:"modules"`
	Files       []Part  `json:"files"`
	Tools       []Tool  `json:"tools,omitempty"` // programs whose version decides about a file's bytes
	Signed      *Signed `json:"signed,omitempty"`
}

// Signed says with what an image was signed after it was built. Unsigned are the files as they were then.
type Signed struct {
	Subject  string `json:"subject"` // of the certificate
	SHA256   string `json:"sha256"`  // of the certificate in DER
	Unsigned []Part `json:"unsigned"`
}

// An Input is a package of Debian, or a file that took the place of something in one.
type Input struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Arch    string `json:"arch,omitempty"`
	File    string `json:"file"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
}

// A Daemon is the program in the image.
type Daemon struct {
	SHA256   string  `json:"sha256"`
	Size     int64   `json:"size"`
	Go       string  `json:"go"`    // the toolchain's version
	Built    bool    `json:"built"` // here, from the source; otherwise it was given
	Packages []Share `json:"packages,omitempty"`
}

// A Part is a section, a module or a file.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// A Tool is a program that wrote a file.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	File    string `json:"file"`
}

func part(name string, b []byte) Part { return Part{name, int64(len(b)), sum(b)} }

// stubInput names a boot stub that was given among the inputs.
const stubInput = "stub"

type builder struct {
	Options
	in *inputs
	m  Manifest
}

func (b *builder) build(ctx context.Context) (*Manifest, error) {
	b.m.Updates = b.Options.Updates
	b.m.Name, b.m.Version, b.m.Flavour, b.m.Epoch = "sallyport", b.Version, b.Flavour, b.Epoch.Unix()
	b.m.Kernel, b.m.CommandLine = Release, CommandLine
	for _, p := range []deb.Package{kernel, loader} {
		b.m.Inputs = append(b.m.Inputs, Input{p.Name, p.Version, p.Arch, p.File(), p.Size, p.SHA256})
	}
	if b.Stub != "" {
		b.m.Inputs = append(b.m.Inputs, Input{Name: stubInput, File: filepath.Base(b.Stub), Size: int64(len(b.in.stub)), SHA256: sum(b.in.stub)})
	}
	b.Step("packing the initramfs")
	initrd, names, err := initramfs(b.Options, b.in)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		b.m.Modules = append(b.m.Modules, part(name, b.in.files[name]))
	}
	sections := b.sections(b.in, initrd)
	for _, s := range sections {
		b.m.Sections = append(b.m.Sections, part(s.Name, s.Data))
	}
	unified, err := uki.Build(b.in.stub, sections)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"vmlinuz": b.in.vmlinuz, "initrd": initrd, b.file(".efi"): unified} {
		if err := os.WriteFile(filepath.Join(b.Out, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	disks, err := b.disks(ctx, unified)
	if err != nil {
		return nil, err
	}
	if err := b.materials(); err != nil {
		return nil, err
	}
	return &b.m, b.finish(append(disks, "vmlinuz", "initrd", b.file(".efi"), b.file(".cdx.json")))
}

// loaderPath is where firmware looks on a disk of which it knows nothing.
const loaderPath = "EFI/BOOT/BOOTX64.EFI"

// UKIPath is where a version's unified kernel image lies in the EFI system partition, where systemd-boot looks.
func UKIPath(version string) string { return "EFI/Linux/sallyport_" + update.Ordered(version) + ".efi" }

// loaderConf has systemd-boot start the newest version at once. The editor, which could change the command line where
// Secure Boot is off, stays closed.
const loaderConf = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n"

// disks writes the disk in the forms that the flavour's machines take, and returns the files' names.
func (b *builder) disks(ctx context.Context, unified []byte) ([]string, error) {
	b.Step("writing the disk")
	names := []string{b.file(".raw")}
	raw := filepath.Join(b.Out, names[0])
	err := disk.Write(raw, disk.Layout{Time: b.Epoch, Files: []disk.File{
		{Path: loaderPath, Data: b.in.loader},
		{Path: UKIPath(b.Version), Data: unified},
		{Path: "loader/loader.conf", Data: []byte(loaderConf)},
	}})
	if err != nil {
		return nil, err
	}
	for _, ending := range formats[b.Flavour] {
		name := filepath.Join(b.Out, b.file(ending))
		b.Step("writing " + b.file(ending))
		switch ending {
		case ".vhd":
			err = disk.VHD(name, raw)
		case ".tar.gz":
			err = disk.GCP(name, raw, b.Epoch)
		case ".qcow2":
			var version string
			version, err = disk.QCOW2(ctx, name, raw)
			if errors.Is(err, disk.ErrNoQEMU) {
				b.Step("leaving it out: qemu-img is not installed (Debian has it in qemu-utils)")
				continue
			}
			b.m.Tools = append(b.m.Tools, Tool{"qemu-img", version, b.file(ending)})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		names = append(names, b.file(ending))
	}
	return names, nil
}

// materials writes what the image is made of, for tools that look for what is known to be broken.
func (b *builder) materials() error {
	info, err := buildinfo.Read(bytes.NewReader(b.in.daemon))
	if err != nil {
		return fmt.Errorf("sallyportd: %w", err)
	}
	p := sbom.Product{Name: "sallyport-image", Version: b.Version, Binaries: []sbom.Binary{
		{Name: "sallyportd", Version: b.Version, SHA256: b.m.Daemon.SHA256, Info: info, Scripts: web.Packages()},
	}}
	for _, in := range []deb.Package{kernel, loader} {
		p.Packages = append(p.Packages, sbom.Package{Name: in.Name, Version: in.Version, Architecture: in.Arch, SHA256: in.SHA256})
	}
	var out bytes.Buffer
	if err := sbom.Write(&out, p); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.Out, b.file(".cdx.json")), out.Bytes(), 0o644)
}

// finish writes the manifest and the sums of the named files.
func (b *builder) finish(names []string) error {
	slices.Sort(names)
	for _, name := range names {
		p, err := filePart(b.Out, name)
		if err != nil {
			return err
		}
		b.m.Files = append(b.m.Files, p)
	}
	text, err := json.MarshalIndent(b.m, "", "\t")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if err := os.WriteFile(filepath.Join(b.Out, manifestFile), text, 0o644); err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, p := range append(slices.Clone(b.m.Files), part(manifestFile, text)) {
		fmt.Fprintf(&sums, "%s  %s\n", p.SHA256, p.Name)
	}
	return os.WriteFile(filepath.Join(b.Out, "SHA256SUMS"), sums.Bytes(), 0o644)
}

const manifestFile = "manifest.json"

// ReadManifest reads the manifest of the image in a folder.
func ReadManifest(dir string) (*Manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := new(Manifest)
	d := json.NewDecoder(io.LimitReader(f, 4<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return m, nil
}
