package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A parked connection waits for bytes with little on its stack. A goroutine that waits in crypto/tls's Read has all of
// that on its own, which is most of what an idle flow costs: so below crypto/tls nobody waits.
type parked struct {
	conn *net.TCPConn
	raw  syscall.RawConn

	// What a call of raw's Read is about; here, so that it costs no memory.
	p     []byte
	n     int
	err   error
	asked bool
	try   func(fd uintptr) bool
	ready func(fd uintptr) bool
}

// park makes a connection wait so, if it is the kernel's. It comes between the handshake and the first of the read calls.
func (b *batch) park() {
	counted, ok := b.Conn.(*countedConn)
	if !ok {
		return
	}
	conn, ok := counted.Conn.(*net.TCPConn)
	if !ok {
		return // what reads ahead may have something that the kernel has not
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	w := &parked{conn: conn, raw: raw}
	w.try, w.ready = w.readNow, w.poll
	b.parked = w
}

// errNothingYet is what crypto/tls hears while nothing has come. It takes an error that is temporary for what it is, and
// goes on at the next Read.
var errNothingYet error = nothingYet{}

type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing has come yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// read is the Read of the TLS connection above.
func (b *batch) read(c *tls.Conn, p []byte) (int, error) {
	if b.parked == nil {
		return c.Read(p)
	}
	for {
		n, err := c.Read(p)
		if err != errNothingYet {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		if err := b.parked.wait(); err != nil {
			return 0, err
		}
	}
}

// Read does not wait, once the connection is a parked one.
func (b *batch) Read(p []byte) (int, error) {
	if b.parked == nil {
		return b.Conn.Read(p)
	}
	return b.parked.read(p)
}

func (w *parked) read(p []byte) (int, error) {
	w.p = p
	err := w.raw.Read(w.try)
	w.p = nil
	switch {
	case err != nil:
		return 0, w.failed(err)
	case errors.Is(w.err, unix.EAGAIN):
		return 0, errNothingYet
	case w.err != nil:
		return 0, w.failed(os.NewSyscallError("read", w.err))
	case w.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return w.n, nil
}

func (w *parked) readNow(fd uintptr) bool {
	for {
		if w.n, w.err = unix.Read(int(fd), w.p); !errors.Is(w.err, unix.EINTR) {
			return true
		}
	}
}

// wait returns when there is something to read, or the read deadline has passed.
func (w *parked) wait() error {
	w.asked = false
	if err := w.raw.Read(w.ready); err != nil {
		return w.failed(err)
	}
	return nil
}

// poll asks once; when it is called again the runtime's poller knows.
func (w *parked) poll(fd uintptr) bool {
	if w.asked {
		return true
	}
	w.asked = true
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return n != 0 || err != nil
}

func (w *parked) failed(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return err
	}
	return &net.OpError{Op: "read", Net: "tcp", Source: w.conn.LocalAddr(), Addr: w.conn.RemoteAddr(), Err: err}
}
