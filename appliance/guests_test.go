package appliance

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// inn is a database of guest links in memory.
type inn struct {
	devices *auth.Memory

	mu     sync.Mutex
	links  []auth.GuestLink
	uses   []auth.GuestUse
	broken error
}

func (n *inn) Links(context.Context, time.Time) ([]auth.GuestLink, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.links), n.broken
}

func (n *inn) Link(_ context.Context, hash [sha256.Size]byte) (auth.GuestLink, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		if l.Hash == hash {
			return l, n.broken
		}
	}
	return auth.GuestLink{}, auth.ErrGuestLink
}

func (n *inn) Uses(context.Context, time.Time) ([]auth.GuestUse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.uses), n.broken
}

func (n *inn) Add(_ context.Context, l auth.GuestLink, most int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.links) >= most {
		return auth.ErrManyGuests
	}
	n.links = append(n.links, l)
	return n.broken
}

func (n *inn) Open(ctx context.Context, hash [sha256.Size]byte, d auth.Device, source string, now time.Time) (auth.Device, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, l := range n.links {
		if l.Hash == hash && l.Used < l.Uses && l.Good(now) {
			n.links[i].Used++
			if d.User == "" {
				d.User = fmt.Sprintf("guest:%s-%d", l.ID, l.Used+1)
			}
			n.uses = append(n.uses, auth.GuestUse{Link: l.ID, Number: l.Used + 1, User: d.User, Device: d.ID, Source: source, At: now})
			return d, errors.Join(n.broken, n.devices.Put(ctx, d))
		}
	}
	return auth.Device{}, auth.ErrGuestLink
}

func (n *inn) Revoke(_ context.Context, id string, at time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, l := range n.links {
		if l.ID == id {
			n.links[i].Revoked = at
		}
	}
	return n.broken
}

func (n *inn) Watch(ctx context.Context, _ func() error) error {
	<-ctx.Done()
	return ctx.Err()
}

const guestRules = `
admins: [root]
bench: [ann]
groups: {leads: [lea, ann], idp: []}
targets:
  - {name: db-1, vnet: hub, address: 10.0.0.5, protocols: {ssh: 22, rdp: 3389, tcp: 5432}}
  - {name: db-2, vnet: hub, address: 10.0.0.6, protocols: {ssh: 22}}
rules:
  - {name: shared, who: [ann], targets: [db-1], protocols: [ssh, rdp, tcp], share: true}
  - {name: alone, who: [ann, bob, carl], targets: [db-2]}
  - {name: of groups, who: ["group:idp"], targets: [db-2], share: true}
`

// hosting gives a site guest links.
func hosting(t *testing.T, s *site) *inn {
	t.Helper()
	n := &inn{devices: s.kept}
	var err error
	if s.Guests, err = auth.OpenGuests(t.Context(), n, s.reg, time.Now, s.GuestsChanged); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Guests.Close)
	s.URL = "https://bastion.example"
	return n
}

// sharing is a site where ann lets guests in to db-1.
func sharing(t *testing.T) *site {
	t.Helper()
	s, _ := approving(t, 0)
	s.target("10.0.0.5:3389", echo)
	s.target("10.0.0.6:22", echo)
	s.SetPolicy(s.parse(guestRules))
	hosting(t, s)
	s.peer.Device = auth.DeviceID(s.enrolled("ann"))
	return s
}

// shares makes a link, and returns it with its secret.
func (s *site) shares(ask api.AskGuest) (api.GuestLink, string) {
	s.t.Helper()
	var l api.GuestLink
	if no := s.ask("POST", "guests", ask, &l); no.Code != "" {
		s.t.Fatal(no)
	}
	at, secret, _ := strings.Cut(l.Link, "#")
	if at != "https://bastion.example/guest" || len(secret) != 43 {
		s.t.Fatalf("the link is %q", l.Link)
	}
	return l, secret
}

// opens opens a link, and returns who comes by it.
func (s *site) opens(secret string) (frame.Peer, error) {
	s.t.Helper()
	from := netip.MustParseAddr("198.51.100.9")
	l, err := s.LookGuest(s.t.Context(), secret, from)
	if err != nil {
		return frame.Peer{}, err
	}
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := s.OpenGuest(s.t.Context(), l, auth.Device{Key: key, Name: "a guest's browser", Platform: "Linux"}, from)
	return frame.Peer{User: d.User, Device: d.ID, Transport: "https", Remote: netip.AddrPortFrom(from, 4711)}, err
}

