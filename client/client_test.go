package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/client"
	"sallyport/client/clienttest"
	"sallyport/frame"
	"sallyport/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var modes = []transport.Mode{transport.QUIC, transport.HTTPS, transport.Auto}

// signedIn is a new home that has logged in to a.
func signedIn(t *testing.T, a *clienttest.Appliance) client.Home {
	t.Helper()
	home, err := client.OpenHome(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile}); err != nil {
		t.Fatal(err)
	}
	return home
}

func dialer(t *testing.T, home client.Home, o client.Options) *client.Direct {
	t.Helper()
	p, err := home.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	d, err := client.NewDirect(home, p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func echo(target string) frame.OpenRequest { return frame.OpenRequest{Target: target, Protocol: "ssh"} }

func TestLogin(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	for _, mode := range modes {
		for _, how := range []client.LoginOptions{
			{CAFile: a.CAFile},
			{Fingerprint: a.Fingerprint},
			{Fingerprint: strings.ToUpper(strings.TrimPrefix(a.Fingerprint, "sha256:"))},
		} {
			home, _ := client.OpenHome(filepath.Join(t.TempDir(), "home"))
			how.URL, how.Code, how.Device, how.Transport = "https://"+a.Address+"/", clienttest.Code, "my laptop", mode
			p, err := client.Login(t.Context(), home, how)
			if err != nil {
				t.Fatalf("%s: %v", mode, err)
			}
			kept, err := home.Profile(p.Name)
			if err != nil || kept.User != clienttest.User || kept.Address != a.Address ||
				!bytes.Equal(kept.Identity[0], a.Identity.Public().(ed25519.PublicKey)) {
				t.Errorf("kept %+v, %v", kept, err)
			}
			if got := a.Hellos()[len(a.Hellos())-1].Name; got != "my laptop" {
				t.Errorf("the device is called %q", got)
			}
			me, err := client.NewAPI(dialer(t, home, client.Options{Transport: mode})).Me(t.Context())
			if err != nil || me.User != clienttest.User || mode != transport.Auto && me.Transport != string(mode) {
				t.Errorf("me is %+v, %v", me, err)
			}
		}
	}
}

func TestLoginFailureKeepsNothing(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home, _ := client.OpenHome(filepath.Join(t.TempDir(), "home"))
	_, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: "wrong", CAFile: a.CAFile})
	if f := client.Explain(err); f.Code != "E_CODE_UNKNOWN" || f.Exit() != 10 {
		t.Errorf("got %+v", f)
	}
	if left, _ := os.ReadDir(home.Dir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// QUIC has used the code up, HTTPS hears so first: the device is enrolled all the same, once.
func TestLoginRace(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home, _ := client.OpenHome(t.TempDir())
	login := func() error {
		_, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.OnceCode, CAFile: a.CAFile})
		return err
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	if me, err := client.NewAPI(dialer(t, home, client.Options{})).Me(t.Context()); err != nil || me.Device != "dev-1" {
		t.Errorf("got %+v, %v", me, err)
	}
	if f := client.Explain(login()); f.Code != "E_CODE_USED" {
		t.Errorf("got %+v", f)
	}
}

func TestFiles(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	list, err := os.ReadDir(home.Dir())
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, e := range list {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if info, _ := os.Stat(home.Dir()); info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v", info.Mode())
	}

	p, _ := home.Profile("")
	os.Chmod(home.Dir(), 0o770)
	_, err = client.NewDirect(home, p, client.Options{})
	if f := client.Explain(err); f.Exit() != 10 || !strings.Contains(f.Sentence, "can be changed by others") {
		t.Errorf("got %+v", f)
	}
	os.Chmod(home.Dir(), 0o700)

	key := filepath.Join(home.Dir(), p.Name+".key")
	os.Chmod(key, 0o640)
	_, err = client.NewDirect(home, p, client.Options{})
	if f := client.Explain(err); f.Exit() != 10 || !strings.Contains(f.Sentence, key+" can be read by others") {
		t.Errorf("got %+v", f)
	}
	os.WriteFile(key, []byte("nonsense"), 0o600)
	os.Chmod(key, 0o600)
	if _, err = client.NewDirect(home, p, client.Options{}); !strings.Contains(client.Explain(err).Sentence, "is not a PEM private key") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(home.Dir(), "profiles.json")
	for _, bad := range []string{`{`, `{"appliances":[{"name":"../x"}]}`, `{"appliances":[{"name":"x","address":"y:1","identity":["AAAA"]}]}`} {
		os.WriteFile(file, []byte(bad), 0o600)
		_, err = home.Profile("")
		if f := client.Explain(err); f.Exit() != 10 || !strings.HasPrefix(f.Sentence, file+" cannot be used: ") || f.Hint == "" {
			t.Errorf("%s: got %+v", bad, f)
		}
	}
}

func TestCertificates(t *testing.T) {
	day := 24 * time.Hour
	now := time.Now()
	for name, tt := range map[string]struct {
		config clienttest.Config
		pin    bool
		code   frame.Code
		want   string
	}{
		"unknown":     {clienttest.Config{}, false, "E_APPLIANCE_CERT", "is not known; its fingerprint is sha256:"},
		"other pin":   {clienttest.Config{}, true, "E_APPLIANCE_CERT", "another key than the pinned one"},
		"expired":     {clienttest.Config{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)}, false, "E_APPLIANCE_CERT", "expired at"},
		"clock ahead": {clienttest.Config{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day), Now: now.Add(-36 * time.Hour)}, false, "E_CLOCK", "clock differs by 36 h: "},
		"clock back":  {clienttest.Config{NotBefore: now.Add(day), NotAfter: now.Add(2 * day), Now: now.Add(36 * time.Hour)}, false, "E_CLOCK", "clock differs by 36 h: "},
		"early":       {clienttest.Config{NotBefore: now.Add(day), NotAfter: now.Add(2 * day)}, false, "E_APPLIANCE_CERT", "valid only from"},
	} {
		t.Run(name, func(t *testing.T) {
			a := clienttest.Start(t, tt.config)
			for _, mode := range modes {
				home, _ := client.OpenHome(t.TempDir())
				o := client.LoginOptions{URL: a.Address, Code: clienttest.Code, Options: client.Options{Transport: mode}}
				switch {
				case tt.pin:
					o.Fingerprint = strings.Repeat("ab", 32)
				case name != "unknown":
					o.CAFile = a.CAFile
				}
				_, err := client.Login(t.Context(), home, o)
				if f := client.Explain(err); f.Code != tt.code || f.Exit() != 14 || !strings.Contains(f.Sentence, tt.want) {
					t.Errorf("%s: got %+v", mode, f)
				}
			}
		})
	}
}

