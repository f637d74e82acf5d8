package appliance

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/appliance/access"
	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/netstack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a gateway with a VNet in memory.
type site struct {
	*Gateway
	t    *testing.T
	vnet *memoryVNet
	reg  *auth.Registry
	book *notebook
	peer frame.Peer
	wg   sync.WaitGroup
}

// memoryVNet counts what it is asked for.
type memoryVNet struct {
	netstack.Memory
	fence   netstack.Fence
	lookups []string
}

func (v *memoryVNet) Choose(addrs []netip.Addr) (netip.Addr, error) { return v.fence.Choose(addrs) }

func (v *memoryVNet) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	v.lookups = append(v.lookups, host)
	return v.Memory.LookupNetIP(ctx, network, host)
}

const siteAccess = `
admins: [ann]
targets:
  - {name: db-1, vnet: hub, address: 10.0.0.5, protocols: {ssh: 22, tcp: 5432}}
  - {name: named, vnet: hub, address: db.corp.example, protocols: {ssh: 22}}
  - {name: rebound, vnet: hub, address: rebound.corp.example, protocols: {ssh: 22}}
  - {name: outside, vnet: hub, address: outside.corp.example, protocols: {ssh: 22}}
  - {name: hidden, vnet: hub, address: hidden.corp.example, protocols: {ssh: 22}}
rules:
  - {name: operators, who: [ann, bob], targets: [db-1, named, rebound, outside], protocols: [ssh, tcp], lifetime: 1h}
`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, vnet: &memoryVNet{fence: netstack.Fence{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}},
		peer: frame.Peer{Transport: "quic", User: "ann", Device: "dev-1", Remote: netip.MustParseAddrPort("192.0.2.1:5")}}
	s.vnet.Hosts = map[string][]netip.Addr{
		"db.corp.example":      {netip.MustParseAddr("10.0.0.5")},
		"rebound.corp.example": {netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("169.254.169.254")},
		"outside.corp.example": {netip.MustParseAddr("8.8.8.8")},
	}
	var err error
	if s.reg, err = auth.Open(t.Context(), t.TempDir(), new(auth.Memory), time.Now); err != nil {
		t.Fatal(err)
	}
	s.book = new(notebook)
	s.Gateway = &Gateway{Name: "site", Audit: s.book, VNets: map[string]VNet{"hub": s.vnet}, Devices: s.reg, Accounts: new(guests), Metrics: NewMetrics(),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	s.Read = func(f access.Files) (*access.Rules, error) {
		return access.Read(f, policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: func(netip.Addr) error { return nil }})
	}
	if s.Locks, err = auth.OpenLocks(t.Context(), forgetful{}, time.Now, s.EndLocked); err != nil {
		t.Fatal(err)
	}
	s.SetPolicy(s.parse(siteAccess))
	t.Cleanup(func() {
		s.settle()
		s.vnet.Close()
		s.reg.Close()
		for user, share := range s.rooms.share {
			if left := share.Free(); left != roomOfOne {
				t.Errorf("%d bytes of %s's room were not given back", roomOfOne-left, user)
			}
		}
		if s.rooms.all != nil && s.rooms.all.Free() != roomOfAll {
			t.Errorf("%d bytes of room were not given back", roomOfAll-s.rooms.all.Free())
		}
	})
	return s
}

// settle waits for all that has begun to end.
func (s *site) settle() {
	s.wg.Wait()
	s.relays.Wait()
}

func (s *site) parse(access string, policies ...string) *policy.Policy {
	s.t.Helper()
	files := []policy.File{{Name: "access.yaml", Data: []byte(access)}, {Name: "more.cedar", Data: []byte(strings.Join(policies, "\n"))}}
	p, err := policy.Parse(files, policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: func(netip.Addr) error { return nil }})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// target listens in the VNet and serves each connection.
