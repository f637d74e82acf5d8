package appliance

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// serveAPI answers requests on one flow until the client ends it.
func (g *Gateway) serveAPI(ctx context.Context, s *frame.Stream, p frame.Peer) {
	defer func() {
		s.Close()
		s.Wait()
		g.Breach(p, s.CloseWrite()) // which says why the flow has ended
	}()
	server := &http.Server{
		Handler:        g.API(p),
		ReadTimeout:    30 * time.Second,
		WriteTimeout:   60 * time.Second,
		IdleTimeout:    5 * time.Minute,
		MaxHeaderBytes: 8 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	server.Serve(newOnce(s))
}

// once is a listener that has one conn, and ends when that is closed.
type once struct {
	conn  net.Conn
	first sync.Once
	over  chan struct{}
}

func newOnce(c net.Conn) *once {
	o := &once{over: make(chan struct{})}
	o.conn = &noted{Conn: c, closed: sync.OnceFunc(func() { close(o.over) })}
	return o
}

type noted struct {
	net.Conn
	closed func()
}

func (n *noted) Close() error {
	defer n.closed()
	return n.Conn.Close()
}

func (o *once) Accept() (net.Conn, error) {
	var c net.Conn
	o.first.Do(func() { c = o.conn })
	if c != nil {
		return c, nil
	}
	<-o.over
	return nil, net.ErrClosed
}

func (o *once) Close() error   { return o.conn.Close() }
func (o *once) Addr() net.Addr { return o.conn.LocalAddr() }

// reply writes an answer, or why there is none, as JSON.
func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		reason := reasonOf(err)
		w.WriteHeader(statusOf(reason.Code))
		v = api.Failure{Code: string(reason.Code), Sentence: reason.Sentence, Hint: reason.Hint}
	}
	if v == nil {
		v = struct{}{}
	}
	json.NewEncoder(w).Encode(v)
}

func statusOf(c frame.Code) int {
	switch c {
	case "E_ADMIN":
		return http.StatusForbidden
	case frame.Code(auth.ErrUnknownDevice.Code), "E_SESSION_UNKNOWN", "E_LOCK_UNKNOWN", "E_HOST_KEY_UNKNOWN", "E_NO_SIGN_IN", "E_VERSION_UNKNOWN", "E_APPROVAL_UNKNOWN", "E_GUEST_UNKNOWN", "E_ACCOUNT_UNKNOWN", "E_SIGNIN_UNKNOWN", "E_CLIENT_UNKNOWN":
		return http.StatusNotFound
	case "E_CONFLICT", "E_ACCOUNT_TAKEN", "E_APPROVAL_DECIDED":
		return http.StatusConflict
	case "E_BUSY":
		return http.StatusTooManyRequests
	case frame.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// targets lists the targets that the caller may see, or all there are.
func (c call) targets() (any, error) {
	if !c.URL.Query().Has("all") {
		return c.gateway.targets(c.peer), nil
	}
	if !c.gateway.isAdmin(c.peer) {
		return nil, frame.Refuse("E_ADMIN", "only administrators see targets that they may not use", "leave all out")
	}
	list := []api.Target{}
	for _, t := range c.gateway.policy.Load().Targets() {
		l := c.gateway.listedTarget(t)
		l.Address = t.Host
		list = append(list, l)
	}
	return list, nil
}

func (g *Gateway) targets(p frame.Peer) []api.Target {
	list := []api.Target{}
	standing, _ := g.standing(p.Device)
	scope, err := g.Devices.ScopeOf(p.Device)
	if err != nil {
		return list
	}
	user, groups := p.User, standing.Groups
	var programs []string // to which a link narrows its guests
	if scope.Link != "" {
		l, err := g.goodLink(scope.Link, time.Now())
		if err != nil {
			return list
		}
		user, groups, programs = l.Maker, g.groupsOf(l.Maker), l.Programs
	}
	for _, t := range g.policy.Load().Visible(user, groups...) {
		t, ok := narrowed(t, scope)
		if !ok {
			continue
		}
		l := g.listedTarget(t)
		l.Files = t.Files && l.Protocols[policy.SSH] != nil && (len(programs) == 0 || slices.Contains(programs, "files"))
		list = append(list, l)
	}
	return list
}

// listedTarget is a target as the API shows it.
func (g *Gateway) listedTarget(t policy.Target) api.Target {
	return api.Target{Name: t.Name, VNet: t.VNet, Protocols: protocols(t.Offers), Labels: t.Labels, HostKeys: g.hostKeysOf(t), HostCA: t.HostCA, Latest: g.reached.of(t.Name), CredSSP: credSSP(t)}
}

func protocols(offers []policy.Offer) map[string][]int {
	m := map[string][]int{}
	for _, o := range offers {
		for _, port := range o.Ports {
			m[o.Protocol] = append(m[o.Protocol], int(port))
		}
	}
	return m
}

// grant decides about a flow that the caller may be going to ask for, and logs a refusal like that of one, unless the caller
// only looks.
func (g *Gateway) grant(p frame.Peer, q url.Values) (any, error) {
	port, err := strconv.ParseUint(cmp.Or(q.Get("port"), "0"), 10, 16)
	if err != nil {
		return nil, frame.Refuse(policy.CodePort, "port must be 1-65535", "")
	}
	f, err := g.consider(p, frame.OpenRequest{Target: q.Get("target"), Protocol: q.Get("protocol"), Port: uint16(port), Program: q.Get("program")})
	if err == nil {
		err = f.checkProgram()
	}
	if err != nil {
		if !q.Has("look") {
			f.refused(reasonOf(err), err)
		}
		return nil, err
	}
	var principals []string
	if f.grant.Protocol == policy.SSH && g.SSHCA != nil {
		principals, _ = f.principals() // who gets no certificate is told why when they want one
	}
	_, no := g.mayShare(p, f.grant.Target, f.grant.Protocol)
	return api.Grant{Target: f.grant.Target, VNet: f.grant.VNet, Protocol: f.grant.Protocol, Port: f.grant.Port, Rule: f.grant.Rule, Channels: f.grant.Channels,
		Idle: f.grant.Idle, Lifetime: f.grant.Lifetime, Bandwidth: f.grant.Bandwidth, Approval: f.grant.Approval, Record: f.grant.Record, Principals: principals, Share: no == nil}, nil
}

// consider decides about a flow that somebody has not asked for yet. The flow is there for who has to log that it is refused.
func (g *Gateway) consider(p frame.Peer, open frame.OpenRequest) (f *flow, err error) {
	f = &flow{gateway: g, peer: p, begun: time.Now(), id: [16]byte(random()), open: open}
	if f.grant, err = g.decideNow(f.request(&f.peer, f.begun), p.Device); err == nil {
		err = f.barred(p)
	}
	return f, err
}

// bench is what the caller may measure by, if they may.
func (g *Gateway) bench(p frame.Peer) (any, error) {
	if _, err := g.grant(p, url.Values{"protocol": {policy.Bench}, "target": {benchEcho}}); err != nil {
		return nil, err
	}
	return api.Bench{Rate: g.Limits.withDefaults().BenchRate * 8}, nil
}

func devices(list []auth.Device) []api.Device {
	out := make([]api.Device, len(list))
	for i, d := range list {
		out[i] = api.Device{ID: d.ID, User: d.User, Name: d.Name, Platform: d.Platform, Enrolled: d.Enrolled.UTC(),
			LastSeen: d.LastSeen, Source: d.LastSource, Version: d.Version, Revoked: d.Revoked, Scope: listedScope(d.Scope)}
	}
	return out
}
