package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/transport"
)

// TestTokenRefresh: a command that runs for longer than its access token is good gets another one, and nobody notices; so
// does one that comes with a token of before. When the sign-in has ended no token brings anybody in, and there is no other.
func TestTokenRefresh(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Node process")
	}
	const life = 2 * time.Second
	e := newEntrance(t, "token: "+life.String())
	home := e.login("ann", func(b *browser) { b.atProvider("ann") })
	p, err := home.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home.Dir(), p.Name+".token")
	token := func() []byte {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			t.Fatalf("%q, %v", text, err)
		}
		return text
	}
	// Over HTTPS, where each flow is a connection that shows the token.
	dialer := func() *client.Direct {
		t.Helper()
		d, err := client.NewDirect(home, p, client.Options{Transport: transport.HTTPS, Notice: func(line string) { t.Errorf("the person is told %q", line) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	running := dialer()
	stays := e.opens(running, "demo-1")
	first, got := token(), time.Now()
	for seen := [][]byte{first}; len(seen) < 3 || time.Since(got) < life+time.Second; { // until the first has surely expired
		if time.Since(got) > 30*life {
			t.Fatalf("%d tokens in %v", len(seen), time.Since(got))
		}
		e.opens(running, "demo-1").Close()
		if now := token(); !bytes.Equal(now, seen[len(seen)-1]) {
			seen = append(seen, now)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := stays.Write([]byte("SSH-2.0-test\r\n")); err != nil {
		t.Errorf("the flow of before: %v", err)
	}

	expired := func() {
		t.Helper()
		if err := os.WriteFile(file, first, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expired()
	e.opens(running, "demo-1").Close()
	if bytes.Equal(token(), first) {
		t.Error("a running command that shows an expired token gets no other")
	}
	expired()
	e.opens(dialer(), "demo-1").Close()
	last := token()
	if bytes.Equal(last, first) {
		t.Error("a new command that shows an expired token gets no other")
	}

	root := e.root()
	if ended, err := client.NewAPI(root).EndSignIns(t.Context(), api.EndSignIns{User: "ann"}); err != nil || len(ended) != 1 {
		t.Fatalf("%+v, %v", ended, err)
	}
	e.ends(stays, "E_SIGNED_OUT", "your sign-in has ended")
	e.refused(running, "demo-1", "E_SIGNED_OUT") // with the last token, which may be good for a while
	if !bytes.Equal(token(), last) {
		t.Error("who has no sign-in any more gets a token")
	}
	expired()
	e.refused(dialer(), "demo-1", "E_SIGNED_OUT")
	if !bytes.Equal(token(), first) {
		t.Error("who has no sign-in any more gets a token for an expired one")
	}
}
