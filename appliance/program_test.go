package appliance

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// party is a program that sends everybody in a session what one of them or the target says.
type party struct {
	serve func(context.Context, *Session) error // instead, if it is set

	mu       sync.Mutex
	sessions int // that are over
}

func (p *party) Protocol() string          { return policy.SSH }
func (p *party) Joins(program string) bool { return program == "guest" }

func (p *party) Serve(ctx context.Context, s *Session) error {
	defer func() { p.mu.Lock(); p.sessions++; p.mu.Unlock() }()
	if p.serve != nil {
		return p.serve(ctx, s)
	}
	var mu sync.Mutex
	var all []*Side
	say := func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, side := range all {
			side.Write(b)
		}
	}
	s.Go(func() {
		<-ctx.Done()
		s.Far.Close()
	})
	s.Go(func() { io.Copy(writer(say), s.Far) })
	for {
		side, err := s.Next(ctx)
		if err != nil {
			return nil
		}
		mu.Lock()
		all = append(all, side)
		mu.Unlock()
		s.Go(func() {
			io.Copy(s.Far, side)
			side.Close()
		})
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func partySite(t *testing.T) (*site, *party) {
	s := newSite(t)
	p := new(party)
	s.Programs = map[string]Program{"party": p, "guest": &party{}}
	s.target("10.0.0.5:22", func(c net.Conn) { io.Copy(c, c) }) // which is no SSH: the first bytes are the program's business
	return s, p
}

var ofParty = frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: "party"}

func (s *site) join(program string, session []byte) (*frame.Stream, *frame.Opened, error) {
	return s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: program, Session: session})
}

