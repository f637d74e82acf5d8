// Package image builds the appliance's image: a Linux kernel that Debian has signed, the modules for the machine, and
// sallyportd, which is everything else. It wants no root, no container and no other program than go, and qemu-img for
// qcow2. The same source, version and toolchain give the same bytes.
//
//	m, err := image.Build(ctx, image.Options{Flavour: "kvm", Version: "1.2.3", Out: "image"})
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"sallyport/image/cpio"
	"sallyport/image/deb"
	"sallyport/image/kmod"
	"sallyport/image/uki"
	"sallyport/image/update"
)

// Options say what to build.
type Options struct {
	Flavour  string                          // one of Flavours; default "all"
	Version  string                          // default "0.1.0-dev"
	Out      string                          // the folder that the files go to; is made if need be
	Cache    deb.Cache                       // default: CacheDir
	Source   string                          // the folder of Sallyport's source; default the current one
	Updates  string                          // public keys whose updates the image takes, base64 with commas between
	Daemon   string                          // a static sallyportd for Linux on amd64; default: it is built by go
	Stub     string                          // an EFI boot stub instead of the pinned one
	Epoch    time.Time                       // of the files in the image; default 2026-01-01
	Step     func(what string)               // is told what is being done, at times by two goroutines
	Fetching func(p deb.Package, done int64) // is told how far a download is, in bytes
}

