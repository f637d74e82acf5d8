package client

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sallyport/frame"
)

// TestGrants: the latest grant of each flow is kept, for its owner's eyes, and few of them; it goes with the sign-in.
func TestGrants(t *testing.T) {
	h := Home{dir: t.TempDir()}
	now := time.Now()
	ssh := frame.OpenRequest{Target: "db-1", Protocol: "ssh"}
	given := func(n byte) *frame.Opened { return &frame.Opened{Grant: bytes.Repeat([]byte{n}, frame.GrantSize)} }
	shown := func(req frame.OpenRequest) byte {
		if g := h.withGrant("work", req).Grant; len(g) > 0 {
			return g[0]
		}
		return 0
	}
	if shown(ssh) != 0 {
		t.Error("a grant out of nothing")
	}
	h.keepGrant("work", ssh, given(1), now)
	h.keepGrant("work", ssh, given(2), now.Add(grantFresh/2)) // costs no write
	if got := shown(ssh); got != 1 {
		t.Errorf("grant %d, want the first", got)
	}
	h.keepGrant("work", ssh, given(3), now.Add(2*grantFresh))
	h.keepGrant("work", ssh, &frame.Opened{}, now.Add(4*grantFresh)) // by a grant: it stays
	if got := shown(ssh); got != 3 {
		t.Errorf("grant %d, want the latest", got)
	}
	if got := shown(frame.OpenRequest{Target: "db-1", Protocol: "rdp"}); got != 0 {
		t.Errorf("grant %d of another protocol", got)
	}
	info, err := os.Stat(filepath.Join(h.dir, "work.grants"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for i := range 2 * maxGrants {
		h.keepGrant("work", frame.OpenRequest{Target: strconv.Itoa(i), Protocol: "ssh"}, given(4), now)
	}
	if got := len(h.grants("work")); got != maxGrants {
		t.Errorf("%d are kept, want %d", got, maxGrants)
	}
	if err := h.Forget("work"); err != nil || len(h.grants("work")) != 0 {
		t.Errorf("after logout: %d, %v", len(h.grants("work")), err)
	}
}
