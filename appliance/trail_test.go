package appliance

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// notebook is an audit log in memory; fail is why it takes nothing.
type notebook struct {
	mu     sync.Mutex
	events []audit.Event
	fail   error
}

func (n *notebook) Write(e audit.Event) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail == nil {
		e.Seq = uint64(len(n.events) + 1)
		n.events = append(n.events, e)
	}
	return n.fail
}

func (n *notebook) Read(f audit.Filter) iter.Seq2[audit.Event, error] {
	return func(yield func(audit.Event, error) bool) {
		for _, e := range n.all() {
			if e.Seq > f.After && !yield(e, nil) {
				return
			}
		}
	}
}

func (n *notebook) refuse(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

func (n *notebook) all() []audit.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events)
}

// kinds are the kinds of events so far.
func (n *notebook) kinds() string {
	var kinds []string
	for _, e := range n.all() {
		kinds = append(kinds, e.Kind)
	}
	return strings.Join(kinds, " ")
}

// written waits for an event.
func (s *site) written(kind string) audit.Event {
	s.t.Helper()
	for begun := time.Now(); time.Since(begun) < 5*time.Second; time.Sleep(time.Millisecond) {
		for _, e := range s.book.all() {
			if e.Kind == kind {
				return e
			}
		}
	}
	s.t.Fatalf("no %s in %s", kind, s.book.kinds())
	return audit.Event{}
}

// TestLooking: that a page has looked at what somebody may do is no event; what they are refused is.
func TestLooking(t *testing.T) {
	s := newSite(t)
	asks := url.Values{"target": {"hidden"}, "protocol": {"ssh"}, "look": {""}}
	for range 2 {
		if _, err := s.grant(s.peer, asks); codeOf(reasonError(err)) != policy.CodeTargetUnknown {
			t.Error(err)
		}
		asks.Del("look")
	}
	s.written(audit.DecisionRefused)
	if got := s.book.kinds(); got != "decision.refused" {
		t.Errorf("the log has %s", got)
	}
}

// TestTrail: what happens to a flow is written down, in the order in which it happens.
func TestTrail(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	f := s.as("ann", "dev-1")
	io.WriteString(f, "SSH-2.0-client\r\n")
	f.CloseWrite()
	io.ReadAll(f)
	f.Close()
	end := s.written(audit.FlowEnd)
	if got := s.book.kinds(); got != "decision.allowed flow.open flow.end" {
		t.Errorf("written: %s", got)
	}
	if end.User != "ann" || end.Device != "dev-1" || end.Source != "192.0.2.1:5" || end.Target != "db-1" || end.Address != "10.0.0.5:22" || end.Port != 22 ||
		end.Protocol != "ssh" || end.VNet != "hub" || !slices.Equal(end.Policies, []string{"operators"}) || end.Up != 16 || end.Down != 30 || end.Code != "" || len(end.Session) != 32 {
		t.Errorf("the end: %+v", end)
	}
	for _, e := range s.book.all() {
		if e.Session != end.Session || e.Flow != end.Flow {
			t.Errorf("%s is of another session", e.Kind)
		}
	}
}

// TestTrailOfRefusals: who is refused, by what, and what was allowed and did not come about.
func TestTrailOfRefusals(t *testing.T) {
	s := newSite(t)
	s.open(frame.OpenRequest{Target: "hidden", Protocol: "ssh"})
	if e := s.written(audit.DecisionRefused); e.Code != "E_TARGET_UNKNOWN" || e.Decision != "deny" || e.Target != "hidden" || e.Why == "" {
		t.Errorf("refused: %+v", e)
	}
	s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}) // where nothing listens
	if e := s.written(audit.FlowEnd); e.Code != "E_REFUSED" || e.Address != "10.0.0.5:22" {
		t.Errorf("not reached: %+v", e)
	}
	if got := s.book.kinds(); got != "decision.refused decision.allowed flow.end" {
		t.Errorf("written: %s", got)
	}
}

// TestNothingUnwritten: while the audit log takes nothing, nothing new begins, and what is open goes on.
func TestNothingUnwritten(t *testing.T) {
	s := newSite(t)
	reached := make(chan struct{}, 10)
	s.target("10.0.0.5:22", func(c net.Conn) { reached <- struct{}{}; echo(c) })
	open := s.as("ann", "dev-1")
	defer open.Close()
	key := s.enrolled("bob")
	s.book.refuse(errors.New("disk full"))
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != "E_AUDIT" {
		t.Errorf("a new flow: %v", err)
	}
	p := frame.Peer{Transport: "quic", Remote: s.peer.Remote}
	if _, err := s.Admit(t.Context(), &frame.Hello{Device: key}, &p); err != nil { // or nobody could see to it
		t.Errorf("a sign-in: %v", err)
	}
	io.WriteString(open, "SSH-2.0-still\r\n")
	if _, err := io.ReadFull(open, make([]byte, 15)); err != nil {
		t.Errorf("what was open: %v", err)
	}
	s.book.refuse(nil)
	s.as("ann", "dev-1").Close()
	if _, err := s.Admit(t.Context(), &frame.Hello{Device: key}, &p); err != nil {
		t.Errorf("a sign-in when there is room again: %v", err)
	}
	if e := s.written(audit.SignInOK); e.User != "bob" {
		t.Errorf("the sign-in is written when it can be: %+v", e)
	}
}

// TestNobodyFloodsTheTrail: what a person brings about again and again is counted.
func TestNobodyFloodsTheTrail(t *testing.T) {
	s := newSite(t)
	for range 2 * eventsAtOnce {
		s.open(frame.OpenRequest{Target: "hidden", Protocol: "ssh"})
	}
	refused := s.book.all()
	if len(refused) < eventsAtOnce || len(refused) > eventsAtOnce+100 {
		t.Errorf("of %d refusals %d are written", 2*eventsAtOnce, len(refused))
	}
	s.peer.User = "bob"
	s.open(frame.OpenRequest{Target: "hidden", Protocol: "ssh"})
	if all := s.book.all(); all[len(all)-1].User != "bob" {
		t.Error("a refusal of another person is not written")
	}
}

// TestTrailOfSignIns: a device that comes in often is one event, strangers that come in a flood are counted.
func TestTrailOfSignIns(t *testing.T) {
	s := newSite(t)
	key := s.enrolled("bob")
	for range 10 {
		p := frame.Peer{Transport: "https", Remote: s.peer.Remote}
		if _, err := s.Admit(context.Background(), &frame.Hello{Device: key}, &p); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.book.kinds(); got != "sign-in.ok" {
		t.Errorf("written: %s", got)
	}
	for range 1000 {
		p := frame.Peer{Transport: "https", Remote: s.peer.Remote}
		s.Admit(context.Background(), &frame.Hello{Device: make([]byte, 32)}, &p)
	}
	refused := 0
	for _, e := range s.book.all() {
		if e.Kind == audit.SignInRefused && e.Code == "E_DEVICE_UNKNOWN" && e.User == "" {
			refused++
		}
	}
	if refused < eventsAtOnce || refused > 2*eventsAtOnce {
		t.Errorf("of 1000 refusals %d are written", refused)
	}
	time.Sleep(eventsEvery * 2)
	p := frame.Peer{Transport: "https", Remote: s.peer.Remote}
	s.Admit(context.Background(), &frame.Hello{Device: make([]byte, 32)}, &p)
	all := s.book.all()
	if last := all[len(all)-1]; last.Detail["unwritten_before"] == "" {
		t.Errorf("the next that is written does not say how many were not: %+v", last)
	}
}
