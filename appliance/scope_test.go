package appliance

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// robot is a new device of somebody's that has a scope.
func (s *site) robot(user string, scope auth.Scope) string {
	s.t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.enrolsAgain(key, user, scope)
}

// enrolsAgain is the device of a key, which has another code now.
func (s *site) enrolsAgain(key ed25519.PublicKey, user string, scope auth.Scope) string {
	s.t.Helper()
	code, err := s.reg.NewCode(user, 0, scope)
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := s.reg.Enrol(auth.Enrolment{Code: code, Key: key, Name: "robot", Source: s.peer.Remote.Addr()})
	if err != nil {
		s.t.Fatal(err)
	}
	return d.ID
}

// robotRules let ann do whatever can be done.
const robotRules = `
admins: [ann]
bench: [ann]
groups: {leads: [ann]}
targets:
  - {name: db-1, vnet: hub, address: 10.0.0.5, protocols: {ssh: 22, tcp: 5432}}
  - {name: db-2, vnet: hub, address: 10.0.0.6, protocols: {ssh: 22}}
  - {name: desk, vnet: hub, address: 10.0.0.7, protocols: {rdp: 3389}}
rules:
  - {name: all, who: [ann, bob], targets: ["*"], protocols: [ssh, tcp, rdp]}
`

// A refusedOpen is a request, and how it is refused.
type refusedOpen struct {
	req  frame.OpenRequest
	code frame.Code
}

// TestScopeNarrows: a device reaches what both its person's rules and its scope have, by whatever way it asks.
func TestScopeNarrows(t *testing.T) {
	for _, c := range []struct {
		scope    auth.Scope
		sees     string
		protocol string // of a request for db-1 that names none
		refusals []refusedOpen
	}{
		{auth.Scope{}, "db-1 ssh,tcp; db-2 ssh; desk rdp", "ssh", nil},
		{auth.Scope{Targets: []string{"db-1"}}, "db-1 ssh,tcp", "ssh", []refusedOpen{
			{frame.OpenRequest{Target: "db-2", Protocol: "ssh"}, policy.CodeTargetUnknown},
			{frame.OpenRequest{Target: "db-2", Protocol: "rdp"}, policy.CodeTargetUnknown}, // and not that it does not offer it
			{frame.OpenRequest{Target: "nowhere", Protocol: "ssh"}, policy.CodeTargetUnknown},
			{frame.OpenRequest{Target: "10.0.0.5", Protocol: "ssh"}, policy.CodeAddressMode},
			{frame.OpenRequest{Target: "echo", Protocol: "bench"}, policy.CodeDenied},
		}},
		{auth.Scope{Protocols: []string{"tcp"}}, "db-1 tcp", "tcp", []refusedOpen{
			{frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, policy.CodeDenied},
			{frame.OpenRequest{Target: "db-1", Protocol: "tcp", Port: 22}, policy.CodeDenied},
			{frame.OpenRequest{Target: "db-2", Protocol: "ssh"}, policy.CodeDenied},
			{frame.OpenRequest{Target: "desk", Protocol: "rdp"}, policy.CodeDenied},
		}},
		{auth.Scope{Targets: []string{"db-1", "gone"}, Protocols: []string{"rdp"}}, "", "", []refusedOpen{
			{frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, policy.CodeDenied},
			{frame.OpenRequest{Target: "gone", Protocol: "rdp"}, policy.CodeTargetUnknown},
			{frame.OpenRequest{Target: "desk", Protocol: "rdp"}, policy.CodeTargetUnknown},
		}},
		{auth.Scope{Until: time.Now().Add(time.Hour)}, "db-1 ssh,tcp; db-2 ssh; desk rdp", "ssh", nil},
	} {
		t.Run(c.scope.String(), func(t *testing.T) {
			s := newSite(t)
			s.SetPolicy(s.parse(robotRules))
			s.target("10.0.0.5:22", echo)
			s.target("10.0.0.5:5432", echo)
			s.peer.Device = s.robot("ann", c.scope)
			var sees []string
			for _, target := range s.targets(s.peer) {
				var names []string
				for name := range target.Protocols {
					names = append(names, name)
				}
				slices.Sort(names)
				sees = append(sees, target.Name+" "+strings.Join(names, ","))
			}
			if got := strings.Join(sees, "; "); got != c.sees {
				t.Errorf("ls shows %q, want %q", got, c.sees)
			}
			if c.protocol != "" {
				r := s.requestOf(s.peer, time.Now())
				r.Target = "DB-1"
				g, err := s.decideNow(r, s.peer.Device)
				if err != nil || g.Protocol != c.protocol || g.Timed != !c.scope.Until.IsZero() || !g.Expires.Equal(c.scope.Until.Truncate(time.Microsecond)) {
					t.Errorf("%+v, %v", g, err)
				}
				f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: c.protocol})
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			for _, refused := range c.refusals {
				req, code := refused.req, refused.code
				_, _, err := s.open(req)
				if r, _ := frame.ReasonOf(err); r.Code != code || r.Sentence == "" || strings.Contains(r.Hint, "db-2") && !c.scope.HasTarget("db-2") {
					t.Errorf("%+v: %v (%s; %s), want %s", req, err, r.Code, r.Hint, code)
				}
			}
		})
	}
}

