package update

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
)

var (
	public, private, _ = ed25519.GenerateKey(nil)
	other, _, _        = ed25519.GenerateKey(nil)
)

func file(t *testing.T, h Header, image string) []byte {
	t.Helper()
	var b bytes.Buffer
	h.Name = Name
	if _, err := Write(&b, h, strings.NewReader(image), private); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// take reads a file to its end.
func take(b []byte, keys ...ed25519.PublicKey) (Header, string, error) {
	u, err := Open(iotest.HalfReader(bytes.NewReader(b)), keys...)
	if err != nil {
		return Header{}, "", err
	}
	image, err := io.ReadAll(u)
	return u.Header, string(image), err
}

func TestGood(t *testing.T) {
	image := strings.Repeat("kernel", 1000)
	b := file(t, Header{Version: "1.4.0", Floor: "1.2.0", Flavour: "kvm"}, image)
	for name, keys := range map[string][]ed25519.PublicKey{"its key": {public}, "after another": {other, public}} {
		h, got, err := take(b, keys...)
		if err != nil || got != image || h.Version != "1.4.0" || h.Floor != "1.2.0" || h.Size != int64(len(image)) {
			t.Errorf("%s: %+v, %d bytes, %v", name, h, len(got), err)
		}
	}
	if int64(len(b)) > MaxFile {
		t.Error("longer than a file can be")
	}
}

// TestAltered: no byte of a file can be another, be missing, or be too many.
func TestAltered(t *testing.T) {
	b := file(t, Header{Version: "1.4.0", Flavour: "all"}, "an image of which each byte counts")
	for i := range b {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(b)
			bad[i] ^= flip
			if _, _, err := take(bad, public); !errors.Is(err, ErrFile) && !errors.Is(err, ErrUnsigned) {
				t.Fatalf("byte %d ^ %#x: %v", i, flip, err)
			}
		}
		if _, _, err := take(b[:i], public); !errors.Is(err, ErrFile) && !errors.Is(err, ErrUnsigned) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, _, err := take(append(bytes.Clone(b), 0), public); !errors.Is(err, ErrFile) {
		t.Errorf("a byte more: %v", err)
	}
	for name, keys := range map[string][]ed25519.PublicKey{"another key": {other}, "no key": nil, "a short key": {public[:31]}} {
		if _, _, err := take(b, keys...); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSignedButWrong: a signature does not make sense of what has none.
func TestSignedButWrong(t *testing.T) {
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, header := range map[string]string{
		"another product":  `{"name":"drawbridge","version":"1.4.0","flavour":"all","sha256":"` + sum + `","size":5}`,
		"no version":       `{"name":"sallyport","version":"new","flavour":"all","sha256":"` + sum + `","size":5}`,
		"a path":           `{"name":"sallyport","version":"1.4.0/../x","flavour":"all","sha256":"` + sum + `","size":5}`,
		"build metadata":   `{"name":"sallyport","version":"1.4.0+3","flavour":"all","sha256":"` + sum + `","size":5}`,
		"a floor above":    `{"name":"sallyport","version":"1.4.0","floor":"1.5.0","flavour":"all","sha256":"` + sum + `","size":5}`,
		"a flavour's path": `{"name":"sallyport","version":"1.4.0","flavour":"../x","sha256":"` + sum + `","size":5}`,
		"a short hash":     `{"name":"sallyport","version":"1.4.0","flavour":"all","sha256":"e3","size":5}`,
		"nothing":          `{"name":"sallyport","version":"1.4.0","flavour":"all","sha256":"` + sum + `","size":0}`,
		"less":             `{"name":"sallyport","version":"1.4.0","flavour":"all","sha256":"` + sum + `","size":-1}`,
		"too large":        fmt.Sprintf(`{"name":"sallyport","version":"1.4.0","flavour":"all","sha256":"%s","size":%d}`, sum, MaxSize+1),
		"a key more":       `{"name":"sallyport","version":"1.4.0","flavour":"all","sha256":"` + sum + `","size":5,"x":1}`,
		"a space":          `{"name":"sallyport", "version":"1.4.0","flavour":"all","sha256":"` + sum + `","size":5}`,
		"no JSON":          `sallyport`,
	} {
		text := []byte(header)
		b := append([]byte(magic), byte(len(text)>>8), byte(len(text)))
		b = append(append(append(b, text...), ed25519.Sign(private, signed(text))...), "image"...)
		if _, _, err := take(b, public); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTooLarge: what is longer than the limit is not written, and a file that says so is refused before it is read.
func TestTooLarge(t *testing.T) {
	_, err := Write(io.Discard, Header{Name: Name, Version: "1.0.0", Flavour: "all"}, bytes.NewReader(make([]byte, MaxSize+1)), private)
	if !errors.Is(err, ErrFile) {
		t.Errorf("written: %v", err)
	}
	b := append([]byte(magic), 0xff, 0xff)
	if _, err := Open(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(errors.New("read on"))), public); !errors.Is(err, ErrFile) {
		t.Errorf("a header of 65535 bytes: %v", err)
	}
}

func TestReadFails(t *testing.T) {
	b := file(t, Header{Version: "1.4.0", Flavour: "all"}, "image")
	gone := errors.New("the disk is gone")
	for _, n := range []int{5, 40, len(b) - 2, len(b)} {
		u, err := Open(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(gone)), public)
		if err == nil {
			_, err = io.ReadAll(u)
		}
		if !errors.Is(err, gone) || errors.Is(err, ErrFile) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		version, flavour string
		running          Running
		want             error
	}{
		{"1.4.0", "kvm", Running{"1.3.9", "kvm", ""}, nil},
		{"1.10.0", "kvm", Running{"1.9.0", "kvm", "1.9.0"}, nil},
		{"1.4.0", "all", Running{"1.3.9", "kvm", ""}, nil},
		{"1.4.0", "kvm", Running{"1.4.0-rc.2", "kvm", ""}, nil},
		{"1.4.0", "kvm", Running{"1.4.0", "kvm", ""}, ErrOlder},
		{"1.4.0-rc.1", "kvm", Running{"1.4.0", "kvm", ""}, ErrOlder},
		{"1.3.0", "kvm", Running{"1.4.0", "kvm", ""}, ErrOlder},
		{"1.3.0", "kvm", Running{"1.2.0", "kvm", "1.4.0"}, ErrOlder},
		{"1.4.0", "kvm", Running{"1.3.0", "all", ""}, ErrFlavour},
		{"1.4.0", "aws", Running{"1.3.0", "azure", ""}, ErrFlavour},
	} {
		err := Header{Version: c.version, Flavour: c.flavour}.Fits(c.running)
		if !errors.Is(err, c.want) {
			t.Errorf("%s %s on %+v: %v, want %v", c.version, c.flavour, c.running, err, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	keys, err := ParseKeys(FormatKey(public) + ",\n " + FormatKey(other))
	if err != nil || len(keys) != 2 || !keys[0].Equal(public) || !keys[1].Equal(other) {
		t.Errorf("%v, %v", keys, err)
	}
	if keys, err := ParseKeys(""); err != nil || len(keys) > 0 {
		t.Errorf("none: %v, %v", keys, err)
	}
	for _, bad := range []string{"x", FormatKey(public)[:40], strings.Repeat(FormatKey(public)+" ", MaxKeys+1)} {
		if _, err := ParseKeys(bad); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
	text, err := MarshalPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := ParsePrivateKey(text); err != nil || !k.Equal(private) {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, text[:40], bytes.Replace(text, []byte("PRIVATE"), []byte("PUBLIC"), 2)} {
		if _, err := ParsePrivateKey(bad); err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzHeader: what is parsed is written as the same bytes.
func FuzzHeader(f *testing.F) {
	var b bytes.Buffer
	h, err := Write(&b, Header{Name: Name, Version: "1.4.0-rc.1", Floor: "1.2.0", Flavour: "kvm"}, strings.NewReader("image"), private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.Append(nil))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err == nil && !bytes.Equal(h.Append(nil), b) {
			t.Errorf("%q became %q", b, h.Append(nil))
		}
	})
}

// FuzzOpen: no bytes are taken that were not signed.
func FuzzOpen(f *testing.F) {
	var b bytes.Buffer
	if _, err := Write(&b, Header{Name: Name, Version: "1.4.0", Flavour: "all"}, strings.NewReader("image"), private); err != nil {
		f.Fatal(err)
	}
	good := b.Bytes()
	f.Add(good)
	f.Add(good[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := take(b, public); err == nil && !bytes.Equal(b, good) {
			t.Errorf("%q is taken", b)
		}
	})
}

// TestOrder: the boot loader, which orders what is on the disk, and Compare, which says what is later, agree.
func TestOrder(t *testing.T) {
	versions := []string{"1.0.0-a", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.1.2", "1.0.0-alpha.2", "1.0.0-alpha.10", "1.0.0-alphabet", "1.0.0-dev",
		"1.0.0-rc", "1.0.0-rc.9", "1.0.0-rc.10", "1.0.0", "1.0.1-rc.1", "1.0.1", "1.2.0", "1.10.0", "2.0.0-RC.1", "2.0.0-rc.1"}
	for i, v := range versions {
		if err := CheckVersion(v); err != nil {
			t.Error(err)
		}
		if i > 0 && Compare(versions[i-1], v) >= 0 {
			t.Errorf("%s is not before %s", versions[i-1], v)
		}
	}
	for _, v := range []string{"1.0.0-1", "1.0.0-rc1", "1.0.0-rc-1", "1.0.0-rc.1a", "1.0.0-rc.a", "1.0.0-rc.01", "01.0.0", "1.0.0-", "1.0.0-rc.", "1.0.0+1", "1.0", "1.0.0-" + strings.Repeat("a", 48)} {
		if err := CheckVersion(v); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", v, err)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze, which orders as systemd-boot does")
	}
	for i, v := range versions[1:] {
		if said, err := exec.Command("systemd-analyze", "compare-versions", Ordered(versions[i]), "lt", Ordered(v)).CombinedOutput(); err != nil {
			t.Errorf("%s is not before %s: %v %s", versions[i], v, err, said)
		}
	}
}

func TestMatches(t *testing.T) {
	release := func(version, ordered, flavour string) map[string]string {
		return map[string]string{"ID": "sallyport", "VERSION_ID": version, "IMAGE_VERSION": ordered, "VARIANT_ID": flavour}
	}
	h := Header{Name: Name, Version: "1.4.0-rc.1", Flavour: "kvm"}
	if err := h.Matches(release("1.4.0-rc.1", "1.4.0~rc.1", "kvm")); err != nil {
		t.Error(err)
	}
	for name, r := range map[string]map[string]string{
		"version":  release("1.3.0", "1.3.0", "kvm"),
		"order":    release("1.4.0-rc.1", "1.3.0", "kvm"),
		"flavour":  release("1.4.0-rc.1", "1.4.0~rc.1", "all"),
		"nothing":  nil,
		"no image": {"ID": "debian", "VERSION_ID": "1.4.0-rc.1", "IMAGE_VERSION": "1.4.0~rc.1", "VARIANT_ID": "kvm"},
	} {
		if err := h.Matches(r); !errors.Is(err, ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