func TestOtherNames(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{Names: []string{"bastion.example"}})
	home, _ := client.OpenHome(t.TempDir())
	_, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile})
	if f := client.Explain(err); f.Code != "E_APPLIANCE_CERT" || !strings.Contains(f.Sentence, "is for other names: bastion.example") {
		t.Errorf("got %+v", f)
	}
	if _, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, Fingerprint: a.Fingerprint}); err != nil {
		t.Errorf("a pinned key does not need a name: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	next := bytes.Repeat([]byte{7}, 32)
	a := clienttest.Start(t, clienttest.Config{Successors: [][]byte{next}})
	home := signedIn(t, a)
	p, _ := home.Profile("")
	if len(p.Identity) != 2 || !bytes.Equal(p.Identity[1], next) {
		t.Fatalf("pinned %x", p.Identity)
	}

	// A successor that a pinned key names later is pinned too.
	file := filepath.Join(home.Dir(), "profiles.json")
	b, _ := os.ReadFile(file)
	only := bytes.Replace(b, []byte(",\n        \"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\""), nil, 1)
	if bytes.Equal(only, b) {
		t.Fatalf("no successor in %s", b)
	}
	os.WriteFile(file, only, 0o600)
	if _, err := client.NewAPI(dialer(t, home, client.Options{})).Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(after, b) {
		t.Errorf("kept %s", after)
	}

	// Another appliance with a certificate that passes is still another appliance.
	p.Identity = [][]byte{next}
	for _, mode := range modes {
		d, err := client.NewDirect(home, p, client.Options{Transport: mode})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		_, err = client.NewAPI(d).Me(t.Context())
		if f := client.Explain(err); f.Code != "E_APPLIANCE_CERT" || f.Exit() != 14 || !strings.Contains(f.Sentence, "is not the appliance that this device logged in to") {
			t.Errorf("%s: got %+v", mode, f)
		}
	}
}

// A successor that signs takes the place of the key that named it, which is no identity of the appliance from then on.
func TestSuccessorReplacesThePin(t *testing.T) {
	former, next := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	a := clienttest.Start(t, clienttest.Config{Successors: [][]byte{next}})
	home := signedIn(t, a)
	p, err := home.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	now := p.Identity[0]
	p.Identity = [][]byte{former, now} // as it was before the change of keys
	d, err := client.NewDirect(home, p, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := client.NewAPI(d).Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, err := home.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range [][][]byte{p.Identity, kept.Identity} {
		if want := [][]byte{now, next}; !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("pinned %x, not %x", got, want)
		}
	}
}

func TestNoPath(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	a.Stop()
	_, _, err := dialer(t, home, client.Options{Transport: transport.HTTPS}).Open(t.Context(), echo("echo"), nil)
	f := client.Explain(err)
	if f.Code != "E_NO_PATH" || f.Exit() != 14 || len(f.Tried) != 1 || !strings.Contains(f.Tried[0], "https to "+a.Address+": connect: connection refused after ") {
		t.Errorf("got %+v", f)
	}
}

// A session that died between two commands is replaced, and nobody hears of it.
func TestReconnect(t *testing.T) {
	for _, mode := range modes {
		first := clienttest.Start(t, clienttest.Config{})
		home := signedIn(t, first)
		d := dialer(t, home, client.Options{Transport: mode})
		if err := client.Proxy(t.Context(), d, echo("echo"), strings.NewReader("x"), io.Discard); err != nil {
			t.Fatal(err)
		}
		first.Stop()
		second := clienttest.Start(t, clienttest.Config{After: first})
		if err := client.Proxy(t.Context(), d, echo("echo"), strings.NewReader("x"), io.Discard); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		second.Stop()
		clienttest.Start(t, clienttest.Config{Listen: first.Address})
		err := client.Proxy(t.Context(), d, echo("echo"), strings.NewReader("x"), io.Discard)
		if f := client.Explain(err); f.Code != "E_APPLIANCE_CERT" {
			t.Errorf("%s: somebody else at the same address: %+v", mode, f)
		}
	}
}

// A flow whose appliance goes away ends with status 17.
func TestLost(t *testing.T) {
	for _, mode := range modes {
		a := clienttest.Start(t, clienttest.Config{})
		d := dialer(t, signedIn(t, a), client.Options{Transport: mode})
		in, feed := io.Pipe()
		out, outWriter := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- client.Proxy(t.Context(), d, echo("echo"), in, outWriter) }()
		go feed.Write([]byte("x"))
		out.Read(make([]byte, 1))
		a.Stop()
		if f := client.Explain(<-done); f.Exit() != 17 {
			t.Errorf("%s: got %+v", mode, f)
		}
	}
}

