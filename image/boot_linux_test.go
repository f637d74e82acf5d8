package image

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/image/disk"
)

// bootLimit is how long a machine may take: all is emulated, and the tests share the processors.
const bootLimit = 5 * time.Minute

// real skips the test without a program or a file that it cannot do without, and fails where root runs it: whose machine
// has all that is tested with.
func real(t *testing.T, needs ...string) {
	t.Helper()
	for _, need := range needs {
		_, err := exec.LookPath(need)
		if filepath.IsAbs(need) {
			_, err = os.Stat(need)
		}
		if err != nil && os.Getuid() == 0 {
			t.Fatal(err)
		}
		if err != nil {
			t.Skip(err)
		}
	}
}

// a console keeps what the machine says and tells when it has said something.
type console struct {
	mu      sync.Mutex
	text    bytes.Buffer
	pattern *regexp.Regexp
	said    chan struct{}
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(b)
	if c.pattern != nil && c.pattern.Match(c.text.Bytes()) {
		c.pattern = nil
		close(c.said)
	}
	return len(b), nil
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// boot runs a machine until its console has said what the pattern matches, and returns all that was said.
func boot(t *testing.T, pattern string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	c := &console{pattern: regexp.MustCompile(pattern), said: make(chan struct{})}
	// Emulated: a device node for KVM does not say that a guest gets anywhere with it.
	args = append([]string{"-accel", "tcg", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"}, args...)
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	qemu.Stdout, qemu.Stderr = c, c
	began := time.Now()
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- qemu.Wait() }()
	select {
	case <-c.said:
		cancel()
		<-ended
	case err := <-ended:
		select {
		case <-c.said:
		default:
			t.Fatalf("the machine ended, %v, before it said %q:\n%s", err, pattern, c)
		}
	}
	t.Logf("said %q after %.1f s", pattern, time.Since(began).Seconds())
	return c.String()
}

// initImage is an image of which the only program is testdata/init.
func initImage(t *testing.T, flavour string) string {
	t.Helper()
	in := packages(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	o, err := Options{Flavour: flavour, Version: "1.2.3", Out: filepath.Join(dir, "image"), Daemon: program}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	b := builder{Options: o, in: new(inputs)}
	*b.in = *in
	if b.in.daemon, b.m.Daemon, err = daemon(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := b.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return o.Out
}

const (
	started = `STARTED as 1\s`
	refused = `(?i)access denied|security violation`
)

// TestBootDirectly starts the kernel with the initramfs, which loads every module of every flavour.
func TestBootDirectly(t *testing.T) {
	real(t, "qemu-system-x86_64")
	dir := initImage(t, "all")
	said := boot(t, started, "-m", "256", "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"),
		"-append", CommandLine+" panic=-1")
	for _, want := range []string{
		"os-release ID=sallyport", "os-release VERSION_ID=1.2.3", "/sbin/poweroff leads to /init", "/sbin/reboot leads to /init",
		"modules: ",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if faults := regexp.MustCompile(`(?m)^module .*$`).FindAllString(said, -1); faults != nil {
		t.Errorf("modules that cannot be loaded: %q", faults)
	}
}

const (
	firmware     = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	variables    = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	secure       = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	secureVars   = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd" // which trusts the key of Debian's snakeoil
	snakeoilKey  = "/usr/share/ovmf/PkKek-1-snakeoil.key"
	snakeoilCert = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
)

// uefi are the arguments for a machine with firmware and a disk.
func uefi(t *testing.T, code, vars, disk string) []string {
	t.Helper()
	b, err := os.ReadFile(vars)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "vars.fd")
	if err := os.WriteFile(own, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"-machine", "q35,smm=on", "-m", "512", "-global", "driver=cfi.pflash01,property=secure,value=on",
		"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + own,
		"-drive", "if=none,id=disk,snapshot=on,file=" + disk, "-device", "virtio-blk-pci,drive=disk,bootindex=1",
	}
}

// TestBootDisk has firmware start the boot loader, that the unified kernel image, that the kernel. The disk is the qcow2.
func TestBootDisk(t *testing.T) {
	real(t, "qemu-system-x86_64", "qemu-img", firmware, variables)
	dir := initImage(t, "kvm")
	said := boot(t, started, uefi(t, firmware, variables, filepath.Join(dir, "sallyport-1.2.3-kvm.qcow2"))...)
	if !strings.Contains(said, "modules: ") || regexp.MustCompile(`(?m)^module `).MatchString(said) {
		t.Errorf("it said:\n%s", said)
	}
}

// TestSecureBoot has firmware that trusts one key refuse the image, and start it when that key has signed it.
func TestSecureBoot(t *testing.T) {
	real(t, "qemu-system-x86_64", "qemu-img", "openssl", "sbverify", secure, secureVars, snakeoilKey, snakeoilCert)
	dir := initImage(t, "kvm")
	plain := filepath.Join(t.TempDir(), "key")
	open := exec.Command("openssl", "pkey", "-in", snakeoilKey, "-passin", "pass:snakeoil", "-out", plain)
	if said, err := open.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	key, err := ReadKey(plain, snakeoilCert)
	if err != nil {
		t.Fatal(err)
	}
	signed := filepath.Join(t.TempDir(), "signed")
	m, err := Sign(t.Context(), dir, key, Options{Out: signed})
	if err != nil || m.Signed == nil {
		t.Fatalf("%+v, %v", m, err)
	}
	efi := filepath.Join(signed, "sallyport-1.2.3-kvm.efi")
	if said, err := exec.Command("sbverify", "--cert", snakeoilCert, efi).CombinedOutput(); err != nil {
		t.Errorf("sbverify: %v: %s", err, said)
	}
	t.Run("signed", func(t *testing.T) {
		said := boot(t, started, uefi(t, secure, secureVars, filepath.Join(signed, "sallyport-1.2.3-kvm.raw")+",format=raw")...)
		if !strings.Contains(said, "Secure boot enabled") {
			t.Errorf("the kernel does not say that Secure Boot is on:\n%s", said)
		}
	})
	t.Run("unsigned", func(t *testing.T) {
		said := boot(t, refused, uefi(t, secure, secureVars, filepath.Join(dir, "sallyport-1.2.3-kvm.raw")+",format=raw")...)
		if strings.Contains(said, "STARTED") {
			t.Errorf("it started:\n%s", said)
		}
	})
	// The boot loader is signed and what it should start is not.
	t.Run("unsigned image", func(t *testing.T) {
		said := boot(t, refused, uefi(t, secure, secureVars, mix(t, signed, dir)+",format=raw")...)
		if strings.Contains(said, "STARTED") {
			t.Errorf("it started:\n%s", said)
		}
	})
}

// mix writes a disk with the boot loader of a signed image and the unified kernel image of an unsigned one.
func mix(t *testing.T, signed, unsigned string) string {
	t.Helper()
	one, err := disk.Read(filepath.Join(signed, "sallyport-1.2.3-kvm.raw"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := disk.Read(filepath.Join(unsigned, "sallyport-1.2.3-kvm.raw"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range one.Files {
		if strings.HasPrefix(f.Path, "EFI/Linux/") {
			one.Files[i] = two.Files[i]
		}
	}
	out := filepath.Join(t.TempDir(), "mixed")
	if err := disk.Write(out, disk.Layout{Files: one.Files, Time: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
	return out
}