// TestScopeGivesNothing: what a scope names and the rules do not allow stays denied.
func TestScopeGivesNothing(t *testing.T) {
	s := newSite(t)
	s.peer.User, s.peer.Device = "dan", s.robot("dan", auth.Scope{Targets: []string{"db-1"}, Protocols: []string{"ssh"}})
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != policy.CodeTargetUnknown {
		t.Errorf("%v", err)
	}
	if list := s.targets(s.peer); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestScopedAdministrator: an administrator's device that has a scope does none of what administrators do, not even one
// whose scope is nothing but an end.
func TestScopedAdministrator(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(robotRules))
	s.target("10.0.0.5:22", echo)
	hers, bobs := s.as("ann", "dev-1"), s.as("bob", "dev-2")
	defer hers.Close()
	defer bobs.Close()
	all, err := s.sessions(s.peer, true)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, scope := range []auth.Scope{{Targets: []string{"db-1"}}, {Protocols: []string{"ssh"}}, {Until: time.Now().Add(time.Hour)}} {
		robot := frame.Peer{User: "ann", Device: s.robot("ann", scope), Remote: s.peer.Remote}
		if s.isAdmin(robot) {
			t.Errorf("%s: it administers", scope)
		}
		if list, err := s.sessions(robot, true); len(list) != 0 || err != nil {
			t.Errorf("%s: it sees %+v, %v", scope, list, err)
		}
		for _, one := range all {
			if _, err := s.endSessions(robot, api.EndSessions{Sessions: []string{one.ID}}); codeOf(err) != "E_SESSION_UNKNOWN" {
				t.Errorf("%s: it ends a session of %s's: %v", scope, one.User, err)
			}
		}
		if ended, err := s.endSessions(robot, api.EndSessions{Target: "db-1"}); len(ended) != 0 || err != nil {
			t.Errorf("%s: it ends %+v, %v", scope, ended, err)
		}
		c := call{s.request("POST", "logout?everywhere"), s.Gateway, robot}
		if c.mayDecide(auth.Approval{User: "bob", Group: "leads"}) {
			t.Errorf("%s: it approves", scope)
		}
		if _, err := c.logout(); codeOf(err) != "E_DENIED" {
			t.Errorf("%s: it logs out all devices: %v", scope, err)
		}
		me, err := c.me()
		if err != nil || me.(api.Me).Admin || me.(api.Me).Scope.IsZero() {
			t.Errorf("%s: %+v, %v", scope, me, err)
		}
	}
	c := call{s.request("POST", "approvals"), s.Gateway, s.peer}
	if !s.isAdmin(s.peer) || !c.mayDecide(auth.Approval{User: "bob", Group: "leads"}) {
		t.Error("nor does she from another device")
	}
}

