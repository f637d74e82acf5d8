package appliance

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/frame/frametest"
)

// A traveller is a client whose connections may be cut.
type traveller struct {
	*site
	peer    frame.Peer
	stream  *frame.Stream
	opened  *frame.Opened
	current *frametest.PipeCarrier
	heard   chan string // lines for the person
}

// connect gives the appliance a new connection and returns the client's end.
func (v *traveller) connect() (frame.Carrier, *frame.Bond) {
	client, far := frametest.Pipe(0)
	p := v.peer
	bond := *frametest.Bond()
	bond.User = p.User
	copy(bond.Device[:], p.Device)
	p.Bond = &bond
	v.wg.Go(func() { v.Flow(context.Background(), far, p) })
	v.current = client
	mine := bond
	return client, &mine
}

// travel opens a flow to db-1 that echoes.
func (s *site) travel(p frame.Peer) *traveller {
	s.t.Helper()
	v := s.travelBy(p, frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	v.echoes("SSH-2.0-a\r\n", "SSH-2.0-echo\r\nSSH-2.0-a\r\n")
	return v
}

// travelBy opens a flow as it is asked for.
func (s *site) travelBy(p frame.Peer, req frame.OpenRequest) *traveller {
	s.t.Helper()
	v := &traveller{site: s, peer: p, heard: make(chan string, 16)}
	c, bond := v.connect()
	var err error
	if v.stream, v.opened, err = frame.Open(s.t.Context(), c, req, frame.Options{Notice: func(n frame.Notice) { v.heard <- n.Text }}); err == nil {
		err = v.stream.Keep(bond, v.opened)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (v *traveller) echoes(say, hear string) {
	v.t.Helper()
	if _, err := io.WriteString(v.stream, say); err != nil {
		v.t.Fatal(err)
	}
	got := make([]byte, len(hear))
	if _, err := io.ReadFull(v.stream, got); err != nil || string(got) != hear {
		v.t.Fatalf("got %q, %v; want %q", got, err, hear)
	}
}

// lose cuts the connection and waits until the appliance has noticed.
func (v *traveller) lose() {
	v.t.Helper()
	v.current.Break()
	v.stream.Detached(v.t.Context())
	v.until("the flow is detached", func() bool { return v.live.waitingNow() == 1 })
}

func (s *site) until(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("never: " + what)
		}
	}
}

func (v *traveller) resume() error {
	c, bond := v.connect()
	return v.stream.Resume(v.t.Context(), c, bond, frame.WhyLost)
}

// TestFlowOutlivesItsConnection: the target sees one connection, the client reads what came while it was away.
func TestFlowOutlivesItsConnection(t *testing.T) {
	s := newSite(t)
	accepted := 0
	s.target("10.0.0.5:22", func(c net.Conn) { accepted++; echo(c) })
	v := s.travel(s.peer)
	for range 3 {
		v.lose()
		io.WriteString(v.stream, "while away ")
		if err := v.resume(); err != nil {
			t.Fatal(err)
		}
		v.echoes("and back", "while away and back")
	}
	v.peer.Transport = "https"
	if err := v.resume(); err != nil { // while the connection lives
		t.Fatal(err)
	}
	v.echoes("moved", "moved")
	s.until("the API shows where the flow is", func() bool { // which bytes may overtake
		flows, err := s.sessions(s.peer, false)
		return err == nil && len(flows) == 1 && flows[0].Attached == 5 && flows[0].Transport == "https" && flows[0].Detached == 0 && flows[0].Up != 0
	})
	v.stream.CloseWrite()
	if rest, err := io.ReadAll(v.stream); len(rest) > 0 || err != nil {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	v.stream.Close()
	s.until("the flow has ended", func() bool { return s.live.count() == 0 })
	if accepted != 1 || s.live.waitingNow() != 0 {
		t.Errorf("%d connections at the target, %d flows wait", accepted, s.live.waitingNow())
	}
}

// TestResumeIsRefused: to others, to rules that have changed, and after the grace; what is refused ends nothing of
// anybody else's.
func TestResumeIsRefused(t *testing.T) {
	refused := func(t *testing.T, v *traveller, code frame.Code) {
		t.Helper()
		err := v.resume()
		if got := codeOf(err); got != code {
			t.Errorf("resume: %v, want %v", err, code)
		}
		if v.live.count() == 0 {
			v.stream.GiveUp(err)
		}
	}
	begin := func(t *testing.T) (*site, *traveller) {
		s := newSite(t)
		s.target("10.0.0.5:22", echo)
		return s, s.travel(s.peer)
	}
	t.Run("Others", func(t *testing.T) {
		s, v := begin(t)
		first := v.current
		for _, other := range []func(p *frame.Peer){func(p *frame.Peer) { p.User = "bob" }, func(p *frame.Peer) { p.Device = "dev-2" }} {
			thief := *v
			other(&thief.peer)
			refused(t, &thief, frame.ResumeUnknown)
		}
		for i := range 100 {
			c, bond := v.connect()
			bond.Binding[0]++ // a proof made for another connection
			if got := codeOf(v.stream.Resume(t.Context(), c, bond, frame.WhyLost)); got != frame.ResumeUnknown && (i < failuresAtOnce-2 || got != "E_BUSY") {
				t.Errorf("a moved proof: %v", got)
			}
		}
		v.current = first
		v.echoes("still here", "still here")
		time.Sleep(2 * time.Second) // the device had to wait
		v.lose()
		if err := v.resume(); err != nil {
			t.Error(err)
		}
		v.echoes("again", "again")
		v.stream.Close()
		s.Close()
	})
	t.Run("Rules", func(t *testing.T) {
		s, v := begin(t)
		v.lose()
		s.SetPolicy(s.parse(strings.Replace(siteAccess, "who: [ann, bob]", "who: [bob]", 1)))
		s.until("the flow has ended", func() bool { return s.live.count() == 0 })
		refused(t, v, "E_TARGET_UNKNOWN")
		v.stream.Close()
	})
	t.Run("Elsewhere", func(t *testing.T) {
		s := newSite(t)
		s.target("10.0.0.5:22", echo)
		s.SetPolicy(s.parse(siteAccess, `forbid (principal, action in Action::"use", resource) unless { context.source == ip("192.0.2.1") && context.transport == "quic" };`))
		v := s.travel(s.peer)
		v.lose()
		v.peer.Remote = netip.MustParseAddrPort("192.0.2.2:5")
		refused(t, v, policy.CodeDenied)
		s.until("the flow has ended", func() bool { return s.live.count() == 0 })
		v.stream.GiveUp(net.ErrClosed)
		v.stream.Close()
	})
	t.Run("Revoked", func(t *testing.T) {
		s, v := begin(t)
		v.lose()
		s.EndDevice(s.peer.Device, auth.ErrRevoked)
		s.until("the flow has ended", func() bool { return s.live.count() == 0 })
		refused(t, v, "E_DEVICE_REVOKED")
		v.stream.Close()
	})
	t.Run("Grace", func(t *testing.T) {
		s, v := begin(t)
		s.Limits.Grace = 50 * time.Millisecond
		v.lose()
		s.until("the flow has ended", func() bool { return s.live.count() == 0 })
		refused(t, v, "E_RESUME_EXPIRED")
		v.stream.Close()
	})
	t.Run("GraceOfTheRule", func(t *testing.T) {
		s := newSite(t)
		s.target("10.0.0.5:22", echo)
		s.SetPolicy(s.parse(strings.Replace(siteAccess, "lifetime: 1h", "lifetime: 1h, grace: 50ms", 1)))
		v := s.travel(s.peer)
		if v.opened.Grace != 50 {
			t.Errorf("the client was told a grace of %d ms", v.opened.Grace)
		}
		v.lose()
		s.until("the flow has ended", func() bool { return s.live.count() == 0 })
		refused(t, v, "E_RESUME_EXPIRED")
		v.stream.Close()
	})
	t.Run("TooMany", func(t *testing.T) {
		s, v := begin(t)
		s.Limits.FlowsPerUser = 1
		v.lose()
		w := s.travel(s.peer) // takes the place
		refused(t, v, "E_LIMIT")
		v.stream.GiveUp(net.ErrClosed)
		w.stream.Close()
		s.Close()
	})
	t.Run("NoGrace", func(t *testing.T) {
		s := newSite(t)
		s.Limits.Grace = -1
		s.target("10.0.0.5:22", echo)
		v := s.travel(s.peer)
		v.current.Break()
		s.until("the flow has ended", func() bool { return s.live.count() == 0 })
		if _, err := io.ReadAll(v.stream); codeOf(err) != frame.Lost {
			t.Errorf("the client was told %v", err)
		}
		v.stream.Close()
	})
}

// TestEndIsToldLate: a flow that ends while it is detached, and one whose last acknowledgement was lost.
func TestEndIsToldLate(t *testing.T) {
	s := newSite(t)
	last := make(chan struct{})
	s.target("10.0.0.5:22", func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-echo\r\n")
		io.ReadFull(c, make([]byte, 11))
		io.WriteString(c, "SSH-2.0-a\r\n")
		<-last
		io.WriteString(c, "last words")
		c.Close()
	})
	v := s.travel(s.peer)
	v.stream.CloseWrite()
	v.lose()
	close(last)
	time.Sleep(50 * time.Millisecond)
	if err := v.resume(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(v.stream); string(got) != "last words" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	v.stream.Close()
	s.until("the flow has ended", func() bool { return s.live.count() == 0 })
}