// guest makes a link to db-1 and opens it.
func (s *site) guest() (api.GuestLink, frame.Peer) {
	s.t.Helper()
	l, secret := s.shares(api.AskGuest{Target: "db-1"})
	p, err := s.opens(secret)
	if err != nil {
		s.t.Fatal(err)
	}
	return l, p
}

// by does something in the name of somebody.
func (s *site) by(p frame.Peer, do func()) {
	before := s.peer
	s.peer = p
	defer func() { s.peer = before }()
	do()
}

// flowOf is an open flow of a guest's to db-1.
func (s *site) flowOf(p frame.Peer) *frame.Stream {
	s.t.Helper()
	var f *frame.Stream
	s.by(p, func() {
		var err error
		if f, _, err = s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); err != nil {
			s.t.Fatal(err)
		}
	})
	io.WriteString(f, "SSH-2.0-x\r\n")
	if _, err := io.ReadFull(f, make([]byte, 11)); err != nil {
		s.t.Fatal(err)
	}
	return f
}

// TestGuest: whoever has the link reaches that target by that protocol, and is nobody else.
func TestGuest(t *testing.T) {
	s := sharing(t)
	link, guest := s.guest()
	if guest.User != "guest:"+link.ID+"-1" {
		t.Errorf("the guest is %s", guest.User)
	}
	f := s.flowOf(guest)
	defer f.Close()
	if e := s.written(audit.FlowOpen); e.User != guest.User || e.Detail["guest_of"] != "ann" || e.Detail["link"] != link.ID {
		t.Errorf("%+v", e)
	}
	for _, list := range [][]api.Session{s.listedTo(s.peer), s.listedTo(guest)} {
		if len(list) != 1 || list[0].User != guest.User || list[0].GuestOf != "ann" || list[0].Link != link.ID {
			t.Errorf("%+v", list)
		}
	}
	if list := s.listedTo(frame.Peer{User: "bob", Device: auth.DeviceID(s.enrolled("bob"))}); len(list) != 0 {
		t.Errorf("bob sees %+v", list)
	}

	s.by(guest, func() {
		if list := s.targets(s.peer); len(list) != 1 || list[0].Name != "db-1" || len(list[0].Protocols) != 1 || list[0].Protocols["ssh"] == nil {
			t.Errorf("the guest sees %+v", list)
		}
		var grant api.Grant
		if no := s.ask("GET", "grant?target=db-1", nil, &grant); no.Code != "" || grant.Share {
			t.Errorf("the guest may connect %+v, %+v", grant, no)
		}
		for _, c := range []struct {
			req  frame.OpenRequest
			code frame.Code
		}{
			{frame.OpenRequest{Target: "db-1", Protocol: "rdp"}, "E_DENIED"},
			{frame.OpenRequest{Target: "db-1", Protocol: "tcp"}, "E_DENIED"},
			{frame.OpenRequest{Target: "db-2", Protocol: "ssh"}, "E_TARGET_UNKNOWN"},
			{frame.OpenRequest{Target: "10.0.0.6", Protocol: "ssh"}, "E_ADDRESS_MODE"},
			{frame.OpenRequest{Target: "echo", Protocol: "bench"}, "E_DENIED"},
		} {
			if _, _, err := s.open(c.req); codeOf(err) != c.code {
				t.Errorf("%+v: %v, want %s", c.req, err, c.code)
			}
		}
		for _, r := range routes {
			path := strings.TrimPrefix(strings.NewReplacer("{id}", link.ID, "{kind}", "user", "{name}", "x", "{version}", "active").Replace(r.path), "/api/v1/")
			want := map[string]string{"GET guests": "E_DENIED", "POST guests": "E_DENIED", "DELETE guests/" + link.ID: "E_GUEST_UNKNOWN", "GET clients": "E_DENIED", "GET clients/x": "E_DENIED"}[r.method+" "+path]
			if r.role == administrator {
				want = "E_ADMIN"
			}
			if want == "" {
				continue
			}
			if no := s.ask(r.method, path, struct{}{}, nil); no.Code != want {
				t.Errorf("%s %s: %+v, want %s", r.method, path, no, want)
			}
		}
		if no := s.ask("POST", "logout?everywhere", struct{}{}, nil); no.Code != "E_DENIED" {
			t.Errorf("%+v", no)
		}
	})
	// ann may end what she has let in.
	if ended, err := s.endSessions(s.peer, api.EndSessions{User: guest.User}); err != nil || len(ended) != 1 {
		t.Errorf("%+v, %v", ended, err)
	}
	if _, err := io.ReadAll(f); codeOf(err) != "E_KILLED" {
		t.Errorf("%v", err)
	}
}