func TestProxyHalfClose(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	for _, mode := range modes {
		d := dialer(t, home, client.Options{Transport: mode})
		var out bytes.Buffer
		sent := bytes.Repeat([]byte("sallyport"), 100_000)
		if err := client.Proxy(t.Context(), d, echo("count"), bytes.NewReader(sent), &out); err != nil {
			t.Error(err)
		}
		if want := fmt.Sprintf("%d bytes, <nil>\n", len(sent)); out.String() != want {
			t.Errorf("%s: got %q, want %q", mode, out.String(), want)
		}
		out.Reset()
		if err := client.Proxy(t.Context(), d, echo("echo"), bytes.NewReader(sent), &out); err != nil || !bytes.Equal(out.Bytes(), sent) {
			t.Errorf("%s: %d bytes came back, %v", mode, out.Len(), err)
		}
	}
}

func TestProxyEnds(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	d := dialer(t, signedIn(t, a), client.Options{})
	for target, want := range map[string]frame.Code{"reset": "E_TARGET_RESET", "denied": "E_DENIED", "refused": "E_REFUSED"} {
		in, feed := io.Pipe()
		go feed.Write([]byte("x")) // and no end
		err := client.Proxy(t.Context(), d, echo(target), in, io.Discard)
		if f := client.Explain(err); f.Code != want || f.Exit() != want.Exit() {
			t.Errorf("%s: got %+v", target, f)
		}
		in.Close()
	}

	// What comes before the reason is not lost.
	in, feed := io.Pipe()
	out, outWriter := io.Pipe()
	go func() {
		got := make([]byte, 7)
		if io.ReadFull(out, got); string(got) != "so far " {
			t.Errorf("got %q", got)
		}
		feed.Write([]byte("x"))
	}()
	if f := client.Explain(client.Proxy(t.Context(), d, echo("reset"), in, outWriter)); f.Code != "E_TARGET_RESET" {
		t.Errorf("got %+v", f)
	}

	ctx, cancel := context.WithCancel(t.Context())
	in, _ = io.Pipe()
	time.AfterFunc(50*time.Millisecond, cancel)
	if f := client.Explain(client.Proxy(ctx, d, echo("echo"), in, io.Discard)); f.Exit() != 130 {
		t.Errorf("after an interrupt: %+v", f)
	}
}