func (s *site) target(address string, serve func(net.Conn)) {
	s.t.Helper()
	l, err := s.vnet.Listen(s.t.Context(), "tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	s.t.Cleanup(func() { l.Close(); wg.Wait() })
}

// echo is an SSH server as far as the guard can tell.
func echo(c net.Conn) {
	io.WriteString(c, "SSH-2.0-echo\r\n")
	io.Copy(c, c)
	c.(interface{ CloseWrite() error }).CloseWrite()
}

// open asks for a flow.
func (s *site) open(req frame.OpenRequest) (*frame.Stream, *frame.Opened, error) {
	s.t.Helper()
	client, appliance := frametest.Pipe(0)
	s.wg.Go(func() { s.Flow(context.Background(), appliance, s.peer) })
	return frame.Open(s.t.Context(), client, req, frame.Options{})
}

// request is one to the API, for those who are asked directly.
func (s *site) request(method, path string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://appliance/api/v1/"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// enrolled is the key of a new device of somebody.
func (s *site) enrolled(user string) ed25519.PublicKey {
	s.t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	code, err := s.reg.NewCode(user, 0, auth.Scope{})
	if err == nil {
		_, err = s.reg.Enrol(auth.Enrolment{Code: code, Key: key, Name: "laptop", Source: s.peer.Remote.Addr()})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

func codeOf(err error) frame.Code {
	r, ok := frame.ReasonOf(err)
	if !ok {
		return ""
	}
	return r.Code
}

func TestFlow(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	for _, name := range []string{"db-1", "named"} {
		f, opened, err := s.open(frame.OpenRequest{Target: name, Protocol: "ssh"})
		if err != nil {
			t.Fatal(err)
		}
		if opened.Target != name || opened.Rule != "operators" || opened.Lifetime != time.Hour.Milliseconds() || opened.Port != 22 {
			t.Errorf("opened %+v", opened)
		}
		io.WriteString(f, "SSH-2.0-client\r\n")
		f.CloseWrite()
		if got, err := io.ReadAll(f); string(got) != "SSH-2.0-echo\r\nSSH-2.0-client\r\n" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		f.Close()
	}
}

func TestFlowRefused(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		target, protocol string
		port             uint16
		code             frame.Code
		lookup           bool
	}{
		{"db9", "ssh", 0, "E_TARGET_UNKNOWN", false},
		{"hidden", "ssh", 0, "E_TARGET_UNKNOWN", false},
		{"db-1", "ssh", 23, "E_PORT_DENIED", false},
		{"db-1", "rdp", 0, "E_DENIED", false},
		{"10.0.0.5", "ssh", 22, "E_ADDRESS_MODE", false},
		{"db-1", "ssh", 0, "E_REFUSED", false},
		{"rebound", "ssh", 0, "E_FORBIDDEN_ADDRESS", true},
		{"outside", "ssh", 0, "E_FORBIDDEN_ADDRESS", true},
	} {
		s.vnet.lookups = nil
		_, _, err := s.open(frame.OpenRequest{Target: c.target, Protocol: c.protocol, Port: c.port})
		reason, _ := frame.ReasonOf(err)
		if reason.Code != c.code || reason.Sentence == "" {
			t.Errorf("%s %s %d: %v (%s), want %s", c.protocol, c.target, c.port, err, reason.Code, c.code)
		}
		if (len(s.vnet.lookups) > 0) != c.lookup {
			t.Errorf("%s %s: looked up %v", c.protocol, c.target, s.vnet.lookups)
		}
	}
}

// TestApprovalIsMissing: what somebody must agree to is refused while nobody can be asked.
func TestApprovalIsMissing(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse("groups: {leads: [lea], owners: []}\n"+strings.Replace(siteAccess, "lifetime: 1h", "approval: leads", 1),
		`@approval("owners") permit (principal == User::"ann", action in Action::"use", resource);`))
	_, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if reason, _ := frame.ReasonOf(err); reason.Code != "E_APPROVAL" || reason.Sentence != "db-1:22 needs the approval of somebody in leads and in owners" {
		t.Errorf("%v", err)
	}
}

// TestPolicyFails: what cannot be evaluated denies, and the log says which policy and why.
func TestPolicyFails(t *testing.T) {
	s := newSite(t)
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.SetPolicy(s.parse(siteAccess, `@id("sum") forbid (principal, action == Action::"connect", resource) when { context.port + 9223372036854775807 > 0 };`))
	_, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	s.settle()
	if reason, _ := frame.ReasonOf(err); reason.Code != policy.CodeDenied || reason.Rule != "sum" {
		t.Errorf("%v", err)
	}
	if line := log.String(); !strings.Contains(line, `msg="policy failed"`) || !strings.Contains(line, "policy=sum at=more.cedar:1:12") || !strings.Contains(line, "overflow") {
		t.Errorf("the log says %s", line)
	}
}

// TestFlowEnds: whatever ends a right ends the flows that it allowed, with its reason, which is written before anybody is
// told.
func TestFlowEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(s *site)
		code frame.Code
	}{
		"policy": {func(s *site) { s.SetPolicy(s.parse(strings.Replace(siteAccess, "[ann, bob]", "[bob]", 1))) }, "E_TARGET_UNKNOWN"},
		"device": {func(s *site) { s.EndDevice("dev-1", auth.ErrRevoked) }, frame.Code(auth.ErrRevoked.Code)},
		"drain":  {func(s *site) { s.Drain(context.Background(), 50*time.Millisecond) }, frame.Draining},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.target("10.0.0.5:22", echo)
			f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := io.ReadFull(f, make([]byte, 14)); err != nil {
				t.Fatal(err)
			}
			go c.end(s)
			if _, err := io.ReadAll(f); codeOf(err) != c.code {
				t.Errorf("the flow ended with %v, want %s", err, c.code)
			}
			if ends := s.ends(); !slices.Equal(ends, []string{"ann " + string(c.code)}) {
				t.Errorf("the audit log has %q when the client is told", ends)
			}
		})
	}
}

