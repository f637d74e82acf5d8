package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// accessFolder are the access files of these tests.
const accessFolder = `
admins: [ann]
groups: {ops: [bob]}
targets:
  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}, labels: {env: prod}}
rules:
  - {name: operators, who: [ann, "group:ops"], targets: [db-1], protocols: [ssh]}
`

// withFolder starts a bastion whose access files are a folder, and enrols bob beside ann.
func withFolder(t *testing.T, extra ...string) (b *bastion, bob string) {
	b = start(t, settings{extra: strings.Join(extra, "\n"), prepare: func(b *bastion) {
		b.policy("access.yaml", accessFolder)
		config, err := os.ReadFile(filepath.Join(b.dir, "sallyport.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		b.write("sallyport.yaml", strings.Replace(string(config), "access: access.yaml", "access: access", 1))
	}})
	bob = filepath.Join(b.Dir, "bob")
	if err := os.Mkdir(bob, 0o700); err != nil {
		t.Fatal(err)
	}
	b.enrol("bob", bob)
	return b, bob
}

// policy writes a file of the folder, or removes it.
func (b *bastion) policy(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, "access", name)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil && text == "" {
		err = os.Remove(path)
	} else if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// heldBy is an ssh of somebody that lasts until its flow ends.
func (b *bastion) heldBy(home, transport string) *lab.Process {
	b.t.Helper()
	whole := *b
	whole.home = home
	return whole.held(transport)
}

// sessions are those that somebody sees.
func (b *bastion) sessions(home string, args ...string) (list []struct{ Session, User, Transport, Target string }) {
	b.t.Helper()
	r := b.as(home, "", append([]string{"sessions", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.exit != 0 {
		b.t.Fatalf("sessions: %v: %v", err, r)
	}
	return list
}

// TestSessions: real ssh sessions over both transports are listed, and end when somebody ends them, is locked out, or the
// rules change; each person is told why, and the audit log has it all and is whole.
func TestSessions(t *testing.T) {
	t.Parallel()
	const banner = "for work only; what you do here is written down"
	b, bob := withFolder(t, fmt.Sprintf("banner: %q\n", banner))
	first, second, anns := b.heldBy(bob, "quic"), b.heldBy(bob, "https"), b.heldBy(b.home, "quic")
	for _, p := range []*lab.Process{first, second, anns} {
		if said := p.Output(); strings.Count(said, "sallyport: "+banner+"\n") != 1 || strings.Index(said, banner) > strings.Index(said, "held") {
			t.Errorf("who connects is told %q", said)
		}
	}
	if r := b.client("ls"); !strings.Contains(r.stderr, "sallyport: "+banner+"\n") || strings.Contains(r.stdout, banner) {
		t.Errorf("who asks is told %v", r)
	}
	if list := b.sessions(bob, "--all"); len(list) != 2 {
		t.Fatalf("bob sees %+v", list)
	}
	all := b.sessions(b.home, "--all")
	if len(all) != 3 {
		t.Fatalf("ann sees %+v", all)
	}
	r := b.client("sessions", "--all")
	t.Logf("\n%s", r.stdout)

	// By its id, with a reason.
	of := slices.IndexFunc(all, func(s struct{ Session, User, Transport, Target string }) bool {
		return s.User == "bob" && s.Transport == "quic"
	})
	if r := b.client("sessions", "kill", all[of].Session[:12], "--why", "maintenance"); r.exit != 0 || !strings.Contains(r.stderr, "ended "+all[of].Session[:12]+" of bob to db-1") {
		t.Errorf("kill: %v", r)
	}
	b.ends(first, 5*time.Second, "an administrator has ended this session: maintenance")
	if r := b.as(bob, "", "sessions", "kill", all[slices.IndexFunc(all, func(s struct{ Session, User, Transport, Target string }) bool { return s.User == "ann" })].Session); r.exit != 2 {
		t.Errorf("bob ends ann's session: %v", r)
	}

	// A lock ends what bob has, and keeps him out.
	if r := b.client("admin", "lock", "user", "bob", "--why", "the laptop is lost"); r.exit != 0 {
		t.Errorf("lock: %v", r)
	}
	b.ends(second, 5*time.Second, "you are locked out: the laptop is lost")
	if r := b.as(bob, "", "proxy", "db-1"); r.exit != 11 || !strings.Contains(r.stderr, "you are locked out") {
		t.Errorf("bob connects while he is locked out: %v", r)
	}
	if r := b.client("admin", "locks"); r.exit != 0 || !strings.Contains(r.stdout, "the laptop is lost") {
		t.Errorf("locks: %v", r)
	}

	// The lock outlives the appliance.
	b.daemon.Process.Kill()
	b.daemon.Wait()
	b.serve()
	b.eventually(20*time.Second, "bob is still locked out", func() error {
		if r := b.as(bob, "", "proxy", "db-1"); r.exit != 11 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	if r := b.client("admin", "unlock", "user", "bob"); r.exit != 0 {
		t.Errorf("unlock: %v", r)
	}
	b.ends(anns, 20*time.Second, "") // with the daemon that was killed

	// A policy in a file of its own, taken while the appliance runs; why says so.
	third := b.heldBy(bob, "https")
	b.policy("prod.cedar", "@id(\"nobody but ann in production\")\n@hint(\"ask ann\")\nforbid (principal, action in Action::\"use\", resource in Label::\"env=prod\")\nunless { principal == User::\"ann\" };\n")
	b.ends(third, 5*time.Second, `denied by policy "nobody but ann in production"`)
	if r := b.as(bob, "", "proxy", "db-1"); r.exit != 11 || !strings.Contains(r.stderr, "ask ann") {
		t.Errorf("bob: %v", r)
	}
	if r := b.client("admin", "policy", "why", "--user", "bob", "--target", "db-1", "--protocol", "ssh"); r.exit != 11 || !strings.Contains(r.stdout, `forbid "nobody but ann in production"`) {
		t.Errorf("why: %v", r)
	} else {
		t.Logf("\n%s", r.stdout)
	}
	if r := b.client("admin", "policy", "why", "--user", "ann", "--target", "db-1"); r.exit != 0 || !strings.Contains(r.stdout, `allowed by "operators"`) {
		t.Errorf("why: %v", r)
	}
	b.policy("prod.cedar", "")
	b.eventually(5*time.Second, "the policy is gone", func() error { return b.asBob(bob) })
	b.wholeTrail()
}

// asBob connects once as bob.
func (b *bastion) asBob(bob string) error {
	whole := *b
	whole.home = bob
	return whole.ssh("quic", "db-1", "echo in", "in")
}

// wholeTrail looks into the audit log, by the command and in a copy of its files, which then is tampered with.
func (b *bastion) wholeTrail() {
	b.t.Helper()
	r := b.client("audit", "--since", "1h", "--json")
	kinds := map[string]int{}
	for line := range strings.Lines(r.stdout) {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.t.Fatalf("audit: %v: %s", err, line)
		}
		kinds[e.Event]++
	}
	for _, kind := range []string{"daemon.start", "code.made", "device.enrolled", "sign-in.ok", "sign-in.refused", "decision.allowed", "decision.refused", "flow.open", "flow.end",
		"session.killed", "lock.made", "lock.removed", "access.changed"} {
		if kinds[kind] == 0 {
			b.t.Errorf("no %s in the audit log: %v", kind, kinds)
		}
	}
	b.t.Logf("\n%s", b.client("audit", "--user", "bob").stdout)
	denied := strings.Split(strings.TrimSpace(b.client("audit", "--code", "E_DENIED", "--json").stdout), "\n")
	for _, line := range denied {
		if !strings.Contains(line, `"code":"E_DENIED"`) {
			b.t.Errorf("audit --code E_DENIED: %s", line)
		}
	}

	key, copied := filepath.Join(b.Dir, "audit-key"), filepath.Join(b.Dir, "copy")
	k := b.client("audit", "key")
	if err := errors.Join(os.WriteFile(key, []byte(k.stdout), 0o600), os.CopyFS(copied, os.DirFS(filepath.Join(b.Dir, "state", "audit")))); err != nil {
		b.t.Fatal(err)
	}
	verify := func() run { return b.client("audit", "verify", "--key", key, copied) }
	if r := verify(); r.exit != 0 || !strings.HasPrefix(r.stdout, "whole: lines 1 to ") {
		b.t.Errorf("verify: %v", r)
	}
	segments, err := filepath.Glob(filepath.Join(copied, "audit-*.jsonl"))
	if err != nil || len(segments) == 0 {
		b.t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil || os.WriteFile(segments[0], bytes.Replace(text, []byte(`"user":"bob"`), []byte(`"user":"eve"`), 1), 0o600) != nil {
		b.t.Fatal(err)
	}
	if r := verify(); r.exit != 1 || !strings.Contains(r.stderr, "the log is not whole: audit-") {
		b.t.Errorf("verify after a change: %v", r)
	} else {
		b.t.Logf("%s", r.stderr)
	}
}

// TestRightEndsWithTime: a session ends when the right to it does, and is told before.
func TestRightEndsWithTime(t *testing.T) {
	t.Parallel()
	b, bob := withFolder(t)
	p := b.heldBy(bob, "https") // before there is such a policy
	end := time.Now().Add(35 * time.Second).UTC()
	b.policy("window.cedar", fmt.Sprintf("@id(\"until then\")\nforbid (principal == User::\"bob\", action, resource)\nwhen { context.now > datetime(%q) };\n", end.Format("2006-01-02T15:04:05Z")))
	b.eventually(5*time.Second, "the policy is taken", func() error {
		if r := b.client("admin", "policy", "why", "--user", "bob", "--target", "db-1", "--at", "2040-01-01"); !strings.Contains(r.stdout, "until then") {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	b.ends(p, 70*time.Second, `the time of this right is over: db-1:22 denied by policy "until then"`)
	if !strings.Contains(p.Output(), "this session ends within a minute") {
		t.Errorf("it was not told before: %s", p.Output())
	}
	if time.Now().Before(end) {
		t.Error("the session ended before its right")
	}
}

// TestApprovals: real ssh waits until somebody else says yes, and ends with what they have said; a no, and one's own yes, let
// nobody in.
func TestApprovals(t *testing.T) {
	t.Parallel()
	b, bob := withFolder(t)
	b.policy("access.yaml", strings.Replace(accessFolder, "groups: {ops: [bob]}", "groups: {ops: [bob], leads: [ann, bob]}", 1))
	b.policy("yes.cedar", "@id(\"with a yes\")\n@approval(\"leads\")\npermit (principal, action in Action::\"use\", resource == Target::\"db-1\");\n")
	b.eventually(5*time.Second, "the policy is taken", func() error {
		if r := b.client("admin", "policy", "why", "--user", "bob", "--target", "db-1"); !strings.Contains(r.stdout, "leads") {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	waiting := func(transport string) (p *lab.Process, id string) {
		t.Helper()
		whole := *b
		whole.home = bob
		cmd := whole.Client.Command(t.Context(), "ssh", append(whole.sshOptions(transport), "root@db-1", "echo in; sleep 600")...)
		cmd.Env = b.environ(bob)
		p = lab.Start(t, cmd)
		b.eventually(10*time.Second, "a request waits", func() error {
			var list []struct {
				ID   string
				May  bool `json:"may_decide"`
				User string
			}
			r := b.mustClient("approvals", "--json")
			if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 1 || !list[0].May || list[0].User != "bob" {
				return fmt.Errorf("%v, %+v", err, list)
			}
			id = list[0].ID
			return nil
		})
		b.eventually(5*time.Second, "bob is told", func() error {
			if want := "sallyport: waiting for somebody in leads to approve db-1:22; the request is " + id[:12]; !strings.Contains(p.Output(), want) {
				return fmt.Errorf("he was told %q", p.Output())
			}
			return nil
		})
		return p, id
	}

	p, id := waiting("quic")
	t.Logf("\n%s", b.client("approvals").stdout)
	if r := b.as(bob, "", "approve", id); r.exit != 11 || !strings.Contains(r.stderr, "nobody decides their own request") {
		t.Errorf("bob approves his own: %v", r)
	}
	t.Logf("%s", b.mustClient("approve", id[:12], "--for", "1m").stderr)
	b.eventually(10*time.Second, "ssh goes on", func() error {
		if !strings.Contains(p.Output(), "in\n") {
			return fmt.Errorf("ssh says %q", p.Output())
		}
		return nil
	})
	b.ends(p, 90*time.Second, "the approval for db-1:22 has ended")
	if !strings.Contains(p.Output(), "this session ends within a minute") {
		t.Errorf("bob was not told before: %s", p.Output())
	}

	p, id = waiting("https")
	if r := b.client("deny", id[:12], "--why", "after lunch"); r.exit != 0 {
		t.Errorf("deny: %v", r)
	}
	b.ends(p, 5*time.Second, "ann has not approved db-1:22: after lunch")
	if r := b.client("approve", id); r.exit != 2 {
		t.Errorf("approve what was denied: %v", r)
	}
}
