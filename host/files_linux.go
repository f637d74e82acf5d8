package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxFile bounds what the parent reads for the worker: a long access file, not a disk.
const maxFile = 16 << 20

// A watched file, or folder of files, is handed to the worker by content, in a sealed memfd that the parent keeps for the
// next worker.
type watched struct {
	path     string
	patterns []string // of the names that count, if it is a folder
	version  version
	fd       int // -1 while there is no content
	folder   bool
	errno    syscall.Errno // why it cannot be read now
	said     syscall.Errno // the same, as the log has it
}

// A stamp tells two states of a file apart.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

func watch(path string, patterns []string) *watched {
	w := &watched{path: path, patterns: patterns, fd: -1}
	w.refresh()
	return w
}

// refresh reads the file if it has changed and says whether there is news for the worker. A file that has gone, or that is
// being written at this moment, keeps its last content.
func (w *watched) refresh() bool {
	now, folder, err := versionOf(w.path, w.patterns)
	if err == nil && w.fd >= 0 && (slices.Equal(now, w.version) || now.unsettled()) {
		return false
	}
	var content []byte
	switch {
	case err != nil:
	case folder:
		content, now, err = readFolder(w.path, w.patterns)
		if err == nil && w.fd >= 0 && changing(w.path, w.patterns, now) {
			return false // files that belong together are being replaced; they are looked at again
		}
	default:
		var s stamp
		content, s, err = readFile(w.path)
		now = version{{"", s}}
	}
	fd := -1
	if err == nil {
		fd, err = seal(content)
	}
	if err != nil {
		before := w.errno
		if !errors.As(err, &w.errno) {
			w.errno = syscall.EIO
		}
		return w.fd < 0 && w.errno != before
	}
	w.close()
	w.fd, w.version, w.folder, w.errno = fd, now, folder, 0
	return true
}

// settling is how long a file must have been left alone before its change is taken: who writes it in place empties it
// first, and half an access file can be a good one that takes rights away.
const settling = 100 * time.Millisecond

func (v version) unsettled() bool {
	return slices.ContainsFunc(v, func(e entry) bool {
		age := time.Since(time.Unix(e.stamp.ctime.Unix()))
		return age >= 0 && age < settling
	})
}

// readFile reads a regular file that does not change meanwhile.
func readFile(path string) ([]byte, stamp, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not block us
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return nil, stamp{}, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, stamp{}, fmt.Errorf("%s is not a regular file: %w", path, unix.EINVAL)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, stamp{}, err
	}
	if len(content) > maxFile {
		return nil, stamp{}, unix.EFBIG
	}
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return nil, stamp{}, err
	}
	if stampOf(&before) != stampOf(&after) {
		return nil, stamp{}, unix.EAGAIN
	}
	return content, stampOf(&after), nil
}

// seal puts bytes into memory that nobody can change any more.
func seal(content []byte) (int, error) {
	fd, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	for rest := content; len(rest) > 0 && err == nil; {
		var n int
		n, err = unix.Write(fd, rest)
		rest = rest[max(n, 0):]
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (w *watched) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
		w.fd = -1
	}
}

// send gives the worker the content, or the reason why there is none.
func (w *watched) send(c channel) error {
	if w.fd < 0 {
		return c.send(message{File: &fileInfo{Path: w.path, Errno: int(w.errno)}})
	}
	return c.send(message{File: &fileInfo{Path: w.path, Folder: w.folder}}, w.fd)
}