func (s *site) listedTo(p frame.Peer) []api.Session {
	s.t.Helper()
	list, err := s.sessions(p, false)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// TestGuestLinkEnds: whatever takes the maker's right or the link away ends what goes on by it, and lets nobody in again.
func TestGuestLinkEnds(t *testing.T) {
	for name, end := range map[string]func(s *site, l api.GuestLink, guest frame.Peer){
		"revoked": func(s *site, l api.GuestLink, _ frame.Peer) {
			if no := s.ask("DELETE", "guests/"+l.ID, struct{}{}, nil); no.Code != "" {
				s.t.Error(no)
			}
		},
		"ann logs out everywhere": func(s *site, _ api.GuestLink, _ frame.Peer) {
			if no := s.ask("POST", "logout?everywhere", struct{}{}, nil); no.Code != "" {
				s.t.Error(no)
			}
		},
		"ann signs out everywhere else": func(s *site, _ api.GuestLink, _ frame.Peer) {
			if err := s.LeaveOthers(s.t.Context(), s.peer); err != nil {
				s.t.Error(err)
			}
		},
		"revoked by an administrator": func(s *site, l api.GuestLink, _ frame.Peer) {
			s.by(frame.Peer{User: "root", Device: auth.DeviceID(s.enrolled("root"))}, func() {
				if no := s.ask("DELETE", "guests/"+l.ID, struct{}{}, nil); no.Code != "" {
					s.t.Error(no)
				}
			})
		},
		"the right to share is gone": func(s *site, _ api.GuestLink, _ frame.Peer) {
			s.SetPolicy(s.parse(strings.Replace(guestRules, "share: true", "share: false", 1)))
		},
		"the right to connect is gone": func(s *site, _ api.GuestLink, _ frame.Peer) {
			s.SetPolicy(s.parse(strings.Replace(guestRules, "name: shared, who: [ann]", "name: shared, who: [bob]", 1)))
		},
		"sharing is forbidden": func(s *site, _ api.GuestLink, _ frame.Peer) {
			s.SetPolicy(s.parse(guestRules, `forbid (principal, action == Action::"share", resource);`))
		},
		"the target is removed": func(s *site, _ api.GuestLink, _ frame.Peer) {
			s.SetPolicy(s.parse(`
admins: [root]
targets: [{name: db-2, vnet: hub, address: 10.0.0.6, protocols: ssh}]
rules: [{name: alone, who: [ann], targets: [db-2], share: true}]`))
		},
		"the target is another machine": func(s *site, _ api.GuestLink, _ frame.Peer) {
			s.SetPolicy(s.parse(strings.Replace(guestRules, "10.0.0.5", "10.0.0.9", 1)))
		},
		"the maker is locked": func(s *site, _ api.GuestLink, _ frame.Peer) {
			if err := s.Locks.Lock(s.t.Context(), auth.Lock{Kind: auth.LockUser, Name: "ann"}); err != nil {
				s.t.Error(err)
			}
		},
		"the target is locked": func(s *site, _ api.GuestLink, _ frame.Peer) {
			if err := s.Locks.Lock(s.t.Context(), auth.Lock{Kind: auth.LockTarget, Name: "db-1"}); err != nil {
				s.t.Error(err)
			}
		},
		"the guest's device is revoked": func(s *site, l api.GuestLink, guest frame.Peer) {
			defer s.reg.OnChange(func(d auth.Device, why error) { s.EndDevice(d.ID, why) })()
			if err := s.reg.Revoke(guest.Device); err != nil {
				s.t.Error(err)
			}
			if err := s.Guests.Revoke(s.t.Context(), l.ID); err != nil {
				s.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sharing(t)
			s.target("10.0.0.9:22", echo)
			l, secret := s.shares(api.AskGuest{Target: "db-1", Uses: 5})
			guest, err := s.opens(secret)
			if err != nil {
				t.Fatal(err)
			}
			own := s.flowOf(s.peer)
			defer own.Close()
			f := s.flowOf(guest)
			defer f.Close()
			end(s, l, guest)
			if _, err := io.ReadAll(f); !slices.Contains([]frame.Code{"E_GUEST_LINK", "E_LOCKED", "E_DEVICE_REVOKED"}, codeOf(err)) {
				t.Errorf("the session ended with %v", err)
			}
			if _, err := s.LookGuest(t.Context(), secret, netip.MustParseAddr("198.51.100.9")); err != auth.ErrGuestLink {
				t.Errorf("the link says %v", err)
			}
			s.by(guest, func() {
				if f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); err == nil {
					f.Close()
					t.Error("the guest connects again")
				}
				if list := s.targets(s.peer); len(list) != 0 && !strings.Contains(name, "share") && !strings.Contains(name, "sharing") && !strings.Contains(name, "another machine") && !strings.Contains(name, "target is locked") {
					t.Errorf("the guest sees %+v", list)
				}
			})
			if !strings.Contains(name, "maker") && !strings.Contains(name, "target") && !strings.Contains(name, "connect") {
				io.WriteString(own, "SSH-2.0-x\r\n")
				if _, err := io.ReadFull(own, make([]byte, 11)); err != nil {
					t.Errorf("ann's own session: %v", err)
				}
			}
		})
	}
}

