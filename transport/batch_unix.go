//go:build unix

package transport

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A rawReader reads a kernel's socket without holding memory while nothing is there.
type rawReader struct {
	conn  syscall.RawConn
	into  *[batchIn]byte
	n     int
	err   error
	ready func(fd uintptr) bool // try, bound once: reading costs no memory
}

func newRawReader(c syscall.RawConn) *rawReader {
	r := &rawReader{conn: c}
	r.ready = r.try
	return r
}

// read returns memory from batchIns with the bytes that have arrived.
func (r *rawReader) read() (*[batchIn]byte, int, error) {
	r.into, r.n, r.err = nil, 0, nil
	err := r.conn.Read(r.ready)
	if err == nil {
		err = r.err
	}
	if err == nil && r.n == 0 {
		err = io.EOF
	}
	into := r.into
	r.into = nil
	return into, r.n, err
}

func (r *rawReader) try(fd uintptr) bool {
	if r.into == nil {
		r.into = batchIns.Get().(*[batchIn]byte)
	}
	for {
		n, err := unix.Read(int(fd), r.into[:])
		switch err {
		case nil:
			r.n = n
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			batchIns.Put(r.into)
			r.into = nil
			return false
		default:
			r.err = os.NewSyscallError("read", err)
			return true
		}
	}
}