// TestFlowElsewhere: a flow ends when what it was allowed to is another thing now, although asking again would be
// allowed; what does not concern it leaves it alone.
func TestFlowElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		ends     bool
	}{
		"port":               {"ssh: 22, tcp", "ssh: 2222, tcp", true},
		"address":            {"address: 10.0.0.5,", "address: 10.0.0.6,", true},
		"lifetime":           {"lifetime: 1h", "lifetime: 1ms", true},
		"denied addresses":   {"lifetime: 1h", "addresses: [10.0.9.0/24]", true},
		"another's target":   {"db.corp.example", "db2.corp.example", false},
		"a longer lifetime":  {"lifetime: 1h", "lifetime: 9h", false},
		"another protocol":   {"tcp: 5432", "tcp: 5433", false},
		"addresses that fit": {"lifetime: 1h", "addresses: [10.0.0.0/24]", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.target("10.0.0.5:22", echo)
			f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := io.ReadFull(f, make([]byte, 14)); err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(siteAccess, c.old, c.new, 1)
			if changed == siteAccess {
				t.Fatal("nothing changed")
			}
			time.Sleep(2 * time.Millisecond) // longer than the shortest lifetime
			s.SetPolicy(s.parse(changed))
			io.WriteString(f, "SSH-2.0-still\r\n")
			_, err = io.ReadFull(f, make([]byte, 15))
			if ended := err != nil; ended != c.ends {
				t.Errorf("the flow went on: %v (%v)", !ended, err)
			}
		})
	}
}

// TestFlowWhilePolicyChanges: a policy that comes while a flow is being opened counts for it.
func TestFlowWhilePolicyChanges(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	for range 200 {
		var wg sync.WaitGroup
		wg.Go(func() { s.SetPolicy(s.parse(strings.Replace(siteAccess, "[ann, bob]", "[bob]", 1))) })
		f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
		wg.Wait()
		if err == nil {
			if _, err = io.ReadAll(f); err == nil {
				t.Fatal("the flow ended in order")
			}
			f.Close()
		}
		if code := codeOf(err); code != "E_TARGET_UNKNOWN" {
			t.Fatalf("the flow ended with %v", err)
		}
		s.SetPolicy(s.parse(siteAccess))
	}
}