// Who reads no more has left: their last words arrive, the target hears their end, and what it still says is dropped.
func TestProxyLeft(t *testing.T) {
	type heard struct {
		words string
		err   error
	}
	ends := make(chan heard, 1)
	talker := func(c net.Conn) {
		var talk sync.WaitGroup
		defer talk.Wait()
		end := make(chan struct{})
		defer close(end)
		talk.Go(func() {
			for {
				c.Write([]byte("and another thing; "))
				select {
				case <-time.After(5 * time.Millisecond):
				case <-end:
					return
				}
			}
		})
		words, err := io.ReadAll(c)
		ends <- heard{string(words), err}
	}
	a := clienttest.Start(t, clienttest.Config{Serve: map[string]func(net.Conn){"talker": talker}})
	home := signedIn(t, a)
	leaves := func(mode transport.Mode, last func(io.WriteCloser)) (heard, error) {
		t.Helper()
		d := dialer(t, home, client.Options{Transport: mode})
		out, outWriter, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		in, feed := io.Pipe()
		defer in.Close()
		done := make(chan error, 1)
		go func() { done <- client.Proxy(t.Context(), d, echo("talker"), in, outWriter) }()
		out.Read(make([]byte, 1))
		out.Close()
		last(feed)
		return <-ends, <-done
	}
	for _, mode := range modes {
		got, err := leaves(mode, func(w io.WriteCloser) {
			time.Sleep(50 * time.Millisecond) // the talker says something that nobody reads
			io.WriteString(w, "last words")
			w.Close()
		})
		if err != nil || got != (heard{"last words", nil}) {
			t.Errorf("%s: %v; the talker heard %+v", mode, err, got)
		}
	}
	got, err := leaves(transport.QUIC, func(io.WriteCloser) {})
	var end *frame.StreamError
	if client.Explain(err).Exit() != 130 || !errors.As(got.err, &end) || end.Code != frame.Closed {
		t.Errorf("a stdin without an end: %v; the talker heard %+v", err, got)
	}
}

func TestNotice(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	var said []string
	d := dialer(t, home, client.Options{Notice: func(s string) { said = append(said, s) }})
	if err := client.Proxy(t.Context(), d, echo("noticed"), strings.NewReader(""), io.Discard); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(said) != "[this target is recorded]" {
		t.Errorf("said %q", said)
	}
}

