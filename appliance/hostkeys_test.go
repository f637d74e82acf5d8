package appliance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/audit"
	"sallyport/appliance/hostkey"
	"sallyport/frame"
)

// fewPins pins what it is told.
type fewPins struct{ keys []hostkey.Key }

func (s *fewPins) HostKeys(context.Context) ([]hostkey.Key, error) { return s.keys, nil }
func (s *fewPins) See(_ context.Context, k hostkey.Key) (hostkey.Key, error) {
	s.keys = append(s.keys, k)
	return k, nil
}
func (s *fewPins) Put(_ context.Context, k hostkey.Key) error { s.keys = []hostkey.Key{k}; return nil }
func (s *fewPins) Forget(context.Context, string) error       { s.keys = nil; return nil }

// shown is an SSH server's plaintext: its identification, its key in an answer, and NEWKEYS if that is asked for.
func shown(key byte) []byte {
	blob := ssh.Marshal(struct {
		Name string
		Key  []byte
	}{"ssh-ed25519", bytes.Repeat([]byte{key}, 32)})
	payload := append([]byte{31}, ssh.Marshal(struct{ Key, F, Sig []byte }{blob, []byte("f"), []byte("s")})...)
	b := []byte("SSH-2.0-x\r\n")
	for _, p := range [][]byte{payload, {21}} {
		b = append(append(binary.BigEndian.AppendUint32(b, uint32(len(p)+5)), 4), append(p, 0, 0, 0, 0)...)
	}
	return b
}

// TestHostKeyChanged: a server with another key is cut off before a client can believe it, until an administrator says
// that it is right.
func TestHostKeyChanged(t *testing.T) {
	s := newSite(t)
	pins, err := hostkey.Open(t.Context(), new(fewPins), false, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s.HostKeys = pins
	key := make(chan byte, 1)
	heard := make(chan int, 1)
	s.target("10.0.0.5:22", func(c net.Conn) {
		c.Write(shown(<-key))
		b, _ := io.ReadAll(c)
		heard <- len(b)
	})
	try := func(k byte) (said []byte, err error) {
		t.Helper()
		key <- k
		n := 0
		f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
		if err == nil { // the refusal may overtake the answer
			defer f.Close()
			said = make([]byte, len(shown(k)))
			n, err = io.ReadFull(f, said)
		}
		if err == nil {
			f.CloseWrite()
			<-heard
			return said[:n], nil
		}
		if got := <-heard; got != 0 {
			t.Errorf("%d bytes went to the wrong machine", got)
		}
		return said[:n], err
	}
	for range 2 {
		if said, err := try(1); err != nil || !bytes.Equal(said, shown(1)) {
			t.Fatalf("%q, %v", said, err)
		}
	}
	said, err := try(2)
	var no *frame.StreamError
	if !errors.As(err, &no) || no.Code != "E_TARGET_IDENTITY" || len(said) != 0 {
		t.Fatalf("another key: %q, %v", said, err)
	}
	known := pins.List("db-1")[0].Fingerprint()
	offered, _ := pins.Offered("db-1")
	if !bytes.Contains([]byte(no.Sentence), []byte(known)) || !bytes.Contains([]byte(no.Sentence), []byte(offered.Fingerprint())) {
		t.Errorf("said %q", no.Sentence)
	}
	var told bool
	for e := range s.book.Read(audit.Filter{}) {
		told = told || e.Kind == audit.TargetIdentity && e.Detail["known"] == known && e.Detail["shown"] == offered.Fingerprint()
	}
	if !told {
		t.Error("the audit log does not say so")
	}
	if err := pins.Confirm(t.Context(), "db-1", offered.Fingerprint(), "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := try(2); err != nil {
		t.Errorf("the confirmed key: %v", err)
	}
}

// TestNoWatchAfterNewKeys: what has seen the key is gone, and reading costs nothing more.
func TestNoWatchAfterNewKeys(t *testing.T) {
	s := newSite(t)
	pins, err := hostkey.Open(t.Context(), new(fewPins), false, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s.HostKeys = pins
	f := &flow{gateway: s.Gateway, life: t.Context()}
	f.grant.Protocol, f.grant.Target = "ssh", "db-1"
	c := &script{says: append(pieces(string(shown(1)), 5), make([]byte, 1<<20))}
	g := f.watchingKeys(guarded("ssh", c)).(*guard)
	p := make([]byte, 5)
	for range (len(shown(1)) + 4) / 5 {
		if _, err := g.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	if g.keys != nil || g.server != nil {
		t.Error("the flow is still watched")
	}
	if n := testing.AllocsPerRun(100, func() { g.Read(p) }); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
}