func (o Options) withDefaults() (Options, error) {
	o.Flavour = cmp.Or(o.Flavour, "all")
	o.Version = cmp.Or(o.Version, "0.1.0-dev")
	if err := update.CheckVersion(o.Version); err != nil { // also of one that never becomes an update: the boot loader orders it
		return o, fmt.Errorf("version %q: it must be like 1.2.3 or 1.2.3-rc.1", o.Version)
	}
	if _, err := update.ParseKeys(o.Updates); err != nil {
		return o, fmt.Errorf("update keys: %w", err)
	}
	if o.Epoch.IsZero() {
		o.Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Epoch.Year() < 1980 || o.Epoch.Year() > 2100 {
		return o, fmt.Errorf("the time %v: it must be between 1980, when FAT begins, and 2100", o.Epoch)
	}
	if o.Cache.Dir == "" {
		dir, err := CacheDir()
		if err != nil {
			return o, err
		}
		o.Cache.Dir = dir
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	o.Cache.Progress = o.Fetching
	return o, nil
}

// CacheDir is where packages are kept: $SALLYPORT_IMAGE_CACHE, or sallyport/image in the user's folder for caches.
func CacheDir() (string, error) {
	if dir := os.Getenv("SALLYPORT_IMAGE_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the packages: %w; set SALLYPORT_IMAGE_CACHE", err)
	}
	return filepath.Join(dir, "sallyport", "image"), nil
}

// inputs is what an image is made of.
type inputs struct {
	vmlinuz      []byte
	stub, loader []byte
	modules      kmod.Set
	files        map[string][]byte // modules' files by name
	daemon       []byte
}

// fetch gets the packages and takes from them what is needed.
func fetch(ctx context.Context, o Options) (*inputs, error) {
	in := &inputs{modules: kmod.Set{}, files: map[string][]byte{}}
	o.Step("reading " + loader.File())
	err := o.open(ctx, loader, func(h *tar.Header, r io.Reader) (err error) {
		switch path.Base(h.Name) {
		case "linuxx64.efi.stub":
			in.stub, err = whole(h, r)
		case "systemd-bootx64.efi":
			in.loader, err = whole(h, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.Stub != "" {
		if in.stub, err = os.ReadFile(o.Stub); err != nil {
			return nil, err
		}
	}
	o.Step("reading " + kernel.File())
	err = o.open(ctx, kernel, func(h *tar.Header, r io.Reader) (err error) {
		switch {
		case h.Name == "boot/vmlinuz-"+Release:
			in.vmlinuz, err = whole(h, r)
		case path.Ext(h.Name) == ".ko":
			var b []byte
			if b, err = whole(h, r); err != nil {
				return err
			}
			m, err := kmod.Read(bytes.NewReader(b))
			if err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
			in.modules.Add(m)
			in.files[m.Name] = b
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for name, b := range map[string][]byte{"kernel": in.vmlinuz, "boot stub": in.stub, "boot loader": in.loader} {
		if len(b) == 0 {
			return nil, fmt.Errorf("the packages have no %s", name)
		}
	}
	return in, nil
}

// open calls each for the files of p.
func (o Options) open(ctx context.Context, p deb.Package, each func(*tar.Header, io.Reader) error) error {
	name, err := o.Cache.Get(ctx, p)
	if err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	err = deb.Files(f, func(h *tar.Header, r io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return each(h, r)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p.File(), err)
	}
	return nil
}

const maxInput = 64 << 20 // of a file in a package; the kernel has 14 MiB

func whole(h *tar.Header, r io.Reader) ([]byte, error) {
	if h.Size > maxInput {
		return nil, fmt.Errorf("%s has %d bytes", h.Name, h.Size)
	}
	return io.ReadAll(r)
}

// osRelease is what tells the boot loader, and whoever looks, what this is. The loader sorts by IMAGE_VERSION.
func (o Options) osRelease() []byte {
	return fmt.Appendf(nil, "ID=sallyport\nNAME=Sallyport\nPRETTY_NAME=\"Sallyport %s\"\nVERSION_ID=%s\nIMAGE_VERSION=%s\nVARIANT_ID=%s\n",
		o.Version, o.Version, update.Ordered(o.Version), o.Flavour)
}

// initramfs writes the appliance's only file system and returns it packed, with the names of the modules in it.
func initramfs(o Options, in *inputs) ([]byte, []string, error) {
	wanted, err := modules(o.Flavour)
	if err != nil {
		return nil, nil, err
	}
	names, err := in.modules.Closure(wanted...)
	if err != nil {
		return nil, nil, err
	}
	index, err := in.modules.Index(names)
	if err != nil {
		return nil, nil, err
	}
	entries := []cpio.Entry{}
	for _, dir := range []string{"data", "dev", "etc", "etc/sallyport", "lib", "lib/modules", "proc", "run", "sbin", "sys"} {
		entries = append(entries, cpio.Entry{Name: dir, Mode: cpio.Directory | 0o755})
	}
	file := func(name string, mode uint32, data []byte) {
		entries = append(entries, cpio.Entry{Name: name, Mode: cpio.Regular | mode, Data: data})
	}
	// The kernel opens it for PID 1 before there is a devtmpfs.
	entries = append(entries, cpio.Entry{Name: "dev/console", Mode: cpio.Character | 0o600, Major: 5, Minor: 1})
	file("etc/os-release", 0o644, o.osRelease())
	file("init", 0o755, in.daemon)
	// Hyper-V and the kernel itself run these where a machine is to be shut down in order.
	for _, name := range []string{"sbin/poweroff", "sbin/reboot"} {
		entries = append(entries, cpio.Entry{Name: name, Mode: cpio.Link | 0o777, Data: []byte("/init")})
	}
	for _, name := range names {
		file("lib/modules/"+name+".ko", 0o644, in.files[name])
	}
	file("lib/modules/index", 0o644, index)

	var out bytes.Buffer
	// One goroutine: with more of them the bytes could depend on which is first. The window is what a small machine has
	// memory for while it unpacks.
	packer, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(8<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, nil, err
	}
	w := cpio.NewWriter(packer)
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			return nil, nil, err
		}
	}
	if err := errors.Join(w.Close(), packer.Close()); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), names, nil
}

// sections are what the unified kernel image has behind the stub's own.
func (o Options) sections(in *inputs, initrd []byte) []uki.Section {
	return []uki.Section{
		{Name: ".osrel", Data: o.osRelease()},
		{Name: ".cmdline", Data: []byte(CommandLine)},
		{Name: ".uname", Data: []byte(Release)},
		{Name: ".linux", Data: in.vmlinuz},
		{Name: ".initrd", Data: initrd},
	}
}

// Build makes the image's files in Out and returns what is in them. A file that exists is replaced.
func Build(ctx context.Context, o Options) (*Manifest, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if _, err := modules(o.Flavour); err != nil {
		return nil, err
	}
	b := &builder{Options: o}
	if err := b.gather(ctx); err != nil {
		return nil, err
	}
	return b.build(ctx)
}

// gather reads the packages, and meanwhile builds the daemon: each takes one processor.
func (b *builder) gather(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var program []byte
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if program, b.m.Daemon, err = daemon(ctx, b.Options); err != nil {
			cancel(err)
		}
	})
	var err error
	if b.in, err = fetch(ctx, b.Options); err != nil {
		cancel(err)
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	b.in.daemon = program
	return nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// file is a name of an output: sallyport-1.2.3-kvm.raw.
func (o Options) file(ending string) string {
	return strings.Join([]string{"sallyport", o.Version, o.Flavour}, "-") + ending
}