// TestFlowOfAnother: what ends one person's right leaves another's flows alone.
func TestFlowOfAnother(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	s.peer.User, s.peer.Device = "bob", "dev-2"
	f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.EndDevice("dev-1", auth.ErrRevoked)
	s.SetPolicy(s.parse(strings.Replace(siteAccess, "[ann, bob]", "[bob]", 1)))
	io.WriteString(f, "SSH-2.0-still\r\n")
	if got, err := io.ReadAll(io.LimitReader(f, 29)); !strings.HasSuffix(string(got), "still\r\n") || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestFlowLimits(t *testing.T) {
	s := newSite(t)
	s.Limits = Limits{Flows: 3, FlowsPerUser: 2}
	s.target("10.0.0.5:22", echo)
	var open []*frame.Stream
	for range 2 {
		f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != "E_LIMIT" {
		t.Errorf("the third flow of a person: %v", err)
	}
	s.peer.User = "bob"
	f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if err != nil {
		t.Fatal(err)
	}
	open = append(open, f)
	_, _, err = s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if reason, _ := frame.ReasonOf(err); reason.Code != "E_BUSY" || reason.Retry == 0 {
		t.Errorf("a flow of a full appliance: %v", err)
	}
	for _, f := range open {
		f.Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for s.live.count() > 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := s.live.count(); n > 0 {
		t.Errorf("%d flows are still counted", n)
	}
}

func TestAPI(t *testing.T) {
	s := newSite(t)
	pub, _, _ := ed25519.GenerateKey(rand.Reader)
	code, err := s.reg.NewCode("ann", 0, auth.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	device, err := s.reg.Enrol(auth.Enrolment{Code: code, Key: pub, Name: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			f, _, err := s.open(frame.OpenRequest{Protocol: "api"})
			if err != nil {
				return nil, err
			}
			return f, nil
		},
		DisableKeepAlives: true,
	}}
	ask := func(method, path string, into any) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://appliance/api/v1/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	var me api.Me
	if ask("GET", "me", &me); me.User != "ann" || !me.Admin || me.Appliance != "site" {
		t.Errorf("me: %+v", me)
	}
	var targets []api.Target
	if ask("GET", "targets", &targets); len(targets) != 4 || targets[0].Name != "db-1" || targets[0].Protocols["ssh"][0] != 22 {
		t.Errorf("targets: %+v", targets)
	}
	for query, want := range map[string]api.Grant{
		"target=db-1":                        {Target: "db-1", VNet: "hub", Protocol: "ssh", Port: 22, Rule: "operators", Channels: []string{"upload", "download"}, Lifetime: time.Hour},
		"target=db-1&port=0&protocol=tcp":    {Target: "db-1", VNet: "hub", Protocol: "tcp", Port: 5432, Rule: "operators", Channels: []string{"upload", "download"}, Lifetime: time.Hour},
		"target=named&port=22&protocol=ssh":  {Target: "named", VNet: "hub", Protocol: "ssh", Port: 22, Rule: "operators", Channels: []string{"upload", "download"}, Lifetime: time.Hour},
		"target=rebound&port=&protocol=ssh&": {Target: "rebound", VNet: "hub", Protocol: "ssh", Port: 22, Rule: "operators", Channels: []string{"upload", "download"}, Lifetime: time.Hour},
	} {
		var grant api.Grant
		if status := ask("GET", "grant?"+query, &grant); status != 200 || !reflect.DeepEqual(grant, want) {
			t.Errorf("grant %s: %d %+v", query, status, grant)
		}
	}
	for query, want := range map[string]frame.Code{
		"target=hidden&protocol=ssh": "E_TARGET_UNKNOWN", "target=db-1&protocol=rdp": "E_DENIED", "target=db-1&port=23&protocol=ssh": "E_PORT_DENIED",
		"target=db-1&port=65536": "E_PORT", "target=db-1&port=-1": "E_PORT", "target=db-1&protocol=api": "E_NAME", "": "E_NAME",
	} {
		var no api.Failure
		if status := ask("GET", "grant?"+query, &no); status != 400 || no.Code != string(want) || no.Sentence == "" {
			t.Errorf("grant %s: %d %+v, want %s", query, status, no, want)
		}
	}
	if len(s.vnet.lookups) > 0 || s.live.count() > 0 {
		t.Errorf("to answer that, it has looked up %v and has %d flows", s.vnet.lookups, s.live.count())
	}
	if n := counted(t, s.Metrics, "sallyport_flows_refused_total", "E_DENIED"); n != 1 {
		t.Errorf("%v refusals are counted as E_DENIED", n)
	}
	var list []api.Device
	if ask("GET", "devices", &list); len(list) != 1 || list[0].ID != device.ID || list[0].Name != "laptop" {
		t.Errorf("devices: %+v", list)
	}
	var nothing struct{}
	if status := ask("DELETE", "devices/"+device.ID, &nothing); status != 200 {
		t.Errorf("revoke: %d", status)
	}
	if _, err := s.reg.Device(pub); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("the device after its revocation: %v", err)
	}
	s.peer.User = "bob"
	var no api.Failure
	if status := ask("GET", "devices", &no); status != http.StatusForbidden || no.Code != "E_ADMIN" {
		t.Errorf("bob asks for devices: %d %+v", status, no)
	}
}
