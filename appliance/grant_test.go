package appliance

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/frame"
)

// control is one that a test sends away and has back.
type control struct {
	away atomic.Bool
	key  ed25519.PrivateKey
}

func (c *control) down() error {
	if c.away.Load() {
		return errors.New("nobody answers")
	}
	return nil
}

func (c *control) Sign(message []byte) []byte { return ed25519.Sign(c.key, message) }
func (c *control) Public() ed25519.PublicKey  { return c.key.Public().(ed25519.PublicKey) }

// controlledSite is a site with a database that can go, and with a grant for db-1 that it has given.
func controlledSite(t *testing.T) (*site, *control, []byte) {
	t.Helper()
	s, c := newSite(t), &control{key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))}
	s.Control = &Control{Down: c.down, Key: c}
	s.peer.Key = [32]byte{1}
	s.target("10.0.0.5:22", echo)
	s.target("10.0.0.5:5432", echo)
	f, opened, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if len(opened.Grant) != frame.GrantSize {
		t.Fatalf("a grant of %d bytes", len(opened.Grant))
	}
	return s, c, opened.Grant
}

// TestGrant: while the database is away a grant of before opens the flow that it is for, without another one coming of it.
func TestGrant(t *testing.T) {
	s, c, grant := controlledSite(t)
	c.away.Store(true)
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != "E_CONTROL_DOWN" ||
		!strings.Contains(err.Error(), "existing sessions continue; new ones are paused") {
		t.Errorf("without a grant: %v", err)
	}
	f, opened, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh", Port: 22, Grant: grant})
	if err != nil {
		t.Fatal(err)
	}
	if len(opened.Grant) != 0 {
		t.Error("a grant has renewed itself")
	}
	if _, err := io.ReadFull(f, make([]byte, 14)); err != nil {
		t.Error(err)
	}
	f.Close()
	c.away.Store(false)
	f, _, err = s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: bytes.Repeat([]byte{1}, frame.GrantSize)})
	if err != nil {
		t.Fatalf("nobody needs a grant any more: %v", err)
	}
	f.Close()
}

// TestGrantSpared: a flow costs no signature while its client shows a grant that is fresh, and where there are none.
func TestGrantSpared(t *testing.T) {
	s, c, grant := controlledSite(t)
	given := func(shown []byte) int {
		t.Helper()
		f, opened, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: shown})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return len(opened.Grant)
	}
	if n := given(grant); n != 0 {
		t.Error("who shows a fresh one gets another")
	}
	old := bytes.Clone(grant)
	binary.BigEndian.PutUint64(old, uint64(time.Now().Add(-2*time.Minute).UnixMilli()))
	if n := given(old); n != frame.GrantSize {
		t.Error("who shows an older one gets none")
	}
	s.Control = &Control{Down: c.down}
	if n := given(nil); n != 0 {
		t.Error("a grant without a key")
	}
	c.away.Store(true)
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: grant}); codeOf(err) != "E_CONTROL_DOWN" {
		t.Errorf("a grant where there are none: %v", err)
	}
}

// TestGrantElsewhere: a grant is good for nothing but what it was given for.
func TestGrantElsewhere(t *testing.T) {
	s, c, grant := controlledSite(t)
	c.away.Store(true)
	mine := s.peer
	for what, one := range map[string]struct {
		req  frame.OpenRequest
		peer func(*frame.Peer)
	}{
		"another target":    {frame.OpenRequest{Target: "named", Protocol: "ssh"}, nil},
		"another person":    {frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, func(p *frame.Peer) { p.User = "bob" }},
		"another device":    {frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, func(p *frame.Peer) { p.Device = "dev-2" }},
		"another key":       {frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, func(p *frame.Peer) { p.Key[31]++ }},
		"another signature": {frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: append(bytes.Clone(grant[:71]), grant[71]^1)}, nil},
		"another time":      {frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: append(append(bytes.Clone(grant[:7]), grant[7]^1), grant[8:]...)}, nil},
	} {
		s.settle()
		s.peer = mine
		if one.peer != nil {
			one.peer(&s.peer)
		}
		if one.req.Grant == nil {
			one.req.Grant = grant
		}
		if f, _, err := s.open(one.req); err == nil {
			f.Close()
			t.Errorf("%s: opened", what)
		} else if codeOf(err) != "E_CONTROL_DOWN" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestGrantWidensNothing: policy, locks and revocations are asked as ever.
func TestGrantWidensNothing(t *testing.T) {
	for what, one := range map[string]struct {
		change func(s *site, key ed25519.PublicKey)
		code   frame.Code
	}{
		"policy": {func(s *site, _ ed25519.PublicKey) {
			s.SetPolicy(s.parse(strings.Replace(siteAccess, "[ann, bob]", "[bob]", 1)))
		}, "E_TARGET_UNKNOWN"},
		"lock": {func(s *site, _ ed25519.PublicKey) {
			s.Locks.Lock(s.t.Context(), auth.Lock{Kind: auth.LockUser, Name: "ann", By: "root"})
		}, "E_LOCKED"},
		"revocation": {func(s *site, key ed25519.PublicKey) { s.reg.Revoke(auth.DeviceID(key)) }, "E_DEVICE_REVOKED"},
	} {
		s, c, _ := controlledSite(t)
		key := s.enrolled("ann")
		s.peer.Device, s.peer.Key = auth.DeviceID(key), [32]byte(key)
		f, opened, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		c.away.Store(true)
		one.change(s, key)
		if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: opened.Grant}); codeOf(err) != one.code {
			t.Errorf("%s: %v, want %s", what, err, one.code)
		}
	}
}

// TestGrantAges: a grant is good for its few minutes, on a clock that may be somewhat late.
func TestGrantAges(t *testing.T) {
	s, _, grant := controlledSite(t)
	f := &flow{gateway: s.Gateway, peer: s.peer, open: frame.OpenRequest{Target: "db-1", Protocol: "ssh", Grant: grant}}
	var err error
	if f.grant, err = s.decideNow(f.request(&s.peer, time.Now()), s.peer.Device); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for after, good := range map[time.Duration]bool{-time.Hour: false, -20 * time.Second: true, 0: true, 4 * time.Minute: true, 6 * time.Minute: false} {
		if f.showsGrant(s.Control, now.Add(after)) != good {
			t.Errorf("after %v: want %v", after, good)
		}
	}
}