func TestTunnel(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	for _, mode := range modes {
		d := dialer(t, home, client.Options{Transport: mode})
		ctx, cancel := context.WithCancel(t.Context())
		l, err := client.ListenLocal(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		tunnel := client.Tunnel{Dialer: d, Request: echo("echo"), Failed: func(err error) { t.Errorf("%s: %v", mode, err) }}
		var served, conns sync.WaitGroup
		served.Go(func() { tunnel.Serve(ctx, l) })
		for i := range 20 {
			conns.Go(func() {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				sent := bytes.Repeat([]byte{byte(i)}, 50_000)
				c.Write(sent)
				c.(*net.TCPConn).CloseWrite()
				if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%s: %d of %d bytes, %v", mode, len(got), len(sent), err)
				}
			})
		}
		conns.Wait()
		cancel()
		served.Wait()
	}
}

func TestTunnelRefused(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	d := dialer(t, signedIn(t, a), client.Options{})
	failed := make(chan error, 1)
	l, err := client.ListenLocal(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	tunnel := client.Tunnel{Dialer: d, Request: echo("denied"), Failed: func(err error) { failed <- err }}
	done := make(chan error)
	go func() { done <- tunnel.Serve(context.Background(), l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); len(b) > 0 {
		t.Errorf("read %q, %v", b, err)
	}
	if f := client.Explain(<-failed); f.Code != "E_DENIED" {
		t.Errorf("got %+v", f)
	}
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"https://bastion.example", "bastion.example:443"},
		{"https://bastion.example/", "bastion.example:443"},
		{"bastion.example:8443", "bastion.example:8443"},
		{"bastion.example", "bastion.example:443"},
		{"[::1]:9", "[::1]:9"},
		{"::1", "[::1]:443"},
		{"10.0.0.1", "10.0.0.1:443"},
		{"http://bastion.example", "E_USAGE"},
		{"https://ann@bastion.example", "E_USAGE"},
		{"https://bastion.example/x", "E_USAGE"},
		{"https://bastion.example?code=x", "E_USAGE"},
		{"bastion.example:0", "E_PORT"},
		{"bastion.example:65536", "E_PORT"},
		{"", "E_USAGE"},
	} {
		got, err := client.ParseAppliance(tt.in)
		if err != nil {
			got = string(client.Explain(err).Code)
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.in, got, tt.want)
		}
	}
	for _, tt := range []struct{ in, want string }{
		{"db-1", "db-1 0"}, {"db-1:22", "db-1 22"}, {"10.0.0.5:22", "10.0.0.5 22"}, {"fd00::1", "fd00::1 0"}, {"[fd00::1]:22", "fd00::1 22"},
		{"[fd00::1]", "fd00::1 0"}, {"2852039166", "2852039166 0"}, {"a_b.c", "a_b.c 0"},
		{"db-1:0", "E_PORT"}, {"db-1:65536", "E_PORT"}, {"db-1:-1", "E_PORT"}, {"db-1:22abc", "E_PORT"}, {"db-1:", "E_PORT"}, {"db-1:+22", "E_PORT"},
		{"fe80::1%eth0", "E_NAME"}, {"[fe80::1%25eth0]:22", "E_NAME"}, {"-oProxyCommand=x", "E_NAME"}, {"a b", "E_NAME"}, {"a;b", "E_NAME"},
		{"a\x1b[31m", "E_NAME"}, {"", "E_NAME"}, {"[::1", "E_NAME"}, {"[::1]x", "E_NAME"}, {"'", "E_NAME"}, {"ann\u202e", "E_NAME"},
	} {
		name, port, err := client.ParseTarget(tt.in)
		got := fmt.Sprintf("%s %d", name, port)
		if err != nil {
			got = string(client.Explain(err).Code)
			if e := client.Explain(err).Exit(); e != 2 {
				t.Errorf("%q: exit %d", tt.in, e)
			}
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.in, got, tt.want)
		}
	}
}
