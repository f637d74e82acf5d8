package appliance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"sallyport/frame"
)

// script is a conn that says fixed pieces and takes so much at a time.
type script struct {
	says  [][]byte
	taken bytes.Buffer
	most  int // bytes that Take accepts at once
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.says) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.says[0])
	if s.says[0] = s.says[0][n:]; len(s.says[0]) == 0 {
		s.says = s.says[1:]
	}
	return n, nil
}

func (s *script) Take(p []byte) (int, error) {
	n := min(len(p), s.most)
	s.taken.Write(p[:n])
	return n, nil
}

func (s *script) WaitReadable(context.Context, func()) (bool, error) { return true, nil }
func (s *script) WaitWritable(context.Context) error                 { return nil }
func (s *script) Buffered() int                                      { return 0 }
func (s *script) CloseWrite() error                                  { return nil }
func (s *script) Close() error                                       { return nil }

// pieces cuts b into pieces of n bytes.
func pieces(b string, n int) (list [][]byte) {
	for len(b) > 0 {
		k := min(n, len(b))
		list = append(list, []byte(b[:k]))
		b = b[k:]
	}
	return list
}

const (
	request = "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x0b\x00\x00\x00"
	confirm = "\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x02\x00\x00\x00"
)

func TestGuardServer(t *testing.T) {
	for name, c := range map[string]struct {
		protocol, says string
		code           frame.Code // "" passes
	}{
		"ssh":                   {"ssh", "SSH-2.0-OpenSSH_9.2\r\nmore", ""},
		"old ssh":               {"ssh", "SSH-1.99-Cisco\r\n", ""},
		"lines first":           {"ssh", "Welcome\r\nto the machine\r\nSSH-2.0-x\r\n", ""},
		"50 lines":              {"ssh", strings.Repeat("x\r\n", 50) + "SSH-2.0-x\r\n", ""},
		"too many lines":        {"ssh", strings.Repeat("x\n", 60) + "SSH-2.0-x\r\n", "E_PROTOCOL"},
		"a long line":           {"ssh", strings.Repeat("x", 9000) + "\nSSH-2.0-x\r\n", "E_PROTOCOL"},
		"within a line":         {"ssh", strings.Repeat("not SSH-2.0- here\n", 600), "E_PROTOCOL"},
		"silent":                {"ssh", "", "E_NO_BANNER"},
		"rdp":                   {"rdp", confirm + "tls", ""},
		"rdp says no":           {"rdp", "\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x03\x00\x08\x00\x05\x00\x00\x00", ""},
		"rdp that is http":      {"rdp", "HTTP/1.1 400 Bad Request\r\n", "E_PROTOCOL"},
		"rdp that is a request": {"rdp", request, "E_PROTOCOL"},
		"rdp too long":          {"rdp", "\x03\x00\x02\x01\xfc\xd0", "E_PROTOCOL"},
		"rdp closes":            {"rdp", "", "E_NO_BANNER"},
		"opaque":                {"tcp", "anything", ""},
	} {
		for _, size := range []int{1, 3, 1 << 20} {
			conn := guarded(c.protocol, &script{says: pieces(c.says, size), most: 1 << 20})
			got, err := io.ReadAll(io.LimitReader(conn, 1<<20))
			var se *frame.StreamError
			switch {
			case c.code == "" && (err != nil || string(got) != c.says):
				t.Errorf("%s in pieces of %d: %q, %v", name, size, got, err)
			case c.code != "" && (!errors.As(err, &se) || se.Code != c.code):
				t.Errorf("%s in pieces of %d: %v, want %s", name, size, err, c.code)
			}
		}
	}
}

func TestGuardClient(t *testing.T) {
	for name, c := range map[string]struct {
		protocol, says string
		passes         bool
	}{
		"ssh":          {"ssh", "SSH-2.0-OpenSSH_9.2\r\nmore", true},
		"ssh 1":        {"ssh", "SSH-1.5-old\r\n", false},
		"http":         {"ssh", "GET / HTTP/1.1\r\n", false},
		"nearly":       {"ssh", "SSH-2.1-", false},
		"rdp":          {"rdp", request + "tls", true},
		"rdp confirm":  {"rdp", confirm, false},
		"rdp length":   {"rdp", "\x03\x00\x00\x13\x0f\xe0", false},
		"ssh to rdp":   {"rdp", "SSH-2.0-", false},
		"opaque":       {"tcp", "GET / HTTP/1.1\r\n", true},
		"tls at once":  {"rdp", "\x16\x03\x01", false},
		"wrong second": {"rdp", "\x03\x01\x00\x13\x0e\xe0", false},
	} {
		for _, size := range []int{1, 3, 1 << 20} {
			for _, most := range []int{1, 5, 1 << 20} {
				target := &script{most: most}
				conn := guarded(c.protocol, target)
				err := offer(conn, pieces(c.says, size))
				var se *frame.StreamError
				switch {
				case c.passes && (err != nil || target.taken.String() != c.says):
					t.Errorf("%s in pieces of %d, taken by %d: %q passed, %v", name, size, most, target.taken.String(), err)
				case !c.passes && (!errors.As(err, &se) || se.Code != "E_PROTOCOL"):
					t.Errorf("%s in pieces of %d, taken by %d: %v", name, size, most, err)
				}
			}
		}
	}
}

// offer offers pieces as a stream's reader does: again until all of each is taken.
func offer(conn interface{ Take([]byte) (int, error) }, list [][]byte) error {
	for _, p := range list {
		for len(p) > 0 {
			n, err := conn.Take(p)
			if err != nil {
				return err
			}
			p = p[n:]
		}
	}
	return nil
}

// FuzzGuard: however a target's bytes are cut, the verdict is the same, and what passes passes unchanged.
func FuzzGuard(f *testing.F) {
	f.Add("ssh", "SSH-2.0-x\r\n", 3)
	f.Add("rdp", confirm, 1)
	f.Fuzz(func(t *testing.T, protocol, says string, size int) {
		if size < 1 {
			size = 1
		}
		whole, errWhole := io.ReadAll(guarded(protocol, &script{says: pieces(says, 1<<20)}))
		cut, errCut := io.ReadAll(guarded(protocol, &script{says: pieces(says, size)}))
		if (errWhole == nil) != (errCut == nil) {
			t.Errorf("%q: whole %v, in pieces of %d %v", says, errWhole, size, errCut)
		}
		if errWhole == nil && string(whole) != says || errCut == nil && string(cut) != says {
			t.Errorf("%q came out as %q and %q", says, whole, cut)
		}
	})
}
