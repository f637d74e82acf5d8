package appliance

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// desk is a database of requests in memory.
type desk struct {
	mu     sync.Mutex
	all    []auth.Approval
	broken error
}

func (d *desk) Approvals(context.Context, time.Time) ([]auth.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]auth.Approval(nil), d.all...), d.broken
}

func (d *desk) Ask(_ context.Context, a auth.Approval) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.all = append([]auth.Approval{a}, d.all...)
	}
	return d.broken
}

func (d *desk) Decide(_ context.Context, a auth.Approval) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, was := range d.all {
		if was.ID == a.ID && was.Decided.IsZero() && a.Decided.Before(was.Expires) {
			d.all[i] = a
			return d.broken
		}
	}
	return auth.ErrDecided
}

func (d *desk) Withdraw(_ context.Context, a auth.Approval) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, was := range d.all {
		if was.ID == a.ID && was.Approved {
			d.all[i].Expires = a.Expires
			return d.broken
		}
	}
	return auth.ErrDecided
}

func (d *desk) Watch(ctx context.Context, f func() error) error {
	<-ctx.Done()
	return ctx.Err()
}

const approvalRules = `
admins: [root]
groups: {leads: [carol, dave, ann]}
targets:
  - {name: db-1, vnet: hub, address: 10.0.0.5, protocols: {ssh: 22}}
rules:
  - {name: with a yes, who: [ann], targets: [db-1], protocols: [ssh], approval: leads}
`

// approving is a site where db-1 needs the approval of somebody in leads.
func approving(t *testing.T, limit time.Duration) (*site, *desk) {
	t.Helper()
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	s.SetPolicy(s.parse(approvalRules))
	s.Limits.Approval = limit
	d := &desk{}
	var err error
	if s.Approvals, err = auth.OpenApprovals(t.Context(), d, time.Now, s.ApprovalsChanged); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Approvals.Close)
	return s, d
}

// caller is a call of somebody else's.
func (s *site) caller(user string) call {
	peer := s.peer
	peer.User, peer.Device = user, "dev-of-"+user
	return call{s.request(http.MethodPost, "approvals"), s.Gateway, peer}
}

