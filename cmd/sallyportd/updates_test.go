package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
	"sallyport/host"
	"sallyport/host/slots"
	"sallyport/image/uki"
	"sallyport/image/uki/ukitest"
	"sallyport/image/update"
)

// An updated is a machine that has both halves of updates on a folder that stands for its EFI system partition.
type updated struct {
	*updates
	parent    *updater
	root      string
	key       ed25519.PrivateKey
	restarted atomic.Int32
	free      int64 // of the state's file system
	swap      func(*os.File)
}

// parent stands for the way to the parent: what it does to the file in between is a hostile worker's.
type parentOf struct{ m *updated }

func (p parentOf) UpdateStatus(context.Context) (host.UpdateStatus, error) {
	return p.m.parent.Status()
}

func (p parentOf) InstallUpdate(_ context.Context, f *os.File) (string, error) {
	if p.m.swap != nil {
		p.m.swap(f)
	}
	return p.m.parent.Install(io.NewSectionReader(f, 0, 1<<62))
}

func (p parentOf) RollbackUpdate(context.Context) (string, error) { return p.m.parent.Rollback() }

func (p parentOf) Restart(context.Context) error {
	p.m.parent.Restart()
	return nil
}

// newUpdated is one that runs 1.0.0 of the flavour kvm.
func newUpdated(t *testing.T, loader slots.Loader, files ...string) *updated {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &updated{root: t.TempDir(), key: private, free: 1 << 30}
	folder := filepath.Join(m.root, "EFI/Linux")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.parent = &updater{
		store: &slots.Store{Mount: func() (string, func() error, error) { return m.root, func() error { return nil }, nil }}, loader: loader,
		version: "1.0.0", flavour: "kvm", keys: func() ([]ed25519.PublicKey, error) { return []ed25519.PublicKey{public}, nil },
		check: func(string, update.Header) error { return nil }, restart: func() { m.restarted.Add(1) }, log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	m.updates = &updates{parent: parentOf{m}, keys: []ed25519.PublicKey{public}, folder: filepath.Join(t.TempDir(), "update"), grace: time.Minute,
		free: func(string) (int64, error) { return m.free, nil }}
	return m
}

// good is a machine whose version is blessed.
func good(t *testing.T) *updated {
	return newUpdated(t, slots.Loader{Entry: "sallyport_1.0.0.efi"}, "sallyport_1.0.0.efi")
}

func (m *updated) files(t *testing.T) string {
	entries, err := os.ReadDir(filepath.Join(m.root, "EFI/Linux"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// file is an update file of an image of some MiB.
func (m *updated) file(t *testing.T, h update.Header, mib int) []byte {
	t.Helper()
	h.Name = update.Name
	var b bytes.Buffer
	if _, err := update.Write(&b, h, bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), mib<<16)), m.key); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bring uploads a file as the command does.
func (m *updated) bring(t *testing.T, b []byte) (id string, err error) {
	t.Helper()
	sum := sha256.Sum256(b)
	id = hex.EncodeToString(sum[:])
	for off := 0; off < len(b); {
		piece := b[off:min(off+api.MaxPiece, len(b))]
		got, err := m.Upload(t.Context(), id, int64(off), int64(len(b)), bytes.NewReader(piece))
		if err != nil {
			return id, err
		}
		if got.Received != int64(off+len(piece)) {
			t.Fatalf("%d bytes are there, not %d", got.Received, off+len(piece))
		}
		off += len(piece)
	}
	return id, nil
}

func code(err error) frame.Code {
	var r *frame.StreamError
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestUpdateInstalled(t *testing.T) {
	m := good(t)
	id, err := m.bring(t, m.file(t, update.Header{Version: "1.1.0", Floor: "1.0.0", Flavour: "all"}, 3))
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Status(t.Context())
	if err != nil || s.Version != "1.0.0" || s.Next != "1.0.0" || s.Upload == nil || s.Upload.ID != id || s.Upload.Received <= 3<<20 {
		t.Errorf("%+v, %v", s, err)
	}
	version, err := m.Install(t.Context(), id)
	if err != nil || version != "1.1.0" {
		t.Fatalf("%q, %v", version, err)
	}
	if got := m.files(t); got != "sallyport_1.0.0.efi sallyport_1.1.0+2.efi" {
		t.Error(got)
	}
	s, err = m.Status(t.Context())
	if err != nil || s.Next != "1.1.0" || s.Upload != nil || s.Floor != "" || len(s.Slots) != 2 || s.Slots[0].State != "trial" || s.Slots[1].State != "good" {
		t.Errorf("%+v, %v", s, err)
	}
	if version, err := m.Rollback(t.Context()); err != nil || version != "1.0.0" {
		t.Errorf("%q, %v", version, err)
	}
	if _, err := m.Rollback(t.Context()); code(err) != "E_UPDATE_REFUSED" {
		t.Errorf("with nothing to go back to: %v", err)
	}
	if _, err := m.Install(t.Context(), id); code(err) != "E_UPDATE_FILE" {
		t.Errorf("installed twice: %v", err)
	}
}

// TestUpdateRefused: what is wrong with a file is said before more of it is brought than need be, and leaves nothing.
func TestUpdateRefused(t *testing.T) {
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	newer := update.Header{Version: "1.1.0", Flavour: "kvm"}
	for name, c := range map[string]struct {
		make   func(m *updated) []byte
		code   frame.Code
		pieces int // after which it is refused; 0: by Install
	}{
		"unsigned":   {func(m *updated) []byte { m.key = other; return m.file(t, newer, 3) }, "E_UPDATE_REFUSED", 1},
		"older":      {func(m *updated) []byte { return m.file(t, update.Header{Version: "0.9.0", Flavour: "kvm"}, 3) }, "E_UPDATE_REFUSED", 1},
		"the same":   {func(m *updated) []byte { return m.file(t, update.Header{Version: "1.0.0", Flavour: "kvm"}, 3) }, "E_UPDATE_REFUSED", 1},
		"flavour":    {func(m *updated) []byte { return m.file(t, update.Header{Version: "1.1.0", Flavour: "aws"}, 3) }, "E_UPDATE_REFUSED", 1},
		"no update":  {func(*updated) []byte { return bytes.Repeat([]byte("PK"), 1<<20) }, "E_UPDATE_FILE", 1},
		"header":     {func(m *updated) []byte { b := m.file(t, newer, 3); b[60] ^= 1; return b }, "E_UPDATE_REFUSED", 1},
		"too large":  {func(m *updated) []byte { return append(m.file(t, newer, 3), make([]byte, update.MaxSize)...) }, "E_UPDATE_FILE", 1},
		"state full": {func(m *updated) []byte { m.free = 1 << 20; return m.file(t, newer, 3) }, "E_UPDATE_SPACE", 1},
		"ESP full": {func(m *updated) []byte {
			m.parent.store.Free = func(string) (int64, error) { return 1 << 20, nil }
			return m.file(t, newer, 3)
		}, "E_UPDATE_SPACE", 0},
		"altered":   {func(m *updated) []byte { b := m.file(t, newer, 3); b[2<<20] ^= 1; return b }, "E_UPDATE_FILE", 0},
		"truncated": {func(m *updated) []byte { b := m.file(t, newer, 3); return b[:2<<20] }, "E_UPDATE_FILE", 0},
		"longer":    {func(m *updated) []byte { return append(m.file(t, newer, 3), 0) }, "E_UPDATE_FILE", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := good(t)
			id, err := m.bring(t, c.make(m))
			if c.pieces == 0 && err == nil {
				_, err = m.Install(t.Context(), id)
			} else if c.pieces == 0 {
				t.Errorf("refused while it was brought: %v", err)
			}
			if code(err) != c.code {
				t.Errorf("%v, want %s", err, c.code)
			}
			if got := m.files(t); got != "sallyport_1.0.0.efi" {
				t.Error(got)
			}
			if left, _ := os.ReadDir(m.folder); len(left) > 0 {
				t.Errorf("%v is left of it", left)
			}
		})
	}
}

// TestParentVerifies: a worker that changes the file after it was verified gains nothing.
func TestParentVerifies(t *testing.T) {
	for name, change := range map[string]func(m *updated, b []byte){
		"image":   func(m *updated, b []byte) { b[2<<20] ^= 1 },
		"header":  func(m *updated, b []byte) { b[50] ^= 1 },
		"another": func(m *updated, b []byte) { copy(b, m.file(t, update.Header{Version: "0.9.0", Flavour: "kvm"}, 1)) },
	} {
		m := good(t)
		b := m.file(t, update.Header{Version: "1.1.0", Flavour: "kvm"}, 3)
		id, err := m.bring(t, b)
		if err != nil {
			t.Fatal(err)
		}
		m.swap = func(f *os.File) {
			change(m, b)
			if err := os.WriteFile(f.Name(), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.Install(t.Context(), id); err == nil {
			t.Errorf("%s: installed", name)
		}
		if got := m.files(t); got != "sallyport_1.0.0.efi" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestUploadResumed: a file is brought on from where it was cut, and another one begins anew.
func TestUploadResumed(t *testing.T) {
	m := good(t)
	b := m.file(t, update.Header{Version: "1.1.0", Flavour: "kvm"}, 3)
	sum := sha256.Sum256(b)
	id := hex.EncodeToString(sum[:])
	up := func(from, to int) int64 {
		t.Helper()
		got, err := m.Upload(t.Context(), id, int64(from), int64(len(b)), bytes.NewReader(b[from:to]))
		if err != nil {
			t.Fatal(err)
		}
		return got.Received
	}
	up(0, 1<<20)
	for _, wrong := range [][2]int{{0, 1 << 20}, {2 << 20, 3 << 20}, {1 << 20, 1 << 20}} {
		if got := up(wrong[0], wrong[1]); got != 1<<20 {
			t.Errorf("after %d: %d", wrong[0], got)
		}
	}
	up(1<<20, 2<<20)
	up(2<<20, 3<<20)
	up(3<<20, len(b))
	if _, err := m.Upload(t.Context(), id, int64(len(b)), int64(len(b)), strings.NewReader("x")); code(err) != "E_UPDATE_FILE" {
		t.Errorf("beyond its size: %v", err)
	}
	if version, err := m.Install(t.Context(), strings.ToUpper(id)); err != nil || version != "1.1.0" {
		t.Errorf("%q, %v", version, err)
	}

	first, err := m.bring(t, m.file(t, update.Header{Version: "1.2.0", Flavour: "kvm"}, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.bring(t, m.file(t, update.Header{Version: "1.3.0", Flavour: "kvm"}, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Install(t.Context(), first); code(err) != "E_UPDATE_FILE" {
		t.Errorf("the one before: %v", err)
	}
}

// onTrialMachine is one whose version the loader has counted down.
func onTrialMachine(t *testing.T) *updated {
	return newUpdated(t, slots.Loader{Entry: "sallyport_1.0.0+2.efi", CountPath: `\EFI\Linux\sallyport_1.0.0+1-1.efi`}, "sallyport_0.9.0.efi", "sallyport_1.0.0+1-1.efi")
}

func TestProve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := onTrialMachine(t)
		healthy := make(chan struct{})
		go m.parent.prove(t.Context(), healthy, time.Minute)
		id, err := m.bring(t, m.file(t, update.Header{Version: "1.1.0", Flavour: "kvm"}, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Install(t.Context(), id); code(err) != "E_UPDATE_REFUSED" {
			t.Errorf("installed over one that is on trial: %v", err)
		}
		time.Sleep(50 * time.Second)
		close(healthy)
		time.Sleep(time.Hour)
		if got := m.files(t); got != "sallyport_0.9.0.efi sallyport_1.0.0.efi" || m.restarted.Load() != 0 {
			t.Errorf("%s, restarted %d times", got, m.restarted.Load())
		}
		if s, err := m.Status(t.Context()); err != nil || s.Trial {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

func TestNotProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := onTrialMachine(t)
		m.parent.prove(t.Context(), make(chan struct{}), time.Minute)
		if got := m.files(t); got != "sallyport_0.9.0.efi sallyport_1.0.0+1-1.efi" || m.restarted.Load() != 1 {
			t.Errorf("%s, restarted %d times", got, m.restarted.Load())
		}
		m = good(t)
		m.parent.prove(t.Context(), nil, time.Minute) // there is nothing to prove
		if m.restarted.Load() != 0 {
			t.Error("what is good is restarted")
		}
	})
}

// TestUpdateImage: an image that is another than its header says, or that the firmware would stop at, is not installed.
func TestUpdateImage(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	image := func(version string, sign bool) []byte {
		b, err := uki.Build(ukitest.Program("stub"), []uki.Section{{Name: ".osrel", Data: fmt.Appendf(nil, "ID=sallyport\nVERSION_ID=%s\nIMAGE_VERSION=%[1]s\nVARIANT_ID=kvm\n", version)}})
		if err == nil && sign {
			b, err = uki.Sign(b, key, cert)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// SecureBoot is 1, and db is a list of cert, by the UEFI specification (section 32.4.1).
	secure, open := t.TempDir(), t.TempDir()
	list := append([]byte{7, 0, 0, 0, 0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}, make([]byte, 12+16)...)
	binary.LittleEndian.PutUint32(list[20:], uint32(28+16+len(der)))
	binary.LittleEndian.PutUint32(list[28:], uint32(16+len(der)))
	for name, b := range map[string][]byte{"SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": {6, 0, 0, 0, 1}, "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f": append(list, der...)} {
		if err := os.WriteFile(filepath.Join(secure, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		image     []byte
		variables string
		want      string // of what is said; empty: it is installed
	}{
		"plain":                     {image("1.1.0", false), open, ""},
		"of another version":        {image("1.0.5", false), open, "VERSION_ID=1.0.5, not 1.1.0"},
		"none":                      {[]byte("no image"), open, "not an EFI program"},
		"signed, Secure Boot":       {image("1.1.0", true), secure, ""},
		"unsigned, Secure Boot":     {image("1.1.0", false), secure, "none of the keys in the firmware's db"},
		"altered after its signing": {bytes.Replace(image("1.1.0", true), []byte("stub"), []byte("stab"), 1), secure, "none of the keys in the firmware's db"},
	} {
		m := good(t)
		m.parent.check = func(name string, h update.Header) error { return checkImage(name, h, c.variables) }
		var b bytes.Buffer
		if _, err := update.Write(&b, update.Header{Name: update.Name, Version: "1.1.0", Flavour: "kvm"}, bytes.NewReader(c.image), m.key); err != nil {
			t.Fatal(err)
		}
		id, err := m.bring(t, b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want := "sallyport_1.0.0.efi"
		if c.want == "" {
			want += " sallyport_1.1.0+2.efi"
		}
		_, err = m.Install(t.Context(), id)
		if got := m.files(t); got != want || (err == nil) != (c.want == "") || err != nil && (code(err) != "E_UPDATE_REFUSED" || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, and there are %s", name, err, got)
		}
	}
}
