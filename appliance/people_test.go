package appliance

import (
	"errors"
	"testing"

	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// TestChangeAccount: what somebody changes about their account is written before, or does not happen.
func TestChangeAccount(t *testing.T) {
	s := newSite(t)
	done := 0
	change := func(fault error) error {
		return s.ChangeAccount("ann", "192.0.2.1", "passkey added", "Phone", func() error {
			done++
			return fault
		})
	}
	if err := change(nil); err != nil {
		t.Fatal(err)
	}
	if err := change(auth.ErrControlDown); !errors.Is(err, auth.ErrControlDown) {
		t.Error(err)
	}
	written := s.book.all()
	if len(written) != 3 || done != 2 {
		t.Fatalf("%d done, written %+v", done, written)
	}
	for i, code := range []string{"", "", auth.ErrControlDown.Code} {
		if e := written[i]; e.Kind != audit.AccountChanged || e.User != "ann" || e.By != "ann" || e.Source != "192.0.2.1" || e.Object != "Phone" || e.Detail["what"] != "passkey added" || e.Code != code {
			t.Errorf("%d: %+v", i, e)
		}
	}
	s.book.refuse(errors.New("the disk is full"))
	if err := change(nil); codeOf(err) != "E_AUDIT" || done != 2 {
		t.Errorf("%v, %d done", err, done)
	}
	s.book.refuse(nil)
	if err := s.Locks.Lock(t.Context(), auth.Lock{Kind: auth.LockUser, Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	if err := change(nil); err == nil || done != 2 {
		t.Errorf("who is locked: %v, %d done", err, done)
	}
}

// TestLeaveOthers: a person is signed out everywhere but on one device, and nobody else is.
func TestLeaveOthers(t *testing.T) {
	s := newSite(t)
	here, there, bobs := auth.DeviceID(s.enrolled("ann")), auth.DeviceID(s.enrolled("ann")), auth.DeviceID(s.enrolled("bob"))
	good := func(id string) bool {
		_, err := s.reg.Lookup(id)
		return err == nil
	}
	if err := s.LeaveOthers(t.Context(), frame.Peer{User: "ann", Device: here}); err != nil || !good(here) || good(there) || !good(bobs) {
		t.Errorf("%v: here %v, there %v, bob's %v", err, good(here), good(there), good(bobs))
	}
	if err := s.LeaveOthers(t.Context(), frame.Peer{User: "ann"}); err != nil || good(here) || !good(bobs) {
		t.Errorf("%v: here %v, bob's %v", err, good(here), good(bobs))
	}
}
