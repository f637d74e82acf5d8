package system

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/frame"
)

// Each way of removing a right is tried on so many flows of one person.
const liveOfEach, detachedOfEach = 63, 13

// TestRevocation: whatever removes a right ends all that it allowed within five seconds, what has no connection now too,
// each with its reason.
func TestRevocation(t *testing.T) {
	ways := []struct {
		name, code string
		remove     func(b *bastion, user, device string)
	}{
		{"rule", "E_TARGET_UNKNOWN", nil}, // by another access.yaml
		{"group", "E_TARGET_UNKNOWN", nil},
		{"target", "E_TARGET_UNKNOWN", nil},
		{"policy", "E_DENIED", func(b *bastion, user, _ string) {
			b.policy("no.cedar", fmt.Sprintf("@id(\"no\")\nforbid (principal == User::%q, action, resource);\n", user))
		}},
		{"lock-user", "E_LOCKED", func(b *bastion, user, _ string) { b.mustClient("admin", "lock", "user", user) }},
		{"lock-device", "E_LOCKED", func(b *bastion, _, device string) { b.mustClient("admin", "lock", "device", device) }},
		{"lock-target", "E_LOCKED", func(b *bastion, user, _ string) { b.mustClient("admin", "lock", "target", "t-"+user) }},
		{"revoke", "E_DEVICE_REVOKED", func(b *bastion, _, device string) { b.mustClient("admin", "devices", "revoke", device) }},
	}
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
	b, _ := withFolder(t)
	b.policy("access.yaml", access(false))
	b.swallow("10.99.0.10:7777")
	b.swallow("[fd99::10]:7777")
	b.eventually(5*time.Second, "the access files are taken", func() error {
		if r := b.client("admin", "policy", "why", "--user", "revoke", "--target", "t-revoke"); r.exit != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})

	devices := map[string]string{}
	for _, w := range ways {
		r := b.rawClient(w.name)
		stays := r.admitted("quic", w.name)
		for range liveOfEach {
			stays.next(t).opened(t, frame.OpenRequest{Target: "t-" + w.name, Protocol: "tcp"})
		}
		for range detachedOfEach {
			goes := r.admitted("https", w.name)
			goes.opened(t, frame.OpenRequest{Target: "t-" + w.name, Protocol: "tcp"})
			if _, err := goes.Write(frame.Ack{Limit: frame.FirstLimit}.Append(nil)); err != nil { // which says that we would come back
				t.Fatal(err)
			}
			goes.Close()
		}
	}
	var sessions []struct {
		User, Device string
		Detached     time.Duration `json:"detached_ns"`
	}
	b.eventually(20*time.Second, "flows are live and detached", func() error {
		r := b.mustClient("sessions", "--all", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &sessions); err != nil {
			return err
		}
		detached := 0
		for _, s := range sessions {
			devices[s.User] = s.Device
			if s.Detached > 0 {
				detached++
			}
		}
		if want := len(ways) * detachedOfEach; detached != want || len(sessions) != len(ways)*(liveOfEach+detachedOfEach) {
			return fmt.Errorf("%d sessions, %d detached, want %d", len(sessions), detached, want)
		}
		return nil
	})

	removed := map[string]time.Time{}
	for _, w := range ways {
		if removed[w.name] = time.Now(); w.remove != nil {
			w.remove(b, w.name, devices[w.name])
		}
	}
	changed := time.Now()
	b.policy("access.yaml", access(true))
	for _, w := range ways {
		if w.remove == nil {
			removed[w.name] = changed
		}
	}
	type end struct {
		User, Code string
		Time       time.Time
	}
	var ends []end
	b.eventually(15*time.Second, "all have ended", func() error {
		ends = nil
		for line := range strings.Lines(b.mustClient("audit", "--since", "10m", "--event", "flow.end", "--json").stdout) {
			var e end
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return err
			}
			ends = append(ends, e)
		}
		if len(ends) < len(sessions) {
			return fmt.Errorf("%d of %d", len(ends), len(sessions))
		}
		return nil
	})
	var all []time.Duration
	for _, w := range ways {
		var took []time.Duration
		for _, e := range ends {
			if e.User != w.name {
				continue
			}
			if took = append(took, e.Time.Sub(removed[w.name])); e.Code != w.code {
				t.Errorf("%s: a flow ended with %s, want %s", w.name, e.Code, w.code)
			}
		}
		slices.Sort(took)
		if len(took) != liveOfEach+detachedOfEach {
			t.Fatalf("%s: %d flows ended", w.name, len(took))
		}
		t.Logf("%-11s %s, the last after %v", w.name, w.code, took[len(took)-1].Round(time.Millisecond))
		all = append(all, took...)
	}
	slices.Sort(all)
	t.Logf("%d flows: p50 %v, p99 %v, all %v", len(all), all[len(all)/2].Round(time.Millisecond), all[len(all)*99/100].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
	if last := all[len(all)-1]; last > 5*time.Second {
		t.Errorf("the last flow ended after %v", last)
	}
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
