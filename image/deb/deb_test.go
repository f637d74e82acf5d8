package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// member is an ar archive's, in the form of dpkg-deb.
func member(name string, content []byte) string {
	s := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(content)) + string(content)
	if len(content)%2 == 1 {
		s += "\n"
	}
	return s
}

func tarball(t testing.TB, pack func(io.Writer) (io.WriteCloser, error)) []byte {
	var out bytes.Buffer
	packer, err := pack(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(packer)
	for name, content := range map[string]string{"./boot/vmlinuz": "kernel"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	w.Close()
	packer.Close()
	return out.Bytes()
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

var packers = map[string]func(io.Writer) (io.WriteCloser, error){
	"":     func(w io.Writer) (io.WriteCloser, error) { return plain{w}, nil },
	".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	".xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
}

func TestFiles(t *testing.T) {
	for ending, pack := range packers {
		for _, slash := range []string{"", "/"} { // GNU's ar ends names with one
			deb := magic + member("debian-binary"+slash, []byte("2.0\n")) + member("control.tar"+slash, []byte("odd")) +
				member("data.tar"+ending+slash, tarball(t, pack))
			got := ""
			err := Files(strings.NewReader(deb), func(h *tar.Header, r io.Reader) error {
				b, err := io.ReadAll(r)
				got += h.Name + "=" + string(b)
				return err
			})
			if got != "boot/vmlinuz=kernel" || err != nil {
				t.Errorf("data.tar%s%s: got %q, %v", ending, slash, got, err)
			}
		}
	}
}

func TestDamagedPackages(t *testing.T) {
	whole := magic + member("debian-binary", []byte("2.0\n")) + member("data.tar.gz", tarball(t, packers[".gz"]))
	for name, deb := range map[string]string{
		"empty":       "",
		"not ar":      "PK\x03\x04 and so on",
		"no data":     magic + member("debian-binary", []byte("2.0\n")),
		"unknown":     magic + member("data.tar.lz4", nil),
		"header":      whole[:len(magic)+10],
		"content":     whole[:len(whole)-20],
		"first":       magic + member("debian-binary", []byte("2.0\n"))[:62],
		"size":        strings.Replace(whole, "4         `", "-4        `", 1),
		"end":         strings.Replace(whole, "`\n", "!\n", 1),
		"not gzip":    magic + member("data.tar.gz", []byte("plain")),
		"not a tar":   magic + member("data.tar", bytes.Repeat([]byte("x"), 1024)),
		"far too big": strings.Replace(whole, "4         `", "9999999999`", 1),
	} {
		err := Files(strings.NewReader(deb), func(_ *tar.Header, r io.Reader) error {
			_, err := io.ReadAll(r)
			return err
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(magic + member("debian-binary", []byte("2.0\n")) + member("data.tar", []byte("odd"))))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		err := members(bytes.NewReader(b), func(_ string, r io.Reader) error {
			content, err := io.ReadAll(r)
			total += len(content)
			return err
		})
		if err == nil && total > len(b) {
			t.Errorf("%d bytes out of %d", total, len(b))
		}
	})
}