// waits waits until one request of ann's waits, and returns its id.
func (s *site) waits(t *testing.T) string {
	t.Helper()
	for range 1000 {
		for _, a := range s.Approvals.List() {
			if a.Decided.IsZero() {
				return a.ID
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no request waits")
	return ""
}

func (c call) deciding(id string, d api.DecideApproval) error {
	c.Request.SetPathValue("id", id)
	_, err := c.decideApproval(d)
	return err
}

func TestApproval(t *testing.T) {
	s, _ := approving(t, time.Minute)
	opened := make(chan error, 1)
	go func() {
		f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
		if err == nil {
			f.Close()
		}
		opened <- err
	}()
	id := s.waits(t)
	for who, want := range map[string]frame.Code{"ann": "E_DENIED", "eve": "E_APPROVAL_UNKNOWN"} {
		if err := s.caller(who).deciding(id, api.DecideApproval{Approve: true}); reasonOf(err).Code != want {
			t.Errorf("%s approves: %v", who, err)
		}
	}
	for _, d := range []api.DecideApproval{{Approve: true, For: time.Second}, {Approve: true, For: 100 * time.Hour}, {Approve: true, Why: "a\x1b[2J"}, {Approve: true, Why: strings.Repeat("x", 300)}} {
		if err := s.caller("carol").deciding(id, d); reasonOf(err).Code != "E_USAGE" {
			t.Errorf("%+v: %v", d, err)
		}
	}
	list, err := s.caller("carol").approvals()
	if got := list.([]api.Approval); err != nil || len(got) != 1 || !got[0].MayDecide || got[0].User != "ann" || got[0].Target != "db-1:22" {
		t.Errorf("carol sees %+v, %v", list, err)
	}
	if list, _ := s.caller("eve").approvals(); len(list.([]api.Approval)) != 0 {
		t.Errorf("eve sees %+v", list)
	}
	// Two at once: one is first.
	var first atomic.Int32
	var wg sync.WaitGroup
	for _, who := range []string{"carol", "dave"} {
		wg.Go(func() {
			switch err := s.caller(who).deciding(id[:12], api.DecideApproval{Approve: true}); {
			case err == nil:
				first.Add(1)
			case !errors.Is(err, auth.ErrDecided):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := <-opened; err != nil || first.Load() != 1 {
		t.Fatalf("%v, %d decided", err, first.Load())
	}
	// While it lasts nobody is asked again.
	f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var allowed string
	for _, e := range s.book.all() {
		if e.Kind == "decision.allowed" {
			allowed = e.By + " " + e.Object
		}
	}
	// A yes that is taken back ends what it has allowed.
	if err := s.caller("eve").deciding(id, api.DecideApproval{}); reasonOf(err).Code != "E_APPROVAL_UNKNOWN" {
		t.Errorf("eve withdraws: %v", err)
	}
	if err := s.caller("dave").deciding(id, api.DecideApproval{Why: "a mistake"}); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, f); reasonOf(err).Code != "E_GRANT_ENDED" {
		t.Errorf("the flow ended with %v", err)
	}
	if !strings.HasSuffix(allowed, " "+id) || !strings.HasPrefix(allowed, "carol") && !strings.HasPrefix(allowed, "dave") {
		t.Errorf("the decision says %q", allowed)
	}
}

func TestApprovalRefused(t *testing.T) {
	s, _ := approving(t, 300*time.Millisecond)
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); reasonOf(err).Code != "E_APPROVAL" || !strings.Contains(reasonOf(err).Sentence, "in time") {
		t.Errorf("nobody has decided: %v", err)
	}
	s.Limits.Approval = time.Minute
	go func() {
		id := s.waits(t)
		if err := s.caller("carol").deciding(id, api.DecideApproval{Why: "not today"}); err != nil {
			t.Error(err)
		}
	}()
	for range 2 { // and is not asked again
		if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); reasonOf(err).Code != "E_APPROVAL" || !strings.Contains(reasonOf(err).Sentence, "carol has not approved db-1:22: not today") {
			t.Errorf("carol has said no: %v", err)
		}
	}
	s2, d2 := approving(t, time.Minute)
	d2.mu.Lock()
	d2.broken = auth.ErrControlDown
	d2.mu.Unlock()
	if _, _, err := s2.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); reasonOf(err).Code != "E_CONTROL_DOWN" {
		t.Errorf("the database is away: %v", err)
	}
}

// A port that is none is not taken for another.
func TestApprovalOfNoPort(t *testing.T) {
	s, _ := approving(t, time.Minute)
	for _, port := range []int{-1, 65536 + 22} {
		if _, err := s.caller("ann").requestApproval(api.AskApproval{Target: "db-1", Port: port}); reasonOf(err).Code != "E_PORT" {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if list := s.Approvals.List(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestApprovalOfAProgram: what a browser is to get is asked for as that, so that a channel which is denied, and which a native
// client could not do without, does not count against it.
func TestApprovalOfAProgram(t *testing.T) {
	s, _ := approving(t, time.Minute)
	s.Programs = map[string]Program{"party": &party{}}
	s.SetPolicy(s.parse(approvalRules, `forbid (principal, action == Action::"download", resource);`))
	ask := api.AskApproval{Target: "db-1", Protocol: "ssh"}
	if _, err := s.caller("ann").requestApproval(ask); codeOf(reasonError(err)) != policy.CodePortal {
		t.Errorf("for a native client: %v", err)
	}
	ask.Program = "none"
	if _, err := s.caller("ann").requestApproval(ask); codeOf(err) != "E_NAME" {
		t.Errorf("for a program that there is not: %v", err)
	}
	ask.Program = "party"
	if list, err := s.caller("ann").requestApproval(ask); err != nil || len(list.([]api.Approval)) != 1 {
		t.Errorf("for the program: %+v, %v", list, err)
	}
}

// A rule that goes while somebody waits is gone when they are approved.
func TestApprovalAndPolicy(t *testing.T) {
	s, _ := approving(t, time.Minute)
	opened := make(chan error, 1)
	go func() {
		_, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
		opened <- err
	}()
	id := s.waits(t)
	s.SetPolicy(s.parse(strings.Replace(approvalRules, "who: [ann]", "who: [dave]", 1)))
	if err := s.caller("carol").deciding(id, api.DecideApproval{Approve: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; reasonOf(err).Code != "E_TARGET_UNKNOWN" {
		t.Errorf("%v", err)
	}
}

func TestManyRequests(t *testing.T) {
	s, _ := approving(t, time.Minute)
	var faults int
	for i := range 40 {
		f := &flow{gateway: s.Gateway, peer: s.peer, begun: time.Now()}
		f.grant.Target, f.grant.Port, f.grant.Protocol = "db-1", uint16(i+1), "ssh"
		if _, err := f.newRequest(t.Context(), "leads", ""); errors.Is(err, auth.ErrManyApprovals) {
			faults++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if faults != 24 {
		t.Errorf("%d of 40 were refused", faults)
	}
}