// TestOwnDevices: people see their own devices that are signed in, and end those and no others; a robot has itself alone.
func TestOwnDevices(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(robotRules))
	out := gone{}
	s.People = out
	here, there, left := auth.DeviceID(s.enrolled("ann")), auth.DeviceID(s.enrolled("ann")), auth.DeviceID(s.enrolled("ann"))
	bobs, robot := auth.DeviceID(s.enrolled("bob")), s.robot("ann", auth.Scope{Targets: []string{"db-1"}})
	out[left] = true
	lists := func(device string) (ids []string) {
		var list []api.Device
		s.by(frame.Peer{User: "ann", Device: device}, func() {
			if no := s.ask("GET", "me/devices", struct{}{}, &list); no.Code != "" {
				t.Error(no)
			}
		})
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		slices.Sort(ids)
		return ids
	}
	ends := func(device, other string) (code string) {
		s.by(frame.Peer{User: "ann", Device: device}, func() { code = s.ask("DELETE", "me/devices/"+other, struct{}{}, nil).Code })
		return code
	}
	if got := lists(here); !slices.Equal(got, slices.Sorted(slices.Values([]string{here, there, robot}))) {
		t.Errorf("ann sees %v", got)
	}
	if got := lists(robot); !slices.Equal(got, []string{robot}) {
		t.Errorf("the robot sees %v", got)
	}
	for _, c := range []struct{ by, what, code string }{
		{here, bobs, "E_DEVICE_UNKNOWN"}, {here, "dev-0", "E_DEVICE_UNKNOWN"}, {robot, here, "E_DENIED"}, {here, there, ""}, {here, there, "E_DEVICE_UNKNOWN"}, {robot, robot, ""},
	} {
		if got := ends(c.by, c.what); got != c.code {
			t.Errorf("%s ends %s: %q, want %q", c.by, c.what, got, c.code)
		}
	}
	if got := lists(here); !slices.Equal(got, []string{here}) {
		t.Errorf("ann sees %v", got)
	}
	if _, err := s.reg.ScopeOf(bobs); err != nil {
		t.Errorf("bob's device: %v", err)
	}
}

// TestScopeExpires: at its end a device's flows end, those without a connection too, with the reason; nothing opens or
// comes back, until there is another code.
func TestScopeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.SetPolicy(s.parse(robotRules))
		s.target("10.0.0.5:22", echo)
		stop := s.reg.OnChange(func(d auth.Device, why error) { s.EndDevice(d.ID, why) })
		defer stop()
		others := s.as("ann", "dev-1")
		defer others.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.WatchTime(ctx)

		key, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(time.Hour)
		s.peer.Device = s.enrolsAgain(key, "ann", auth.Scope{Until: end})
		time.Sleep(50 * time.Minute)
		detached := s.travel(s.peer)
		live := s.as("ann", s.peer.Device)
		detached.lose()
		time.Sleep(time.Until(end) - time.Second)
		if n := s.live.count(); n != 3 {
			t.Fatalf("%d flows before the end", n)
		}
		s.live.each(func(f *flow) {
			if told := f.told.Load() == int64(lastNotice); told != (f.peer.Device == s.peer.Device) {
				t.Errorf("%s was told that its session ends: %v", f.peer.Device, told)
			}
		})
		if _, err := io.ReadAll(live); codeOf(err) != "E_DEVICE_EXPIRED" || time.Since(end) > 5*time.Second {
			t.Errorf("the flow ended %v after the end with %v", time.Since(end), err)
		}
		live.Close()
		synctest.Wait()
		if n := s.live.count(); n != 1 {
			t.Errorf("%d flows are left", n)
		}
		if err := detached.resume(); codeOf(err) != "E_DEVICE_EXPIRED" {
			t.Errorf("it comes back: %v", err)
		}
		detached.stream.GiveUp(net.ErrClosed)
		detached.stream.Close()
		if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != "E_DEVICE_EXPIRED" {
			t.Errorf("it opens: %v", err)
		}
		if _, err := s.Admit(t.Context(), &frame.Hello{Device: key}, &frame.Peer{Remote: s.peer.Remote}); codeOf(err) != "E_DEVICE_EXPIRED" {
			t.Errorf("it comes in: %v", err)
		}
		s.enrolsAgain(key, "ann", auth.Scope{})
		if _, err := s.Admit(t.Context(), &frame.Hello{Device: key}, &frame.Peer{Remote: s.peer.Remote}); err != nil {
			t.Errorf("with another code: %v", err)
		}
		s.as("ann", s.peer.Device).Close()
		others.Close()
		s.settle()
	})
}

// TestAnotherScope: the flows of a device that enrols again end where its new scope does not have them.
func TestAnotherScope(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(robotRules))
	s.target("10.0.0.5:22", echo)
	stop := s.reg.OnChange(func(_ auth.Device, why error) {
		if why != nil {
			t.Errorf("it has ended: %v", why)
		}
		s.PeopleChanged()
	})
	defer stop()
	key := s.enrolled("ann")
	f := s.as("ann", auth.DeviceID(key))
	s.enrolsAgain(key, "ann", auth.Scope{Targets: []string{"db-1"}})
	speak(t, f, "SSH-2.0-still\r\n")
	s.enrolsAgain(key, "ann", auth.Scope{Targets: []string{"db-2"}})
	if _, err := io.ReadAll(f); codeOf(err) != policy.CodeTargetUnknown {
		t.Errorf("it ended with %v", err)
	}
}

