// Package deb reads Debian packages and fetches pinned ones into a cache.
//
//	c := deb.Cache{Dir: dir}
//	file, err := c.Get(ctx, deb.Package{Name: "systemd-boot-efi", …})
//	…
//	err = deb.Files(r, func(h *tar.Header, r io.Reader) error { … })
//
// Nothing is installed and no script of a package runs.
package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	maxMember   = 1 << 30 // of the file, packed; Debian's largest kernel packages have a tenth
	maxUnpacked = 2 << 30 // of the data member
)

// Files calls each for every entry of the package's data, in the order of the package. The reader is valid until each
// returns. Names are without a leading "./". It ends with the first error that each returns.
//
// The form is that of deb(5): an ar archive of debian-binary, control.tar and data.tar, the last packed by gzip, xz,
// zstd or not at all.
func Files(r io.Reader, each func(h *tar.Header, r io.Reader) error) error {
	found := false
	err := members(r, func(name string, r io.Reader) error {
		if !strings.HasPrefix(name, "data.tar") {
			return nil
		}
		found = true
		unpacked, err := unpack(strings.TrimPrefix(name, "data.tar"), r)
		if err != nil {
			return err
		}
		defer unpacked.Close()
		return entries(io.LimitReader(unpacked, maxUnpacked), each)
	})
	if err == nil && !found {
		err = errors.New("the package has no data.tar")
	}
	return err
}

func entries(r io.Reader, each func(h *tar.Header, r io.Reader) error) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the package's files: %w", err)
		}
		h.Name = strings.TrimPrefix(h.Name, "./")
		if err := each(h, in); err != nil {
			return err
		}
	}
}

func unpack(ending string, r io.Reader) (io.ReadCloser, error) {
	switch ending {
	case "":
		return io.NopCloser(r), nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		in, err := xz.NewReader(bufio.NewReaderSize(r, 1<<16))
		return io.NopCloser(in), err
	case ".zst":
		in, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, err
		}
		return in.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("data.tar%s is packed in a way that is not known here", ending)
}

const (
	magic      = "!<arch>\n"
	headerSize = 60
	headerEnd  = "`\n"
)

// members calls each for the members of an ar archive, in the common form: names of up to 16 bytes, which may end with a
// slash, decimal sizes, contents padded to even lengths.
func members(r io.Reader, each func(name string, r io.Reader) error) error {
	var start [len(magic)]byte
	if _, err := io.ReadFull(r, start[:]); err != nil || string(start[:]) != magic {
		return errors.New("not a Debian package: it does not begin as an ar archive")
	}
	for {
		var h [headerSize]byte
		if _, err := io.ReadFull(r, h[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the package is cut short: %w", err)
		}
		if string(h[58:]) != headerEnd {
			return errors.New("the package is damaged: a member's header does not end as it must")
		}
		name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
		size, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 63)
		if err != nil || size > maxMember {
			return fmt.Errorf("the package is damaged: member %q has the size %q", name, h[48:58])
		}
		content := &io.LimitedReader{R: r, N: int64(size)}
		if err := each(name, content); err != nil {
			return err
		}
		left := content.N + int64(size%2)
		if n, err := io.CopyN(io.Discard, r, left); errors.Is(err, io.EOF) && n < content.N {
			return fmt.Errorf("the package is cut short: %w", io.ErrUnexpectedEOF)
		} else if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}