// TestGuestLinkOutlivesADevice: a link is a person's and not their device's.
func TestGuestLinkOutlivesADevice(t *testing.T) {
	s := sharing(t)
	_, secret := s.shares(api.AskGuest{Target: "db-1", Uses: 2})
	guest, err := s.opens(secret)
	if err != nil {
		t.Fatal(err)
	}
	f := s.flowOf(guest)
	defer f.Close()
	if no := s.ask("POST", "logout", struct{}{}, nil); no.Code != "" {
		t.Fatal(no)
	}
	io.WriteString(f, "SSH-2.0-x\r\n")
	if _, err := io.ReadFull(f, make([]byte, 11)); err != nil {
		t.Errorf("the guest's session: %v", err)
	}
	if _, err := s.LookGuest(t.Context(), secret, netip.MustParseAddr("198.51.100.9")); err != nil {
		t.Errorf("the link says %v", err)
	}
}

// TestGuestApproval: what a link says needs a yes waits for one, of somebody else than its maker.
func TestGuestApproval(t *testing.T) {
	s := sharing(t)
	_, secret := s.shares(api.AskGuest{Target: "db-1", Approval: "leads"})
	guest, err := s.opens(secret)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	s.by(guest, func() {
		p := s.peer
		s.wg.Go(func() {
			v := &site{Gateway: s.Gateway, t: t, peer: p}
			f, _, err := v.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
			if err == nil {
				f.Close()
			}
			v.wg.Wait()
			opened <- err
		})
	})
	id := s.waits(t)
	key := s.enrolled("lea")
	lea := call{s.request(http.MethodPost, "approvals"), s.Gateway, frame.Peer{User: "lea", Device: auth.DeviceID(key), Remote: s.peer.Remote}}
	ann := call{s.request(http.MethodPost, "approvals"), s.Gateway, s.peer}
	own := call{s.request(http.MethodPost, "approvals"), s.Gateway, guest}
	if err := ann.deciding(id, api.DecideApproval{Approve: true}); codeOf(err) != "E_DENIED" {
		t.Errorf("ann decides for her guest: %v", err)
	}
	if err := own.deciding(id, api.DecideApproval{Approve: true}); codeOf(err) != "E_DENIED" {
		t.Errorf("the guest decides: %v", err)
	}
	select {
	case err := <-opened:
		t.Fatalf("nobody has said yes: %v", err)
	default:
	}
	if err := lea.deciding(id, api.DecideApproval{Approve: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// TestMakeGuestLinks: who may not share gets no link, and no link is more than was asked for.
func TestMakeGuestLinks(t *testing.T) {
	s := sharing(t)
	for name, c := range map[string]struct {
		ask  api.AskGuest
		code string
	}{
		"what she may not share":   {api.AskGuest{Target: "db-2"}, "E_SHARE"},
		"what there is not":        {api.AskGuest{Target: "db-9"}, "E_TARGET_UNKNOWN"},
		"no browser's protocol":    {api.AskGuest{Target: "db-1", Protocol: "tcp"}, "E_USAGE"},
		"for too long":             {api.AskGuest{Target: "db-1", For: 25 * time.Hour}, "E_USAGE"},
		"for no time":              {api.AskGuest{Target: "db-1", For: -time.Hour}, "E_USAGE"},
		"too often":                {api.AskGuest{Target: "db-1", Uses: 1001}, "E_USAGE"},
		"less than once":           {api.AskGuest{Target: "db-1", Uses: -1}, "E_USAGE"},
		"no group":                 {api.AskGuest{Target: "db-1", Approval: "nobody"}, "E_USAGE"},
		"no program":               {api.AskGuest{Target: "db-1", Programs: []string{"desktop"}}, "E_USAGE"},
		"by a rule of another way": {api.AskGuest{Target: "db-1", Protocol: "ssh", Programs: []string{"native"}}, "E_USAGE"},
	} {
		if no := s.ask("POST", "guests", c.ask, nil); no.Code != c.code {
			t.Errorf("%s: %+v, want %s", name, no, c.code)
		}
	}
	for query, want := range map[string]bool{"target=db-1": true, "target=db-1&protocol=rdp": true, "target=db-1&protocol=tcp": false, "target=db-2": false} {
		var grant api.Grant
		if no := s.ask("GET", "grant?"+query, nil, &grant); no.Code != "" || grant.Share != want {
			t.Errorf("%s: that it may be shared is said to be %v, %+v", query, grant.Share, no)
		}
	}
	l, secret := s.shares(api.AskGuest{Target: "db-1", Programs: []string{"terminal"}})
	if want := time.Now().Add(guestLife); l.Uses != 1 || l.Expires.After(want) || l.Expires.Before(want.Add(-time.Minute)) || l.Why != "" {
		t.Errorf("%+v", l)
	}
	e := s.written(audit.GuestMade)
	if e.User != "ann" || e.Object != l.ID || e.Target != "db-1" || e.Detail["programs"] != "terminal" || strings.Contains(fmt.Sprint(e), secret) {
		t.Errorf("%+v", e)
	}
	var list []api.GuestLink
	if no := s.ask("GET", "guests", struct{}{}, &list); no.Code != "" || len(list) != 1 || list[0].Link != "" || list[0].ID != l.ID {
		t.Errorf("%+v, %v", list, no)
	}
	// A link for programs is not one for a client's own bytes.
	guest, err := s.opens(secret)
	if err != nil {
		t.Fatal(err)
	}
	s.by(guest, func() {
		if _, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}); codeOf(err) != "E_DENIED" {
			t.Errorf("%v", err)
		}
	})
	if _, err := s.opens(secret); err != auth.ErrGuestLink {
		t.Errorf("it opens twice: %v", err)
	}
	if e := s.written(audit.GuestRefused); e.Object != "" || e.Code != "E_GUEST_LINK" {
		t.Errorf("%+v", e)
	}
	bob := frame.Peer{User: "bob", Device: auth.DeviceID(s.enrolled("bob")), Remote: s.peer.Remote}
	s.by(bob, func() {
		if no := s.ask("GET", "guests?all", struct{}{}, nil); no.Code != "E_ADMIN" {
			t.Errorf("%+v", no)
		}
		if no := s.ask("DELETE", "guests/"+l.ID, struct{}{}, nil); no.Code != "E_GUEST_UNKNOWN" {
			t.Errorf("%+v", no)
		}
		if no := s.ask("GET", "guests", struct{}{}, &list); no.Code != "" || len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
	s.by(frame.Peer{User: "root", Device: auth.DeviceID(s.enrolled("root")), Remote: s.peer.Remote}, func() {
		if no := s.ask("GET", "guests?all", struct{}{}, &list); no.Code != "" || len(list) != 1 || len(list[0].Opened) != 1 || list[0].Opened[0].User != guest.User {
			t.Errorf("%+v", list)
		}
	})
}

// members is a People whose provider names groups.
type members struct {
	mu     sync.Mutex
	groups map[string][]string
	gone
}

func (m *members) GroupsOf(user string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.groups[user]
}

func (m *members) Standing(device string) (auth.Standing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return auth.Standing{Groups: m.groups["carl"]}, nil
}

// TestGuestOfAGroup: a right that comes of a group of the identity provider's goes with it.
func TestGuestOfAGroup(t *testing.T) {
	s := sharing(t)
	m := &members{groups: map[string][]string{"carl": {"idp"}}}
	s.People = m
	carl := s.peer
	carl.User, carl.Device = "carl", auth.DeviceID(s.enrolled("carl"))
	var secret string
	s.by(carl, func() { _, secret = s.shares(api.AskGuest{Target: "db-2"}) })
	guest, err := s.opens(secret)
	if err != nil {
		t.Fatal(err)
	}
	s.by(guest, func() {
		f, _, err := s.open(frame.OpenRequest{Target: "db-2", Protocol: "ssh"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m.mu.Lock()
		delete(m.groups, "carl")
		m.mu.Unlock()
		s.SignInEnded(auth.SignIn{User: "carl", Device: carl.Device}, auth.ErrSignedOut)
		if _, err := io.ReadAll(f); codeOf(err) != "E_GUEST_LINK" {
			t.Errorf("%v", err)
		}
	})
}
