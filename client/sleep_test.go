package client

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// After a sleep the agent does not trust a session that nobody uses.
func TestAgentAfterSleep(t *testing.T) {
	home, _ := OpenHome(filepath.Join(t.TempDir(), "home"))
	profile := Profile{Name: "bastion", Address: "127.0.0.1:1", Trust: Trust{Kind: TrustSystem}, Identity: [][]byte{bytes.Repeat([]byte{1}, 32)}}
	if err := home.put(profile, true); err != nil {
		t.Fatal(err)
	}
	a := &Agent{Home: home, sessions: map[sessionKey]*held{}, retired: map[*held]struct{}{}}
	_, stamp, err := home.signIn("bastion")
	if err != nil {
		t.Fatal(err)
	}
	hold := func(mode transport.Mode, flows int) *held {
		h := &held{profile: &profile, stamp: stamp, flows: flows, used: time.Now(), direct: newDirect(&profile, nil, frame.Hello{}, Options{})}
		h.life, h.cancel = context.WithCancelCause(context.Background())
		a.sessions[sessionKey{"bastion", mode, ""}] = h
		return h
	}
	hold(transport.QUIC, 0)
	busy := hold(transport.Auto, 1)
	for range 2 {
		a.sweep(a.slept())
	}
	if len(a.sessions) != 2 {
		t.Fatalf("%d sessions are left", len(a.sessions))
	}
	a.awake = a.awake.Add(-time.Hour)
	a.sweep(a.slept())
	if len(a.sessions) != 1 || len(a.retired) != 0 {
		t.Errorf("%d sessions are left, %d are being closed", len(a.sessions), len(a.retired))
	}

	// Signed out: nothing may begin, and what is under way is told why.
	if err := home.Forget("bastion"); err != nil {
		t.Fatal(err)
	}
	a.sweep(false)
	if cause := Explain(context.Cause(busy.life)); len(a.sessions) != 0 || cause.Code != frame.Auth || cause.Sentence != "signed out of bastion" {
		t.Errorf("%d sessions are left, %+v", len(a.sessions), cause)
	}
	a.end(busy)
	if len(a.retired) != 0 {
		t.Error("a session without flows is not closed")
	}
}
