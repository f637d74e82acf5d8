package appliance

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// apiProtocol is the reserved protocol whose target is the appliance itself: HTTP/1.1 over a flow, so that every
// command works over either transport, in the name of the device that said HELLO.
const apiProtocol = "api"

// serveAPI answers requests on one flow until the client ends it.
func (g *Gateway) serveAPI(ctx context.Context, s *frame.Stream, p frame.Peer) {
	defer s.Close()
	server := &http.Server{
		Handler:           g.api(p),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    8 << 10,
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

// api is the appliance's API as p sees it.
func (g *Gateway) api(p frame.Peer) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, answer func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
			v, err := answer(r)
			reply(w, v, err)
		})
	}
	admin := func(answer func(r *http.Request) (any, error)) func(r *http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			if !g.policy.Load().IsAdmin(p.User) {
				return nil, frame.Refuse("E_ADMIN", "only administrators may do this", "ask one of them")
			}
			return answer(r)
		}
	}
	handle("GET /api/v1/me", func(*http.Request) (any, error) {
		return Me{Appliance: g.Name, User: p.User, Device: p.Device, Transport: p.Transport, Source: p.Remote.Addr().String(),
			Admin: g.policy.Load().IsAdmin(p.User), Time: time.Now().UTC()}, nil
	})
	handle("GET /api/v1/targets", func(*http.Request) (any, error) { return g.targets(p.User), nil })
	handle("GET /api/v1/flows", func(r *http.Request) (any, error) { return g.flows(p, r.URL.Query().Has("all")) })
	handle("POST /api/v1/logout", func(*http.Request) (any, error) { return nil, g.Devices.Revoke(p.Device) })
	handle("GET /api/v1/devices", admin(func(*http.Request) (any, error) { return devices(g.Devices.List()), nil }))
	handle("DELETE /api/v1/devices/{id}", admin(func(r *http.Request) (any, error) {
		id := r.PathValue("id")
		if err := g.Devices.Revoke(id); err != nil {
			return nil, err
		}
		g.Log.Info("device revoked", "device", frame.Clip(id, 32), "by", p.User)
		return nil, nil
	}))
	return mux
}

// reply writes an answer, or why there is none, as JSON.
func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		reason := reasonOf(err)
		w.WriteHeader(statusOf(reason.Code))
		v = Failure{Code: string(reason.Code), Sentence: reason.Sentence, Hint: reason.Hint}
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
	case frame.Code(auth.ErrUnknownDevice.Code):
		return http.StatusNotFound
	case frame.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// A Failure is the API's no.
type Failure struct {
	Code     string `json:"code"`
	Sentence string `json:"error"`
	Hint     string `json:"hint,omitempty"`
}

// Me says who the caller is.
type Me struct {
	Appliance string    `json:"appliance"`
	User      string    `json:"user"`
	Device    string    `json:"device"`
	Transport string    `json:"transport"`
	Source    string    `json:"source"`
	Admin     bool      `json:"admin"`
	Time      time.Time `json:"time"`
}

// A Target is a machine that the caller may see.
type Target struct {
	Name      string            `json:"name"`
	VNet      string            `json:"vnet"`
	Protocols map[string][]int  `json:"protocols"` // the ports that the caller may use, the default first
	Labels    map[string]string `json:"labels,omitempty"`
	HostKeys  []string          `json:"host_keys,omitempty"`
}

func (g *Gateway) targets(user string) []Target {
	list := []Target{}
	for _, t := range g.policy.Load().Visible(user) {
		list = append(list, Target{Name: t.Name, VNet: t.VNet, Protocols: protocols(t.Offers), Labels: t.Labels, HostKeys: t.HostKeys})
	}
	return list
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

// A Flow is one that is live.
type Flow struct {
	ID        string    `json:"flow"`
	User      string    `json:"user"`
	Device    string    `json:"device"`
	Target    string    `json:"target"`
	Protocol  string    `json:"protocol"`
	Port      uint16    `json:"port"`
	Transport string    `json:"transport"`
	Source    string    `json:"source"`
	Since     time.Time `json:"since"`
}

// flows lists the caller's flows, or everybody's for an administrator who asks.
func (g *Gateway) flows(p frame.Peer, all bool) ([]Flow, error) {
	if all && !g.policy.Load().IsAdmin(p.User) {
		return nil, frame.Refuse("E_ADMIN", "only administrators may see everybody's flows", "leave out --all to see your own")
	}
	list := []Flow{}
	g.live.each(func(f *flow) {
		if all || f.peer.User == p.User {
			list = append(list, Flow{ID: hex.EncodeToString(f.id[:6]), User: f.peer.User, Device: f.peer.Device, Target: f.grant.Target,
				Protocol: f.grant.Protocol, Port: f.grant.Port, Transport: f.peer.Transport, Source: f.peer.Remote.Addr().String(), Since: f.begun.UTC()})
		}
	})
	return list, nil
}

// A Device is one that is enrolled, or was.
type Device struct {
	ID       string    `json:"device"`
	User     string    `json:"user"`
	Name     string    `json:"name"`
	Platform string    `json:"platform,omitempty"`
	Enrolled time.Time `json:"enrolled"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Source   string    `json:"source,omitempty"`
	Version  string    `json:"version,omitempty"`
	Revoked  time.Time `json:"revoked,omitzero"`
}

func devices(list []auth.Device) []Device {
	out := make([]Device, len(list))
	for i, d := range list {
		out[i] = Device{ID: d.ID, User: d.User, Name: d.Name, Platform: d.Platform, Enrolled: d.Enrolled.UTC(),
			LastSeen: d.LastSeen, Source: d.LastSource, Version: d.Version, Revoked: d.Revoked}
	}
	return out
}