func hears(t *testing.T, f *frame.Stream, want string) {
	t.Helper()
	f.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f, got); string(got) != want || err != nil {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// TestProgram: several flows have one session, which outlives the one that began it and ends with the last.
func TestProgram(t *testing.T) {
	s, p := partySite(t)
	first, opened, err := s.open(ofParty)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	io.WriteString(first, "one")
	hears(t, first, "one")
	second, joined, err := s.join("party", opened.Session)
	if err != nil || !bytes.Equal(joined.Session, opened.Session) || bytes.Equal(joined.Flow, opened.Flow) {
		t.Fatalf("%+v, %v", joined, err)
	}
	defer second.Close()
	io.WriteString(second, "in")
	hears(t, first, "in")
	hears(t, second, "in")
	guest, _, err := s.join("guest", opened.Session)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	list, _ := s.sessions(s.peer, false)
	if len(list) != 3 || list[0].ID != list[1].ID || list[0].Program != "party" || list[2].Program != "guest" {
		t.Errorf("listed as %+v", list)
	}
	io.WriteString(guest, "two") // who has come last
	for _, f := range []*frame.Stream{first, second, guest} {
		hears(t, f, "two")
	}
	first.Close()
	s.until("the first has ended", func() bool { return s.live.count() == 2 })
	io.WriteString(guest, "three")
	hears(t, second, "three")
	guest.Close()
	second.Close()
	s.settle()
	if p.sessions != 1 || len(s.runs.byID) != 0 {
		t.Errorf("%d sessions have ended, %d are left", p.sessions, len(s.runs.byID))
	}
	if _, _, err := s.join("party", opened.Session); codeOf(err) != "E_SESSION_UNKNOWN" {
		t.Errorf("a session that is over is joined: %v", err)
	}
	opens := 0
	for _, e := range s.book.all() {
		if e.Kind == audit.FlowOpen {
			opens++
			if e.Detail["program"] == "" || e.Session != list[0].ID {
				t.Errorf("written as %+v", e)
			}
		}
	}
	if opens != 3 {
		t.Errorf("%d flows are in the audit log", opens)
	}
}

// TestProgramRefused: what there is not, and what is somebody else's, cannot be told apart.
func TestProgramRefused(t *testing.T) {
	s, _ := partySite(t)
	s.target("10.0.0.5:5432", func(c net.Conn) { io.Copy(c, c) })
	f, opened, err := s.open(ofParty)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name         string
		user, device string
		req          frame.OpenRequest
		code         frame.Code
	}{
		{"no such program", "ann", "dev-1", frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: "desktop"}, "E_NAME"},
		{"another protocol", "ann", "dev-1", frame.OpenRequest{Target: "db-1", Protocol: "tcp", Program: "party"}, "E_NAME"},
		{"no such target", "ann", "dev-1", frame.OpenRequest{Target: "db-9", Protocol: "ssh", Program: "party"}, "E_TARGET_UNKNOWN"},
		{"no such session", "ann", "dev-1", frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: "party", Session: random()}, "E_SESSION_UNKNOWN"},
		{"another's", "bob", "dev-1", frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: "party", Session: opened.Session}, "E_SESSION_UNKNOWN"},
		{"another device's", "ann", "dev-2", frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: "party", Session: opened.Session}, "E_SESSION_UNKNOWN"},
		{"another target's", "ann", "dev-1", frame.OpenRequest{Target: "named", Protocol: "ssh", Program: "party", Session: opened.Session}, "E_SESSION_UNKNOWN"},
	} {
		before := s.peer
		s.peer.User, s.peer.Device = c.user, c.device
		_, _, err := s.open(c.req)
		s.peer = before
		if reason, _ := frame.ReasonOf(err); reason.Code != c.code || c.code == "E_SESSION_UNKNOWN" && reason.Sentence != errNoSession.Sentence {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := s.live.count(); n != 1 {
		t.Errorf("%d flows are counted", n)
	}
}

// TestProgramEnds: what ends a right ends all flows of a session, and a session takes its flows with it.
func TestProgramEnds(t *testing.T) {
	told := frame.Refuse("E_DENIED", "wrong password", "try again")
	for name, c := range map[string]struct {
		serve func(context.Context, *Session) error
		end   func(s *site, id string)
		code  frame.Code
	}{
		"device": {nil, func(s *site, _ string) { s.EndDevice("dev-1", auth.ErrRevoked) }, frame.Code(auth.ErrRevoked.Code)},
		"policy": {nil, func(s *site, _ string) { s.SetPolicy(s.parse(strings.Replace(siteAccess, "[ann, bob]", "[bob]", 1))) }, "E_TARGET_UNKNOWN"},
		"channel": {nil, func(s *site, _ string) {
			s.SetPolicy(s.parse(siteAccess, `forbid (principal, action == Action::"upload", resource);`))
		}, "E_DENIED"},
		"kill": {nil, func(s *site, id string) {
			if ended, err := s.endSessions(s.peer, api.EndSessions{Sessions: []string{id}}); len(ended) != 2 || err != nil {
				s.t.Errorf("ended %+v, %v", ended, err)
			}
		}, "E_KILLED"},
		"locked person": {nil, func(s *site, _ string) {
			s.Locks.Lock(context.Background(), auth.Lock{Kind: auth.LockUser, Name: "ann"})
		}, "E_LOCKED"},
		"locked target": {nil, func(s *site, _ string) {
			s.Locks.Lock(context.Background(), auth.Lock{Kind: auth.LockTarget, Name: "db-1"})
		}, "E_LOCKED"},
		"drain":    {nil, func(s *site, _ string) { s.Drain(context.Background(), 20*time.Millisecond) }, frame.Draining},
		"error":    {after(func(*Session) error { return told }), nil, "E_DENIED"},
		"panic":    {after(func(*Session) error { panic("no") }), nil, frame.Internal},
		"worker":   {after(func(s *Session) error { s.Go(func() { panic("no") }); <-s.ctx.Done(); return nil }), nil, frame.Internal},
		"in order": {after(func(*Session) error { return nil }), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := partySite(t)
			p.serve = c.serve
			first, opened, err := s.open(ofParty)
			if err != nil {
				t.Fatal(err)
			}
			defer first.Close()
			second, _, err := s.join("party", opened.Session)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			io.WriteString(second, "go")
			if c.end != nil {
				hears(t, second, "go")
				go c.end(s, fmt.Sprintf("%x", opened.Session))
			}
			for _, f := range []*frame.Stream{first, second} {
				rest, err := io.ReadAll(f)
				if codeOf(err) != c.code || c.code == "" && err != nil {
					t.Errorf("ended with %v after %q, want %s", err, rest, c.code)
				}
				f.Close()
			}
			s.settle()
			if len(s.runs.byID) != 0 {
				t.Error("the session is still there")
			}
		})
	}
}

// after serves two sides until the second says something, and then does something.
func after(do func(*Session) error) func(context.Context, *Session) error {
	return func(ctx context.Context, s *Session) error {
		if _, err := s.Next(ctx); err != nil {
			return err
		}
		second, err := s.Next(ctx)
		if err != nil {
			return err
		}
		b := make([]byte, 2)
		if _, err := io.ReadFull(second, b); err != nil {
			return err
		}
		return do(s)
	}
}

