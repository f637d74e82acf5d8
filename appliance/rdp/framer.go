package rdp

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"sallyport/appliance/rdp/der"
)

// A Framer cuts a stream into the PDUs that RDP's two sides say one after the other: first CredSSP's, if there are any,
// then TPKTs and fast-path PDUs.
type Framer struct {
	r       *bufio.Reader
	buf     []byte
	credssp bool // CredSSP is under way
	latest  bool // the latest PDU was its
	verdict bool // which ends with a word of four bytes
}

// maxTS bounds one message of CredSSP.
const maxTS = 32 << 10

// A FrameError says that a side has said what is no PDU, so that nothing after it can be understood either.
type FrameError struct{ why string }

func (e *FrameError) Error() string { return e.why }

func noPDU(format string, args ...any) error { return &FrameError{fmt.Sprintf(format, args...)} }

// NewFramer cuts what a side says once TLS stands. Where CredSSP passes, selected is the protocol that says so, and
// server whether the side is the server.
func NewFramer(r io.Reader, selected uint32, server bool) *Framer {
	return &Framer{r: bufio.NewReaderSize(r, 16<<10), credssp: selected == CredSSP || selected == CredSSPEx, verdict: server && selected == CredSSPEx}
}

// Next returns the next PDU, which is valid until the following call of Next. Before that which is not CredSSP's come
// those that are: see Authenticating. An error that is no *FrameError is the stream's.
func (f *Framer) Next() ([]byte, error) {
	first, err := f.r.Peek(1)
	if err != nil {
		return nil, err
	}
	if f.latest = f.credssp; f.credssp {
		switch {
		case first[0] == der.Sequence:
			return f.message()
		case first[0] == 3 && !f.verdict:
			f.credssp, f.latest = false, false
		case f.verdict:
			f.credssp, f.verdict = false, false
			return f.take(4)
		default:
			return nil, noPDU("a PDU begins with %#x while CredSSP is under way", first[0])
		}
	}
	head, err := f.r.Peek(2)
	if err != nil {
		return nil, whole(err)
	}
	length := int(head[1])
	switch {
	case head[0] == 3:
		if head, err = f.r.Peek(4); err != nil {
			return nil, whole(err)
		}
		if length = int(head[2])<<8 | int(head[3]); head[1] != 0 || length < 7 {
			return nil, noPDU("a TPKT header does not parse")
		}
	case head[0]&0xc3 != 0: // another action, or encryption that TLS has made needless
		return nil, noPDU("a PDU begins with %#x", head[0])
	case length&0x80 != 0:
		if head, err = f.r.Peek(3); err != nil {
			return nil, whole(err)
		}
		if length = int(head[1]&0x7f)<<8 | int(head[2]); length < 3 {
			return nil, noPDU("a fast-path length does not parse")
		}
	case length < 2:
		return nil, noPDU("a fast-path length does not parse")
	}
	return f.take(length)
}

// Authenticating says whether the latest PDU was CredSSP's.
func (f *Framer) Authenticating() bool { return f.latest }

func (f *Framer) message() ([]byte, error) {
	for n := 2; ; n++ {
		b, err := f.r.Peek(n)
		if err != nil {
			return nil, whole(err)
		}
		_, head, length, err := der.Head(b)
		switch {
		case errors.Is(err, der.ErrShort):
			continue
		case err != nil:
			return nil, noPDU("%v", err)
		case length > maxTS:
			return nil, noPDU("a message of CredSSP has %d bytes", length)
		}
		return f.take(head + length)
	}
}

func (f *Framer) take(n int) ([]byte, error) {
	if cap(f.buf) < n {
		f.buf = make([]byte, max(n, 4<<10))
	}
	f.buf = f.buf[:n]
	_, err := io.ReadFull(f.r, f.buf)
	return f.buf, whole(err)
}

// whole is err, for one within a PDU.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
