package files

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/frame"
)

// TestLimits: no more is under way at once than the package says, and what is beyond the rules ends the flow.
func TestLimits(t *testing.T) {
	g := newTarget(t)
	g.write(t, noise(4<<20, 8), "f")
	get := request{Op: "download", Path: []byte(g.path("f"))}
	p := begin(t, g, "root", "download", "upload")
	for range maxTransfers {
		p.ask(get).answer()
	}
	if _, code := p.do(get); code != "E_LIMIT" {
		t.Errorf("a transfer too many: %q", code)
	}
	p.must(request{Op: "stat", Path: []byte(g.dir)})
	for name, break_ := range map[string]func(p *person) []byte{
		"an id twice": func(p *person) []byte {
			p.ask(get).answer()
			b, _ := appendJSON(nil, kindRequest, request{ID: 1, Op: "stat", Path: []byte("/")})
			return b
		},
		"an upload that begins where it was not asked to": func(p *person) []byte {
			p.ask(request{Op: "upload", Path: []byte(g.path("u")), Size: 8 << 20, Clash: clashRefuse}).answer()
			return appendData(nil, 1, 7, nil)
		},
		"credit for an upload": func(p *person) []byte {
			p.ask(request{Op: "upload", Path: []byte(g.path("v")), Size: 8 << 20, Clash: clashRefuse}).answer()
			return appendCredit(nil, 1, 7)
		},
		"nonsense": func(*person) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") },
	} {
		p := begin(t, g, "root", "download", "upload")
		p.write(break_(p))
		select {
		case <-p.over:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the flow goes on", name)
		}
		if c := code(p.leave()); c != frame.FrameBad || code(p.near.end) != c {
			t.Errorf("%s: %q", name, c)
		}
	}
}

// TestCredit: data of an upload that there is no room for is refused, which ends the flow as in TestLimits.
func TestCredit(t *testing.T) {
	piece := make([]byte, window)
	b := newInbox(8 * window)
	if err := b.put(0, nil); code(err) != frame.Credit {
		t.Errorf("before it was asked for: %v", err)
	}
	b.offer(0)
	if err := b.put(0, piece); err != nil {
		t.Fatal(err)
	}
	if n, limit, err := b.take(t.Context(), piece[:100]); n != 100 || limit != window+100 || err != nil {
		t.Errorf("%d bytes, up to %d: %v", n, limit, err)
	}
	if err := b.put(window, piece[:100]); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	if err := b.put(window+100, piece[:1]); code(err) != frame.Credit {
		t.Errorf("beyond it: %v", err)
	}
}

// TestLimitOfPerson: a person has so many transfers on all sides together, and may begin another when one is over.
func TestLimitOfPerson(t *testing.T) {
	g := newTarget(t)
	g.transfers = new(Transfers)
	g.write(t, noise(4<<20, 8), "f")
	get := request{Op: "download", Path: []byte(g.path("f"))}
	var under []*exchange
	for range maxOfPerson / maxTransfers {
		p := begin(t, g, "root", "download")
		for range maxTransfers {
			e := p.ask(get)
			if _, code := e.answer(); code != "" {
				t.Fatal(code)
			}
			under = append(under, e)
		}
	}
	p := begin(t, g, "root", "download")
	if a, code := p.do(get); code != "E_LIMIT" {
		t.Errorf("one too many: %v", a)
	}
	p.must(request{Op: "stat", Path: []byte(g.dir)})
	if !g.transfers.enter("bob") {
		t.Error("another person is counted with them")
	}
	under[0].p.cancel(under[0].id, false)
	if _, code := under[0].answer(); code != "E_CANCELLED" {
		t.Errorf("cancelled: %q", code)
	}
	if a, code := p.do(get); code != "" {
		t.Errorf("in the place of another: %v", a)
	}
}

// TestFailures: who may not, what has no room, and a server without SFTP are sentences that say what to do.
func TestFailures(t *testing.T) {
	g := newTarget(t)
	secret := g.write(t, []byte("x"), "secret")
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	p := begin(t, g, "nobody", "upload", "download")
	for _, r := range []request{
		{Op: "download", Path: []byte(secret)},
		{Op: "list", Path: []byte("/root")},
		{Op: "mkdir", Path: []byte("/etc/x")},
		{Op: "remove", Path: []byte("/etc/passwd")},
		{Op: "rename", Path: []byte("/etc/passwd"), To: []byte("/etc/x")},
	} {
		if _, code := p.do(r); code != "E_FILE_ACCESS" {
			t.Errorf("%s %s: %q", r.Op, r.Path, code)
		}
	}
	if _, code := p.upload(request{Op: "upload", Path: []byte("/etc/x"), Size: 1, Clash: clashRefuse}, strings.NewReader("x"), 0); code != "E_FILE_ACCESS" {
		t.Errorf("upload: %q", code)
	}

	small := g.path("small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	p = begin(t, g, "root", "upload")
	if _, code := p.do(request{Op: "upload", Path: []byte(g.path("small", "f")), Size: 5 << 20, Clash: clashRefuse}); code != "E_FILE_SPACE" {
		t.Errorf("no room: %q", code)
	}
	e := p.ask(request{Op: "upload", Path: []byte(g.path("small", "f")), Size: 3 << 20, Clash: clashRefuse})
	e.answer()
	g.write(t, make([]byte, 3<<20+900<<10), "small", "other")
	at := int64(0)
	for limit, end := int64(window), false; !end; {
		for ; at < 3<<20 && at < limit; at += 64 << 10 {
			p.write(appendData(nil, e.id, at, make([]byte, 64<<10)))
		}
		r, err := e.receive()
		if err != nil {
			t.Fatal(err)
		}
		switch r.kind {
		case kindCredit:
			limit = r.offset
		case kindRequest:
			if code := codeIn(r.json); code != "E_FILE_SPACE" {
				t.Errorf("the room has gone: %v", r.json)
			}
			end = true
		}
	}

	p = serve(t, newServer(t, ""), "root", "upload")
	<-p.over
	if err := p.leave(); code(err) != "E_REFUSED" || code(p.near.end) != "E_REFUSED" {
		t.Errorf("without SFTP: %v", err)
	}
}

// TestGone: when the connection to the target ends, so does the flow, and says so.
func TestGone(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload")
	if _, code := p.upload(request{Op: "upload", Path: []byte(g.path("f")), Size: 8 << 20, Clash: clashRefuse}, bytes.NewReader(noise(8<<20, 9)), 4<<20); code != "" {
		t.Fatal(code)
	}
	p.client.Close()
	select {
	case <-p.over:
	case <-time.After(20 * time.Second):
		t.Fatal("the flow goes on")
	}
	if err := p.leave(); code(err) != "E_TARGET_RESET" || code(p.near.end) != "E_TARGET_RESET" {
		t.Errorf("%v", err)
	}
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], "E_TARGET_RESET") {
		t.Errorf("recorded %q", got)
	}
}