// TestProgramGrant: a program may serve what a native client may not, without the channels that are denied.
func TestProgramGrant(t *testing.T) {
	s, p := partySite(t)
	s.SetPolicy(s.parse(siteAccess, `forbid (principal, action in [Action::"clipboard_out", Action::"download"], resource);`))
	grants := make(chan []string, 1)
	p.serve = func(ctx context.Context, s *Session) error {
		side, err := s.Next(ctx)
		if err == nil {
			grants <- slices.Concat(side.Grant.Channels, []string{"/"}, s.Grant.Channels)
		}
		return err
	}
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != policy.CodePortal {
		t.Errorf("a native client is let in: %v", err)
	}
	asks := url.Values{"target": {"db-1"}, "protocol": {"ssh"}}
	if _, err := s.grant(s.peer, asks); codeOf(reasonError(err)) != policy.CodePortal {
		t.Errorf("a native client would be let in: %v", err)
	}
	asks.Set("program", "party")
	if _, err := s.grant(s.peer, asks); err != nil {
		t.Errorf("the program would not be: %v", err)
	}
	asks.Set("program", "none")
	if _, err := s.grant(s.peer, asks); codeOf(err) != "E_NAME" {
		t.Errorf("a program that there is not: %v", err)
	}
	f, _, err := s.open(ofParty)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := strings.Join(<-grants, " "); got != "clipboard_in upload / clipboard_in upload" {
		t.Errorf("granted %s", got)
	}
}

// TestProgramLifetime: who joins a session does not prolong it.
func TestProgramLifetime(t *testing.T) {
	s, _ := partySite(t)
	s.SetPolicy(s.parse(strings.Replace(siteAccess, "lifetime: 1h", "lifetime: 300ms", 1)))
	begun := time.Now()
	first, opened, err := s.open(ofParty)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	time.Sleep(150 * time.Millisecond)
	second, _, err := s.join("party", opened.Session)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := io.ReadAll(second); codeOf(err) != "E_LIFETIME" || time.Since(begun) > 420*time.Millisecond {
		t.Errorf("ended after %v with %v", time.Since(begun), err)
	}
}

// TestProgramBackPressure: whoever does not read holds the program up, and loses nothing.
func TestProgramBackPressure(t *testing.T) {
	s, p := partySite(t)
	const size = 8 << 20
	sent := make([]byte, size)
	rand.Read(sent)
	wrote := make(chan struct{})
	var progress int
	var mu sync.Mutex
	p.serve = func(ctx context.Context, s *Session) error {
		side, err := s.Next(ctx)
		for i := 0; i < size && err == nil; i += 4096 {
			_, err = side.Write(sent[i : i+4096])
			mu.Lock()
			progress += 4096
			mu.Unlock()
		}
		close(wrote)
		return err
	}
	f, _, err := s.open(ofParty)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	select {
	case <-wrote:
		t.Fatal("nobody reads, and all is written")
	case <-time.After(200 * time.Millisecond):
	}
	mu.Lock()
	if progress > 6<<20 {
		t.Errorf("%d bytes are held for who does not read", progress)
	}
	mu.Unlock()
	if got, err := io.ReadAll(f); !bytes.Equal(got, sent) || err != nil {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
}

// TestProgramResumes: a flow of a program goes on over another connection, like any other.
func TestProgramResumes(t *testing.T) {
	s, _ := partySite(t)
	v := s.travelBy(s.peer, ofParty)
	defer v.stream.Close()
	v.echoes("before", "before")
	for range 3 {
		v.lose()
		io.WriteString(v.stream, "while away ")
		if err := v.resume(); err != nil {
			t.Fatal(err)
		}
		v.echoes("and back", "while away and back")
	}
	// Who comes back without the flow's keys joins. The one that waits has what was said meanwhile.
	v.lose()
	f, _, err := s.join("party", v.opened.Session)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "again ")
	hears(t, f, "again ")
	f.Close()
	if err := v.resume(); err != nil {
		t.Fatal(err)
	}
	v.echoes("and back", "again and back")
	v.stream.CloseWrite()
	if rest, err := io.ReadAll(v.stream); len(rest) > 0 || err != nil {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

// TestProgramLimit: a person has so many sessions and no more, whatever else they may open, and takes none from others.
func TestProgramLimit(t *testing.T) {
	s, _ := partySite(t)
	var flows []*frame.Stream
	for range maxRuns {
		f, _, err := s.open(ofParty)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		flows = append(flows, f)
	}
	if _, _, err := s.open(ofParty); codeOf(err) != "E_LIMIT" {
		t.Errorf("one more: %v", err)
	}
	if n := s.live.count(); n != maxRuns {
		t.Errorf("%d flows are counted", n)
	}
	before := s.peer
	s.peer.User, s.peer.Device = "bob", "dev-2"
	f, _, err := s.open(ofParty)
	if err != nil {
		t.Errorf("bob's: %v", err)
	} else {
		f.Close()
	}
	s.peer = before
	flows[0].Close()
	s.until("one is over", func() bool { return s.live.count() == maxRuns-1 })
	if f, _, err = s.open(ofParty); err != nil {
		t.Fatalf("in the place of another: %v", err)
	}
	f.Close()
}
