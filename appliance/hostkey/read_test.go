package hostkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// heard keeps what is read from a conn.
type heard struct {
	net.Conn
	mu  sync.Mutex
	all bytes.Buffer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all.Write(p[:n])
	return n, err
}

// exchange is what a server says to a client that agrees on a method with it, some of it encrypted.
func exchange(t testing.TB, method string, host ssh.Signer) []byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer far.Close()
		s := &ssh.ServerConfig{NoClientAuth: true}
		s.AddHostKey(host)
		if c, chans, reqs, err := ssh.NewServerConn(far, s); err == nil {
			go ssh.DiscardRequests(reqs)
			go func() {
				for range chans {
				}
			}()
			c.Wait()
		}
	})
	h := &heard{Conn: near}
	config := &ssh.ClientConfig{User: "ann", HostKeyCallback: ssh.FixedHostKey(host.PublicKey())}
	config.KeyExchanges = []string{method}
	c, _, _, err := ssh.NewClientConn(h, "db-1:22", config)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.all.Bytes())
}

// read feeds b in pieces of n bytes until the reader is done.
func read(b []byte, n int) (keys [][]byte, done bool, err error) {
	var r Reader
	for len(b) > 0 && !done && err == nil {
		k := min(n, len(b))
		var key []byte
		if key, done, err = r.Feed(b[:k]); key != nil {
			keys = append(keys, bytes.Clone(key))
		}
		b = b[k:]
	}
	return keys, done, err
}

// TestReader reads the exchanges of a real server, by each method, whatever pieces they come in.
func TestReader(t *testing.T) {
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"ecdsa": e, "rsa": k, "ed25519": nil} {
		signer := newSigner(t)
		if key != nil {
			if signer, err = ssh.NewSignerFromKey(key); err != nil {
				t.Fatal(err)
			}
		}
		for _, method := range []string{ssh.KeyExchangeCurve25519, ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeDH14SHA256} {
			said := exchange(t, method, signer)
			for _, n := range []int{1, 7, 1000, len(said)} {
				keys, done, err := read(said, n)
				if err != nil || !done || len(keys) != 1 || !bytes.Equal(keys[0], signer.PublicKey().Marshal()) {
					t.Errorf("%s, %s by %d: %d keys, %v, %v", name, method, n, len(keys), done, err)
				}
			}
		}
	}
}

// packet is one of the binary protocol.
func packet(message byte, strings ...[]byte) []byte {
	payload := []byte{message}
	for _, s := range strings {
		payload = append(binary.BigEndian.AppendUint32(payload, uint32(len(s))), s...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+4))
	return append(append(append(b, 4), payload...), 0, 0, 0, 0)
}

func TestReaderRefuses(t *testing.T) {
	key := newSigner(t).PublicKey().Marshal()
	id, kexinit, newkeys := []byte("hello\r\nSSH-2.0-x\r\n"), packet(20, make([]byte, 16)), packet(21)
	reply := packet(31, key, []byte("f"), []byte("sig"))
	group := packet(31, []byte("p"), []byte("g"))
	gex := packet(33, key, []byte("f"), []byte("sig"))
	for name, c := range map[string]struct {
		packets [][]byte
		why     string // "" passes
	}{
		"an answer":                   {[][]byte{id, kexinit, reply, newkeys}, ""},
		"a group":                     {[][]byte{id, kexinit, group, gex, newkeys}, ""},
		"debugging":                   {[][]byte{id, packet(4, []byte("x")), kexinit, packet(2), reply, newkeys}, ""},
		"no key":                      {[][]byte{id, kexinit, newkeys}, "no key"},
		"only a group":                {[][]byte{id, kexinit, group, newkeys}, "no key"},
		"two answers":                 {[][]byte{id, kexinit, reply, gex, newkeys}, "answers twice"},
		"two answers of a kind":       {[][]byte{id, kexinit, reply, reply, newkeys}, "answers twice"},
		"a group after the answer":    {[][]byte{id, kexinit, reply, group, newkeys}, "does not parse"},
		"an answer of four":           {[][]byte{id, kexinit, packet(31, key, nil, nil, nil), newkeys}, "does not parse"},
		"a group where the answer is": {[][]byte{id, kexinit, packet(33, key, nil), newkeys}, "does not parse"},
		"RSA key exchange":            {[][]byte{id, kexinit, packet(30, key, key), packet(32, key), newkeys}, "no key"},
		"a session too early":         {[][]byte{id, kexinit, packet(52)}, "message 52"},
		"a length of nothing":         {[][]byte{id, {0, 0, 0, 1, 0, 20}}, "length"},
		"a length beyond all":         {[][]byte{id, {0xff, 0, 0, 1, 4, 20}}, "length"},
		"a padding beyond all":        {[][]byte{id, {0, 0, 0, 12, 200, 20}}, "length"},
		"an endless answer":           {[][]byte{id, {0, 2, 0, 0, 4, 31}}, "too long"},
		"an endless line":             {[][]byte{bytes.Repeat([]byte("x"), maxLine+1)}, "a line"},
		"endless lines":               {[][]byte{bytes.Repeat([]byte("\n"), maxLines+1)}, "too many lines"},
		"endless packets":             {[][]byte{id, bytes.Repeat(packet(2, make([]byte, 1000)), 1100)}, "too long"},
	} {
		_, done, err := read(bytes.Join(c.packets, nil), 1<<20)
		_, slowly, same := read(bytes.Join(c.packets, nil), 3)
		switch {
		case c.why == "" && (err != nil || !done || same != nil || !slowly):
			t.Errorf("%s: %v %v, %v %v", name, done, err, slowly, same)
		case c.why != "" && (!errors.Is(err, ErrUnread) || !strings.Contains(err.Error(), c.why) || !errors.Is(same, ErrUnread)):
			t.Errorf("%s: %v, %v", name, err, same)
		}
	}
}

// FuzzReader: whatever comes, pieces do not matter, and no more is kept than an answer.
func FuzzReader(f *testing.F) {
	host := newSigner(f)
	f.Add(exchange(f, ssh.KeyExchangeCurve25519, host), 5)
	f.Add([]byte("x\nSSH-2.0-x\r\n\x00\x00\x00\x0c\x04\x14"), 1)
	key := host.PublicKey().Marshal()
	f.Add(bytes.Join([][]byte{[]byte("SSH-2.0-x\n"), packet(31, nil, nil), packet(33, key, nil, nil), packet(21)}, nil), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = max(1, n&0xfff)
		keys, done, err := read(b, len(b)+1)
		again, doneAgain, errAgain := read(b, n)
		if done != doneAgain || (err == nil) != (errAgain == nil) {
			t.Fatalf("whole: %v %v; in pieces: %v %v", done, err, doneAgain, errAgain)
		}
		if done && (len(keys) != 1 || len(again) != 1 || !bytes.Equal(keys[0], again[0])) {
			t.Fatalf("whole: %d keys; in pieces: %d", len(keys), len(again))
		}
		if err != nil && !errors.Is(err, ErrUnread) {
			t.Fatal(err)
		}
	})
}
