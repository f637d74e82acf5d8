package appliance

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"testing"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// forgetful keeps no locks: the appliance that has made them knows them.
type forgetful struct{}

func (forgetful) Locks(context.Context) ([]auth.Lock, error)              { return nil, nil }
func (forgetful) PutLock(context.Context, auth.Lock) error                { return nil }
func (forgetful) DeleteLock(context.Context, auth.LockKind, string) error { return nil }

// TestLock: a lock ends what it concerns, keeps it from beginning again, and leaves others alone.
func TestLock(t *testing.T) {
	for name, l := range map[string]api.Lock{
		"user": {Kind: "user", Name: "bob", Why: "left"}, "device": {Kind: "device", Name: "dev-2", Why: "left"}, "target": {Kind: "target", Name: "db-1", Why: "left"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.target("10.0.0.5:22", echo)
			bobs, anns := s.as("bob", "dev-2"), s.as("ann", "dev-1")
			defer bobs.Close()
			defer anns.Close()
			ann := call{gateway: s.Gateway, peer: s.peer}
			ann.Request = s.request("POST", "locks")
			if _, err := ann.lock(l); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(bobs); codeOf(err) != "E_LOCKED" {
				t.Errorf("bob's session ended with %v", err)
			}
			if name == "target" {
				if _, err := io.ReadAll(anns); codeOf(err) != "E_LOCKED" {
					t.Errorf("ann's session ended with %v", err)
				}
			} else {
				io.WriteString(anns, "SSH-2.0-still\r\n")
				if _, err := io.ReadFull(anns, make([]byte, 15)); err != nil {
					t.Errorf("ann's session: %v", err)
				}
			}
			s.peer.User, s.peer.Device = "bob", "dev-2"
			if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != "E_LOCKED" {
				t.Errorf("bob connects again: %v", err)
			}
			ann.Request = s.request("DELETE", "locks")
			ann.SetPathValue("kind", l.Kind)
			ann.SetPathValue("name", l.Name)
			if _, err := ann.unlock(); err != nil {
				t.Fatal(err)
			}
			s.as("bob", "dev-2").Close()
		})
	}
}

// TestLockByAnotherName: a locked target is not reached by another name of it either.
func TestLockByAnotherName(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	f, _, err := s.open(frame.OpenRequest{Target: "named", Protocol: "ssh"}) // resolves to what db-1 is
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ann := call{s.request("POST", "locks"), s.Gateway, s.peer}
	if _, err := ann.lock(api.Lock{Kind: "target", Name: "db-1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(f); codeOf(err) != "E_LOCKED" {
		t.Errorf("the session ended with %v", err)
	}
	if _, _, err := s.open(frame.OpenRequest{Target: "named", Protocol: "ssh"}); codeOf(err) != "E_LOCKED" {
		t.Errorf("a new one: %v", err)
	}
	if _, err := ann.lock(api.Lock{Kind: "target", Name: "db-l"}); codeOf(err) != "E_TARGET_UNKNOWN" {
		t.Errorf("a slip of the finger: %v", err)
	}
}

// TestLockedOut: who is locked does not come in, and is told so; nobody locks themselves.
func TestLockedOut(t *testing.T) {
	s := newSite(t)
	key := s.enrolled("bob")
	hello := func() frame.Code {
		p := frame.Peer{Transport: "quic", Remote: netip.MustParseAddrPort("192.0.2.1:5")}
		_, err := s.Admit(t.Context(), &frame.Hello{Device: key}, &p)
		return codeOf(err)
	}
	if code := hello(); code != "" {
		t.Fatalf("before: %s", code)
	}
	ann := call{s.request("POST", "locks"), s.Gateway, s.peer}
	if _, err := ann.lock(api.Lock{Kind: "user", Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	if code := hello(); code != "E_LOCKED" {
		t.Errorf("bob's HELLO: %q", code)
	}
	if err := s.Unlock(t.Context(), auth.LockUser, "carol"); err == nil {
		t.Error("root takes off a lock that is not there")
	}
	if err := s.Unlock(t.Context(), auth.LockUser, "bob"); err != nil || hello() != "" {
		t.Errorf("root has taken the lock off: %v", err)
	}
	unlocked := func(e audit.Event) bool {
		return e.Kind == audit.Unlocked && e.By == "root" && e.User == "bob" && e.Object == "user bob"
	}
	if !slices.ContainsFunc(s.book.all(), unlocked) {
		t.Errorf("written: %+v", s.book.all())
	}
	s.Banner = "For work only."
	s.SetPolicy(s.parse("motd: Closed on Sunday.\n" + siteAccess))
	w, err := s.Admit(t.Context(), &frame.Hello{Device: key}, &frame.Peer{Transport: "quic", Remote: s.peer.Remote})
	if err != nil || w.Notice != "For work only. Closed on Sunday." {
		t.Errorf("told %+v, %v", w, err)
	}
	for _, l := range []api.Lock{{Kind: "user", Name: "ann"}, {Kind: "device", Name: s.peer.Device}} {
		if _, err := ann.lock(l); codeOf(err) != "E_USAGE" {
			t.Errorf("ann locks %s %s: %v", l.Kind, l.Name, err)
		}
	}
}