// TestCodesByTheAPI: administrators make codes; what makes no sense is refused, and the audit log has each that was made.
func TestCodesByTheAPI(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(robotRules))
	for what, c := range map[string]struct {
		ask  api.AskCode
		code string
	}{
		"no user":           {api.AskCode{}, "E_NAME"},
		"a bad user":        {api.AskCode{User: "A b"}, "E_NAME"},
		"valid for long":    {api.AskCode{User: "bot", Valid: time.Hour}, "E_USAGE"},
		"valid no more":     {api.AskCode{User: "bot", Valid: -1}, "E_USAGE"},
		"an unknown target": {api.AskCode{User: "bot", Targets: []string{"db-1", "db-9"}}, "E_TARGET_UNKNOWN"},
		"a pattern":         {api.AskCode{User: "bot", Targets: []string{"*"}}, "E_TARGET_UNKNOWN"},
		"no target":         {api.AskCode{User: "bot", Targets: []string{""}}, "E_NAME"},
		"many targets":      {api.AskCode{User: "bot", Targets: slices.Repeat([]string{"db-1"}, 65)}, "E_NAME"},
		"another protocol":  {api.AskCode{User: "bot", Protocols: []string{"api"}}, "E_NAME"},
		"expired":           {api.AskCode{User: "bot", Expires: -time.Hour}, "E_USAGE"},
		"for ever":          {api.AskCode{User: "bot", Expires: 20 * 366 * 24 * time.Hour}, "E_NAME"},
	} {
		if no := s.ask("POST", "codes", c.ask, nil); no.Code != c.code || no.Sentence == "" {
			t.Errorf("%s: %+v, want %s", what, no, c.code)
		}
	}
	if kinds := s.book.kinds(); kinds != "" {
		t.Errorf("written: %s", kinds)
	}
	var made api.Code
	ask := api.AskCode{User: "bot", Valid: time.Minute, Targets: []string{"db-2", "db-1"}, Protocols: []string{"ssh"}, Expires: time.Hour}
	if no := s.ask("POST", "codes", ask, &made); no.Code != "" {
		t.Fatalf("%+v", no)
	}
	e := s.written(audit.CodeMade)
	if e.User != "bot" || e.By != "ann" || e.Device != "" || e.Detail["valid"] != "1m0s" || e.Detail["targets"] != "db-2,db-1" || e.Detail["protocols"] != "ssh" ||
		e.Detail["expires"] != made.Scope.Expires.Format(time.RFC3339) {
		t.Errorf("written: %+v", e)
	}
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(t.Context(), &frame.Hello{Device: key, Code: made.Code, User: "bot"}, &frame.Peer{Remote: s.peer.Remote}); err != nil {
		t.Fatal(err)
	}
	if e := s.written(audit.DeviceEnrolled); e.User != "bot" || e.Detail["targets"] != "db-1,db-2" {
		t.Errorf("written: %+v", e)
	}
	scope, err := s.reg.ScopeOf(auth.DeviceID(key))
	if err != nil || !slices.Equal(scope.Targets, []string{"db-1", "db-2"}) || !slices.Equal(scope.Protocols, []string{"ssh"}) || !scope.Until.Equal(made.Scope.Expires) ||
		time.Until(scope.Until).Round(time.Minute) != time.Hour {
		t.Errorf("%+v, %v", scope, err)
	}
	var list []api.Device
	s.ask("GET", "devices", nil, &list)
	if len(list) != 1 || len(list[0].Scope.Targets) != 2 {
		t.Errorf("%+v", list)
	}
	s.book.refuse(errors.New("full"))
	if no := s.ask("POST", "codes", ask, nil); no.Code != "E_AUDIT" {
		t.Errorf("what is not written: %+v", no)
	}
}

// TestWhyOfADevice: why says what the scope of a device takes away.
func TestWhyOfADevice(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(robotRules))
	device := s.robot("ann", auth.Scope{Targets: []string{"db-1"}})
	for target, allowed := range map[string]bool{"db-1": true, "db-2": false} {
		c := call{httptest.NewRequest("GET", "/api/v1/policy/why?user=ann&device="+device+"&target="+target, nil), s.Gateway, s.peer}
		v, err := c.why()
		if err != nil {
			t.Fatal(err)
		}
		if w := v.(api.Why); w.Allowed != allowed || !allowed && (w.Code != policy.CodeTargetUnknown || !strings.Contains(w.Text, "this device")) {
			t.Errorf("%s: %+v", target, w)
		}
	}
}
