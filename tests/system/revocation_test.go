package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/frame"
	"sallyport/tests/lab"
)

// Each way of removing a right is tried on so many flows of one person, one of the detached comes back, and one more is of a
// real client.
const liveOfEach, detachedOfEach = 42, 9

// A removal is a way of removing a right, of a person of that name to a target of their own.
type removal struct {
	name   string
	codes  []string // one of which ends the flows
	says   string   // to the person, each time
	remove func(b *bastion, user, device string)
	signs  bool // the person has signed in, to an account

	person  *raw
	heard   chan told // by live flows
	returns traveller // whose connection was lost
	client  *lab.Process
	removed time.Time
	ends    []written
}

// written is the end of a flow in the audit log.
type written struct {
	Code string
	Time time.Time
}

// told is what a client has heard of the end of a flow.
type told struct {
	when   time.Time
	reason frame.Reason
}

func removals() []*removal {
	return []*removal{
		{name: "rule", codes: []string{"E_TARGET_UNKNOWN"}, says: `the rules have changed: no target "t-rule" that you may use`}, // by another access.yaml
		{name: "group", codes: []string{"E_TARGET_UNKNOWN"}, says: `the rules have changed: no target "t-group" that you may use`},
		{name: "target", codes: []string{"E_TARGET_UNKNOWN"}, says: `the rules have changed: no target "t-target" that you may use`},
		{name: "policy", codes: []string{"E_DENIED"}, says: `the rules have changed: t-policy:7777 denied by policy "no"`, remove: func(b *bastion, user, _ string) {
			b.policy("no.cedar", fmt.Sprintf("@id(\"no\")\nforbid (principal == User::%q, action, resource);\n", user))
		}},
		{name: "lock-user", codes: []string{"E_LOCKED"}, says: "you are locked out: because", remove: func(b *bastion, user, _ string) { b.mustClient("admin", "lock", "user", user, "--why", "because") }},
		{name: "lock-device", codes: []string{"E_LOCKED"}, says: "this device is locked out: because", remove: func(b *bastion, _, device string) {
			b.mustClient("admin", "lock", "device", device, "--why", "because")
		}},
		{name: "lock-target", codes: []string{"E_LOCKED"}, says: "t-lock-target is locked: because", remove: func(b *bastion, user, _ string) {
			b.mustClient("admin", "lock", "target", "t-"+user, "--why", "because")
		}},
		{name: "revoke", codes: []string{"E_DEVICE_REVOKED"}, says: "this device has been revoked", remove: func(b *bastion, _, device string) { b.mustClient("admin", "devices", "revoke", device) }},
		{name: "sign-out", codes: []string{"E_SIGNED_OUT"}, says: "your sign-in has ended", signs: true, remove: func(b *bastion, user, _ string) { b.mustClient("admin", "signins", "end", "--user", user) }},
		{name: "logout", codes: []string{"E_DEVICE_REVOKED", "E_SIGNED_OUT"}, signs: true, remove: func(b *bastion, user, _ string) {
			if r := b.as(filepath.Join(b.Dir, user), "", "logout"); r.exit != 0 {
				b.t.Errorf("logout: %v", r)
			}
		}},
		// Two watch what the database says of an account, and each knows a reason of its own.
		{name: "disable", codes: []string{"E_DEVICE_REVOKED", "E_SIGNED_OUT"}, signs: true, remove: func(b *bastion, user, _ string) { b.mustClient("admin", "accounts", "disable", user) }},
		{name: "remove", codes: []string{"E_DEVICE_REVOKED", "E_SIGNED_OUT"}, signs: true, remove: func(b *bastion, user, _ string) { b.mustClient("admin", "accounts", "remove", user) }},
	}
}

// TestRevocation: whatever removes a right ends all that it allowed within five seconds, what has no connection now too,
// and everybody is told the reason.
func TestRevocation(t *testing.T) {
	ways := removals()
	access := func(removed bool) string {
		var groups, targets, rules strings.Builder
		for _, w := range ways {
			member, rule := w.name, "  - {name: of "+w.name+", who: [\"group:"+w.name+"\"], targets: [t-"+w.name+"], protocols: [tcp]}\n"
			if removed && w.name == "group" {
				member = ""
			}
			fmt.Fprintf(&groups, "  %s: [%s]\n", w.name, member)
			if !removed || w.name != "target" {
				address := "10.99.0.10"
				if w.name == "lock-target" { // one of its own: a lock holds whatever name leads there
					address = `"fd99::10"`
				}
				fmt.Fprintf(&targets, "  - {name: t-%s, vnet: hub, address: %s, protocols: {tcp: 7777}}\n", w.name, address)
			}
			if !removed || w.name != "rule" && w.name != "target" {
				rules.WriteString(rule)
			}
		}
		return "admins: [ann]\ngroups:\n" + groups.String() + "targets:\n" + targets.String() + "rules:\n" + rules.String()
	}
	b, _ := withFolder(t, signsIn)
	b.policy("access.yaml", access(false))
	b.swallow("10.99.0.10:7777")
	b.swallow("[fd99::10]:7777")
	b.eventually(5*time.Second, "the access files are taken", func() error {
		if r := b.client("admin", "policy", "why", "--user", "revoke", "--target", "t-revoke"); r.exit != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	for _, w := range ways {
		w.begin(b)
	}
	type session struct {
		User, Device string
		Detached     time.Duration `json:"detached_ns"`
	}
	var sessions []session
	b.eventually(20*time.Second, "flows are live and detached", func() error {
		r := b.mustClient("sessions", "--all", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &sessions); err != nil {
			return err
		}
		detached := 0
		for _, s := range sessions {
			if s.Detached > 0 {
				detached++
			}
		}
		if want := len(ways) * detachedOfEach; detached != want || len(sessions) != len(ways)*(liveOfEach+detachedOfEach) {
			return fmt.Errorf("%d sessions, %d detached, want %d", len(sessions), detached, want)
		}
		return nil
	})

	for _, w := range ways {
		if w.removed = time.Now(); w.remove != nil {
			w.remove(b, w.name, sessions[slices.IndexFunc(sessions, func(s session) bool { return s.User == w.name })].Device)
		}
	}
	changed := time.Now()
	b.policy("access.yaml", access(true))
	for _, w := range ways {
		if w.remove == nil {
			w.removed = changed
		}
	}
	b.eventually(15*time.Second, "all have ended", func() error {
		n := 0
		for line := range strings.Lines(b.mustClient("audit", "--since", "10m", "--event", "flow.end", "--json").stdout) {
			var e struct {
				User string
				written
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return err
			}
			of := slices.IndexFunc(ways, func(w *removal) bool { return w.name == e.User })
			if of < 0 {
				return fmt.Errorf("a flow of %q", e.User)
			}
			if n++; n == 1 {
				for _, w := range ways {
					w.ends = nil
				}
			}
			ways[of].ends = append(ways[of].ends, e.written)
		}
		if n < len(sessions) {
			return fmt.Errorf("%d of %d", n, len(sessions))
		}
		return nil
	})
	var all, heard []time.Duration
	for _, w := range ways {
		took, told := w.reasons(b)
		t.Logf("%-11s %s, the last ended after %v, heard of after %v", w.name, w.ends[0].Code, took[len(took)-1].Round(time.Millisecond), told[len(told)-1].Round(time.Millisecond))
		all, heard = append(all, took...), append(heard, told...)
	}
	for what, list := range map[string][]time.Duration{"ended": all, "were heard to end": heard} {
		slices.Sort(list)
		last := list[len(list)-1]
		t.Logf("%d flows %s: p50 %v, p99 %v, all %v", len(list), what, list[len(list)/2].Round(time.Millisecond), list[len(list)*99/100].Round(time.Millisecond), last.Round(time.Millisecond))
		if last > 5*time.Second {
			t.Errorf("the last flow %s after %v", what, last)
		}
	}
}

// begin has the person come, with flows that stay, some that are detached, and a client.
func (w *removal) begin(b *bastion) {
	b.t.Helper()
	target := frame.OpenRequest{Target: "t-" + w.name, Protocol: "tcp"}
	home := filepath.Join(b.Dir, w.name)
	if w.signs {
		b.signUp(w.name, home)
	} else {
		b.enrol(w.name, home)
	}
	w.person = b.rawOf(home)
	stays := w.person.admitted("quic", w.name)
	w.heard = make(chan told, liveOfEach-1)
	for range liveOfEach - 1 {
		c := stays.next(b.t)
		c.opened(b.t, target)
		go w.hear(c)
	}
	for range detachedOfEach - 1 {
		goes := w.person.admitted("https", w.name)
		goes.opened(b.t, target)
		// The first says that we would come back; the answer to the second, that it has been read before the connection breaks.
		goodbye := frame.AppendProbe(frame.Ack{Limit: frame.FirstLimit}.Append(nil), frame.TypePing, [8]byte{1})
		if _, err := goes.Write(goodbye); err != nil {
			b.t.Fatal(err)
		}
		for {
			h, _, err := frame.ReadFrame(goes)
			if err != nil {
				b.t.Fatal(err)
			}
			if h.Type == frame.TypePong {
				break
			}
		}
		goes.Close()
	}
	w.returns = w.person.leaves(w.name, target)
	cmd := b.Client.Command(context.Background(), b.bin+"/sallyport", "proxy", "--protocol", "tcp", target.Target)
	cmd.Env = b.environ(home)
	if _, err := cmd.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	w.client = lab.Start(b.t, cmd)
}

// hear reads until the appliance ends a flow.
func (w *removal) hear(c *rawConn) {
	c.deadline(time.Time{})
	for {
		h, p, err := frame.ReadFrame(c)
		if err != nil {
			w.heard <- told{time.Now(), frame.Reason{Sentence: err.Error()}}
			return
		}
		if h.Type == frame.TypeReset {
			var r frame.Reason
			if err := frame.Parse(h.Type, p, &r); err != nil {
				r.Sentence = err.Error()
			}
			w.heard <- told{time.Now(), r}
			return
		}
	}
}

// A traveller is a flow that has lost its connection, and how it ends.
type traveller struct {
	*frame.Stream
	end chan error
}

// leaves opens a flow, and loses the connection.
func (r *raw) leaves(user string, target frame.OpenRequest) traveller {
	r.t.Helper()
	c := r.admitted("quic", user)
	stream, err := c.session.OpenStreamSync(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	f, opened, err := frame.Open(r.t.Context(), quicCarrier{stream}, target, frame.Options{})
	if err == nil {
		err = f.Keep(c.bond, opened)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	v := traveller{f, make(chan error, 1)}
	go func() {
		_, err := io.Copy(io.Discard, f)
		v.end <- err
	}()
	for range 2 { // the ACK that says that we would come back may leave after the first
		f.Probe()
		r.eventually(20*time.Second, "a PING is answered", func() error {
			if f.Vitals().Unanswered > 0 {
				return errors.New("it is not")
			}
			return nil
		})
	}
	c.session.CloseWithError(0, "")
	return v
}

// comesBack is what somebody is told who comes back to a flow that has ended.
func (r *raw) comesBack(user string, v traveller) frame.Reason {
	r.t.Helper()
	c := r.over("quic")
	err := c.hello(frame.Hello{User: user})
	if err == nil {
		stream, opened := c.session.OpenStreamSync(r.t.Context())
		if opened != nil {
			r.t.Fatal(opened)
		}
		if err = v.Resume(r.t.Context(), quicCarrier{stream}, c.bond, frame.WhyLost); err == nil {
			v.SetReadDeadline(time.Now().Add(20 * time.Second))
			err = <-v.end
		}
	}
	v.GiveUp(errors.New("the test is over"))
	reason, _ := frame.ReasonOf(err)
	return reason
}

// reasons compares why all flows of the person have ended with what should be, and returns how long that took: until it was
// written, and until the clients were told.
func (w *removal) reasons(b *bastion) (took, heard []time.Duration) {
	b.t.Helper()
	for _, e := range w.ends {
		if took = append(took, e.Time.Sub(w.removed)); !slices.Contains(w.codes, e.Code) {
			b.t.Errorf("%s: a flow ended with %s, want %q", w.name, e.Code, w.codes)
		}
	}
	if len(took) != liveOfEach+detachedOfEach {
		b.t.Fatalf("%s: %d flows ended", w.name, len(took))
	}
	is := func(who string, r frame.Reason, says string) {
		b.t.Helper()
		if !slices.Contains(w.codes, string(r.Code)) || !strings.Contains(r.Sentence, says) {
			b.t.Errorf("%s: %s is told %s: %s; want %q: %s", w.name, who, r.Code, r.Sentence, w.codes, says)
		}
	}
	for range liveOfEach - 1 {
		select {
		case end := <-w.heard:
			is("a live flow", end.reason, w.says)
			heard = append(heard, end.when.Sub(w.removed))
		case <-time.After(15 * time.Second):
			b.t.Fatalf("%s: nobody is told", w.name)
		}
	}
	is("who comes back", w.person.comesBack(w.name, w.returns), "")
	b.ends(w.client, 15*time.Second, "sallyport: "+w.says)
	slices.Sort(took)
	slices.Sort(heard)
	return took, heard
}

// mustClient runs a command that must succeed.
func (b *bastion) mustClient(args ...string) run {
	b.t.Helper()
	r := b.client(args...)
	if r.exit != 0 {
		b.t.Fatalf("%q: %v", args, r)
	}
	return r
}

// admitted is a connection of somebody.
func (r *raw) admitted(transport, user string) *rawConn {
	r.t.Helper()
	c := r.over(transport)
	if err := c.hello(frame.Hello{User: user}); err != nil {
		r.t.Fatalf("HELLO of %s: %v", user, err)
	}
	return c
}

// swallow listens in the VNet and takes whatever comes.
func (b *bastion) swallow(address string) {
	b.t.Helper()
	l, err := b.VNet.Namespace.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.t.Cleanup(func() { c.Close() })
		}
	}()
	b.t.Cleanup(func() { l.Close() })
}
