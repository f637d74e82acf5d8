package appliance

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A role is whom a route is for.
type role string

const (
	person        role = "person"        // who has signed in
	administrator role = "administrator" // whom the policy lets administer the appliance
)

// A route is one thing that the API does. The OpenAPI document is made of these, see openapi_test.go.
type route struct {
	method, path string
	role         role
	says         string
	query        map[string]string // parameters, and what they mean
	asks         any               // of the type of the body; nil: there is none
	answers      any               // of the type of the answer; nil: an empty object
	most         int64             // bytes of the body; default maxAsk
	patience     time.Duration     // for an answer, where that may take longer than others do
	do           func(c call) (any, error)
}

// A call is a request of somebody.
type call struct {
	*http.Request
	gateway *Gateway
	peer    frame.Peer
}

//go:embed openapi.json
var openAPI []byte

var routes = []route{
	{method: "GET", path: "/api/v1/openapi.json", role: person, says: "this document", answers: map[string]any(nil),
		do: func(call) (any, error) { return json.RawMessage(openAPI), nil }},
	{method: "GET", path: "/api/v1/me", role: person, says: "who the appliance takes the caller for", answers: api.Me{}, do: call.me},
	{method: "GET", path: "/api/v1/targets", role: person, says: "the targets that the caller may see", answers: []api.Target(nil),
		query: map[string]string{"all": "all that there are, for administrators"}, do: call.targets},
	{method: "GET", path: "/api/v1/grant", role: person, says: "what a flow would be granted, or why it would be refused; nothing is dialled",
		query: map[string]string{"target": "a name or, in address mode, an address", "port": "default: the target's", "protocol": "ssh, rdp or tcp; default: the target's",
			"program": "by which the appliance is to speak the protocol; default: the client does", "look": "a page shows what there is and nobody wants a flow yet: no refusal is logged"},
		answers: api.Grant{}, do: func(c call) (any, error) { return c.gateway.grant(c.peer, c.URL.Query()) }},
	{method: "GET", path: "/api/v1/bench", role: person, says: "what the caller may measure their way by, with flows of the protocol bench", answers: api.Bench{},
		do: func(c call) (any, error) { return c.gateway.bench(c.peer) }},
	{method: "GET", path: "/api/v1/sessions", role: person, says: "the caller's sessions", answers: []api.Session(nil),
		query: map[string]string{"all": "all that the caller may see: with view_session others' too"},
		do:    func(c call) (any, error) { return c.gateway.sessions(c.peer, c.URL.Query().Has("all")) }},
	{method: "POST", path: "/api/v1/sessions/end", role: person, says: "end sessions: one's own, and with kill_session others'; the answer lists them",
		asks: api.EndSessions{}, answers: []api.Session(nil), do: asking(func(c call, ask api.EndSessions) (any, error) { return c.gateway.endSessions(c.peer, ask) })},
	{method: "POST", path: "/api/v1/sessions/message", role: person, says: "tell those to whom sessions belong a line: for who may end them; the answer lists those that are told",
		asks: api.MessageSessions{}, answers: []api.Session(nil), do: asking(func(c call, ask api.MessageSessions) (any, error) { return c.gateway.messageSessions(c.peer, ask) })},
	{method: "GET", path: "/api/v1/approvals", role: person, says: "the requests that wait for the caller's yes, and the caller's own", answers: []api.Approval(nil),
		query: map[string]string{"all": "those that are decided too, until they expire"}, do: call.approvals},
	{method: "POST", path: "/api/v1/approvals", role: person, says: "ask for approval of a target without connecting to it; the answer lists what waits",
		asks: api.AskApproval{}, answers: []api.Approval(nil), do: asking(call.requestApproval)},
	{method: "POST", path: "/api/v1/approvals/{id}", role: person, says: "say yes or no to a request of another person's, for members of its group", asks: api.DecideApproval{}, answers: api.Approval{},
		do: asking(call.decideApproval)},
	{method: "GET", path: "/api/v1/guests", role: person, says: "the caller's guest links that have not expired", answers: []api.GuestLink(nil),
		query: map[string]string{"all": "everybody's, for administrators"}, do: call.guests},
	{method: "POST", path: "/api/v1/guests", role: person, says: "make a link that lets guests in to a target that the caller may reach and share; the answer has the link, once",
		asks: api.AskGuest{}, answers: api.GuestLink{}, do: asking(call.makeGuest)},
	{method: "DELETE", path: "/api/v1/guests/{id}", role: person, says: "make a guest link of the caller's, or for administrators anybody's, worth nothing, and end its sessions", do: call.revokeGuest},
	{method: "GET", path: "/api/v1/clients", role: person, says: "what the client can be downloaded as, for all but guests", answers: []api.ClientFile(nil), do: call.listClients},
	{method: "GET", path: "/api/v1/clients/{name}", role: person, says: "one of these files, or with Range a part of it", patience: time.Hour, answers: octets{}, do: call.downloadClient},
	{method: "POST", path: "/api/v1/clients/upload", role: administrator, says: "bring a piece of a file of the client's, and at last SHA256SUMS of the release, with which they are offered; a piece that does not begin where the last one ended changes nothing", most: api.MaxPiece,
		query: map[string]string{"name": "of the file, as make release calls it", "sha256": "of the file, in hex", "offset": "of the piece, in bytes", "size": "of the file, in bytes"},
		asks:  octets{}, answers: api.ClientUpload{}, do: call.uploadClient},
	{method: "POST", path: "/api/v1/logout", role: person, says: "end the caller's sign-in and revoke their device", do: call.logout,
		query: map[string]string{"everywhere": "all of the caller's devices, and their guest links"}},
	{method: "GET", path: "/api/v1/me/devices", role: person, says: "the caller's devices that are signed in", answers: []api.Device(nil),
		do: func(c call) (any, error) { return devices(c.ownDevices()), nil }},
	{method: "DELETE", path: "/api/v1/me/devices/{id}", role: person, says: "revoke a device of the caller's and end its sessions", do: call.revokeOwn},
	{method: "GET", path: "/api/v1/me/factors", role: person, says: "what the caller's account signs in with", answers: api.Factors{}, do: call.ownFactors},
	{method: "GET", path: "/api/v1/devices", role: administrator, says: "all devices", answers: []api.Device(nil),
		do: func(c call) (any, error) { return devices(c.gateway.Devices.List()), nil }},
	{method: "DELETE", path: "/api/v1/devices/{id}", role: administrator, says: "revoke a device and end its sessions", do: call.revoke},
	{method: "POST", path: "/api/v1/codes", role: administrator, says: "make a one-time code that enrols a device, which may be good for less than its person", asks: api.AskCode{}, answers: api.Code{},
		do: asking(call.newCode)},
	{method: "GET", path: "/api/v1/locks", role: administrator, says: "the locks that hold", answers: []api.Lock(nil), do: call.locks},
	{method: "POST", path: "/api/v1/locks", role: administrator, says: "lock a user, a device or a target, and end its sessions", asks: api.Lock{}, do: asking(call.lock)},
	{method: "GET", path: "/api/v1/policy/why", role: administrator, says: "how a request would be decided, and by which policies", answers: api.Why{}, do: call.why,
		query: map[string]string{"user": "who asks", "device": "of theirs, whose scope counts", "groups": "theirs at the identity provider, with commas between", "target": "a name or an address", "vnet": "where an address lies",
			"protocol": "ssh, rdp or tcp", "port": "default: the target's", "address": "that the target's name resolves to", "source": "where the person comes from",
			"transport": "quic, https or websocket", "at": "when; default: now", "mfa_age": "how long ago a second factor was used; default: none was"}},
	{method: "GET", path: "/api/v1/policy", role: administrator, says: "the rules and policies that are in force", answers: []api.PolicyStatement(nil), do: call.statements},
	{method: "POST", path: "/api/v1/policy/check", role: administrator, says: "what is wrong with access files, and whether their tests pass; nothing changes", most: maxAccessAsk,
		asks: api.CheckPolicy{}, answers: api.PolicyCheck{}, do: asking(call.policyCheck)},
	{method: "GET", path: "/api/v1/policy/test", role: administrator, says: "run the tests that stand in the access files", answers: api.PolicyTest{}, do: call.policyTest},
	{method: "GET", path: "/api/v1/audit", role: administrator, says: "events of the audit log; without since and after the latest of a day",
		query: map[string]string{"since": "not before this time", "until": "before this time", "user": "of this person", "target": "about this target",
			"event": "of this kind, or of those that begin so", "session": "of this session", "code": "of a refusal or an end, or how it begins", "after": "only those with greater numbers"},
		answers: api.AuditPage{}, do: call.auditPage},
	{method: "GET", path: "/api/v1/audit/export", role: administrator, says: "all events of the audit log that fit, the oldest first, as a file",
		query: map[string]string{"as": "csv or jsonl", "since": "not before this time", "until": "before this time", "user": "of this person", "target": "about this target",
			"event": "of this kind, or of those that begin so", "session": "of this session", "code": "of a refusal or an end, or how it begins", "after": "only those with greater numbers"},
		answers: octets{}, patience: time.Hour, do: call.auditExport},
	{method: "GET", path: "/api/v1/audit/key", role: administrator, says: "the key by which the audit log is verified", answers: api.AuditKey{},
		do: func(c call) (any, error) { return api.AuditKey{Key: hex.EncodeToString(c.gateway.AuditKey)}, nil }},
	{method: "POST", path: "/api/v1/ssh/certificate", role: person, says: "sign an SSH key of the caller's, for a target that they may connect to now", asks: api.AskSSHCertificate{}, answers: api.SSHCertificate{}, do: asking(call.sshCertificate)},
	{method: "GET", path: "/api/v1/hostkeys", role: administrator, says: "the SSH host keys that targets are known by, and those that they were refused for", answers: []api.HostKey(nil),
		query: map[string]string{"target": "of this one only"}, do: call.hostKeys},
	{method: "POST", path: "/api/v1/hostkeys/confirm", role: administrator, says: "confirm a target's host key, or take the one that it was refused for", asks: api.ConfirmHostKey{}, do: asking(call.confirmHostKey)},
	{method: "POST", path: "/api/v1/hostkeys/forget", role: administrator, says: "forget a target's host keys, so that its next is its first", asks: api.ForgetHostKeys{}, do: asking(call.forgetHostKeys)},
	{method: "DELETE", path: "/api/v1/locks/{kind}/{name}", role: administrator, says: "take a lock off", do: call.unlock},
	{method: "GET", path: "/api/v1/access", role: administrator, says: "the versions of the access files, the latest first", answers: []api.AccessVersion(nil), do: call.accessList},
	{method: "GET", path: "/api/v1/access/diff", role: administrator, says: "what differs between two versions of the access files", answers: []api.AccessChange(nil), do: call.accessDiff,
		query: map[string]string{"from": "a version, or active", "to": "a version, or active"}},
	{method: "GET", path: "/api/v1/access/{version}", role: administrator, says: "a version of the access files, or active for that in force", answers: api.AccessVersion{}, do: call.accessShow},
	{method: "POST", path: "/api/v1/access", role: administrator, says: "compare access files with those in force, and put them in force", most: maxAccessAsk,
		asks: api.ApplyAccess{}, answers: api.AccessPlan{}, do: asking(call.apply)},
	{method: "GET", path: "/api/v1/accounts", role: administrator, says: "all accounts", answers: []api.Account(nil), do: call.accounts},
	{method: "POST", path: "/api/v1/accounts", role: administrator, says: "make a local account, and a link to set it up by", asks: api.AddAccount{}, answers: api.SetUp{}, do: asking(call.addAccount)},
	{method: "POST", path: "/api/v1/accounts/{name}", role: administrator, says: "disable an account and end all that is its, or enable it again", asks: api.SetAccount{}, do: asking(call.setAccount)},
	{method: "DELETE", path: "/api/v1/accounts/{name}", role: administrator, says: "remove an account and end all that is its", do: call.removeAccount},
	{method: "POST", path: "/api/v1/accounts/{name}/reset", role: administrator, says: "take credentials off an account, and make a link to set it up anew by",
		asks: api.ResetAccount{}, answers: api.SetUp{}, do: asking(call.resetAccount)},
	{method: "GET", path: "/api/v1/signins", role: administrator, says: "the sign-ins that last", answers: []api.SignIn(nil), do: call.signIns,
		query: map[string]string{"user": "of this person"}},
	{method: "POST", path: "/api/v1/signins/end", role: administrator, says: "end a sign-in, or all of a person; the answer lists them", asks: api.EndSignIns{}, answers: []api.SignIn(nil),
		do: asking(call.endSignIns)},
	{method: "GET", path: "/api/v1/health", role: administrator, says: "how the appliance has been for the last hour", answers: api.Health{}, do: call.health},
	{method: "GET", path: "/api/v1/settings", role: administrator, says: "the configuration that is in force, without secrets", answers: []api.Setting(nil), do: call.settings},
	{method: "GET", path: "/api/v1/update", role: administrator, says: "the versions of the image that the appliance has, and how much of an update is there", answers: api.Update{}, do: call.update},
	{method: "POST", path: "/api/v1/update/upload", role: administrator, says: "bring a piece of an update file, the first with its header; a piece that does not begin where the last one ended changes nothing", most: api.MaxPiece,
		query: map[string]string{"id": "SHA-256 of the file, in hex", "offset": "of the piece, in bytes", "size": "of the file, in bytes"},
		asks:  octets{}, answers: api.UpdateUpload{}, do: call.uploadUpdate},
	{method: "POST", path: "/api/v1/update/install", role: administrator, says: "verify an update file that is there, and have the next start try it", patience: 5 * time.Minute,
		asks: api.InstallUpdate{}, answers: api.UpdateNext{}, do: asking(call.installUpdate)},
	{method: "POST", path: "/api/v1/update/rollback", role: administrator, says: "have the next start take the version before", answers: api.UpdateNext{}, do: call.rollbackUpdate},
	{method: "POST", path: "/api/v1/update/restart", role: administrator, says: "let sessions end, for as long as the appliance's grace, and restart the machine", answers: api.UpdateRestart{}, do: call.restart},
}

// octets stands for a body, of a request or of an answer, that is not JSON.
type octets struct{}

// API is the appliance's API as p sees it.
func (g *Gateway) API(p frame.Peer) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { g.serveRoute(w, req, r, p) })
	}
	return mux
}

// maxAsk bounds the body of a request.
const maxAsk = 64 << 10

func (g *Gateway) serveRoute(w http.ResponseWriter, req *http.Request, r route, p frame.Peer) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			panic(v)
		} else if v != nil {
			reply(w, nil, g.caught(v, ofPeer(p)...))
		}
	}()
	req.Body = http.MaxBytesReader(w, req.Body, cmp.Or(r.most, maxAsk))
	if r.patience > 0 {
		until := time.Now().Add(r.patience)
		rc := http.NewResponseController(w)
		// The connection is still read from, for its end, and net/http takes a deadline there for one.
		if err := errors.Join(rc.SetReadDeadline(until), rc.SetWriteDeadline(until)); err != nil {
			g.Log.Warn("an answer has less time than it needs", "cause", err)
		}
	}
	may := func() error { return g.mayAsk(p, r.role) }
	err := g.asked.wait(req.Context(), p.User)
	if err == nil {
		err = may()
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	v, err := r.do(call{req, g, p})
	switch v := v.(type) {
	case *download:
		v.serve(w, req)
	case *export:
		if err := v.send(w, may); err != nil {
			g.Log.Warn("an export ended early", append(ofPeer(p), "file", v.name, "cause", err)...)
			panic(http.ErrAbortHandler)
		}
	default:
		reply(w, v, err)
	}
}

// mayAsk says whether p may ask for what is for a role: it may have been barred since its connection began.
func (g *Gateway) mayAsk(p frame.Peer, r role) error {
	if err := g.barred(p); err != nil {
		return err
	}
	if r == administrator && !g.isAdmin(p) {
		return frame.Refuse("E_ADMIN", "only administrators may do this", "ask one of them")
	}
	return nil
}

// asking reads a request's body, strictly, before it does what the route does.
func asking[T any](do func(call, T) (any, error)) func(call) (any, error) {
	return func(c call) (any, error) {
		var ask T
		d := json.NewDecoder(c.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&ask); err != nil {
			return nil, frame.Refuse("E_USAGE", fmt.Sprintf("the request does not parse: %v", err), "command and appliance may be of different versions")
		}
		return do(c, ask)
	}
}

func (c call) me() (any, error) {
	standing, err := c.gateway.standing(c.peer.Device)
	scope, barred := c.gateway.Devices.ScopeOf(c.peer.Device)
	err = errors.Join(err, barred)
	_, guest := c.gateway.linkOf(c.peer.Device)
	return api.Me{Appliance: c.gateway.Name, User: c.peer.User, Device: c.peer.Device, Transport: c.peer.Transport, Source: c.peer.Remote.Addr().String(),
		Admin: c.gateway.isAdmin(c.peer), Time: time.Now().UTC(), Groups: standing.Groups, MFA: standing.MFA, SignedInUntil: standing.Expires, Scope: listedScope(scope), Guest: guest,
		MOTD: c.gateway.policy.Load().MOTD()}, err
}

// ownDevices are the caller's that may go on; who has a scope sees itself alone.
func (c call) ownDevices() (own []auth.Device) {
	narrow := c.gateway.scoped(c.peer)
	for _, d := range c.gateway.Devices.List() {
		if d.User != c.peer.User || narrow && d.ID != c.peer.Device {
			continue
		}
		if c.gateway.barred(frame.Peer{User: d.User, Device: d.ID}) == nil {
			own = append(own, d)
		}
	}
	return own
}

// revokeOwn revokes one of the caller's devices. One that is another's looks like none.
func (c call) revokeOwn() (any, error) {
	id := c.PathValue("id")
	if id != c.peer.Device && c.gateway.scoped(c.peer) {
		return nil, frame.Refuse("E_DENIED", "a device with a scope can log out itself only", "use another device")
	}
	if !slices.ContainsFunc(c.ownDevices(), func(d auth.Device) bool { return d.ID == id }) {
		return nil, auth.ErrUnknownDevice
	}
	return nil, c.revokeDevice(id)
}

func (c call) revoke() (any, error) {
	return nil, c.revokeDevice(c.PathValue("id"))
}

// revokeDevice revokes a device. It takes effect, and is written, also where the database refuses.
func (c call) revokeDevice(id string) error {
	all := c.gateway.Devices.List()
	i := slices.IndexFunc(all, func(d auth.Device) bool { return d.ID == id })
	err := c.gateway.Devices.Revoke(id)
	if c.gateway.People != nil && i >= 0 {
		err = errors.Join(err, c.gateway.People.SignOut(context.WithoutCancel(c.Context()), id)) // which may be the caller's own
	}
	if i < 0 || !all[i].Revoked.IsZero() {
		return err
	}
	c.gateway.Log.Info("device revoked", "device", frame.Clip(id, 32), "by", c.peer.User)
	e := ofCaller(audit.DeviceRevoked, c.peer)
	e.User, e.Device, e.Object, e.By = all[i].User, id, all[i].Name, c.peer.User
	c.gateway.record(e)
	return err
}

// Leave revokes a device, as its person does who logs out on it.
func (g *Gateway) Leave(ctx context.Context, p frame.Peer) error {
	return call{new(http.Request).WithContext(ctx), g, p}.revokeDevice(p.Device)
}

func (c call) logout() (any, error) {
	if !c.URL.Query().Has("everywhere") {
		return nil, c.revokeDevice(c.peer.Device)
	}
	if c.gateway.scoped(c.peer) {
		return nil, frame.Refuse("E_DENIED", "a device with a scope can log out itself only", "leave --everywhere out")
	}
	return nil, c.leaveAll("")
}

// leaveAll revokes all of the caller's devices but one, and their guest links: whoever had a device may have made some.
func (c call) leaveAll(but string) error {
	faults := []error{c.endOwnLinks()}
	for _, d := range c.gateway.Devices.List() {
		if d.User == c.peer.User && d.Revoked.IsZero() && d.ID != but {
			faults = append(faults, c.revokeDevice(d.ID))
		}
	}
	return errors.Join(faults...)
}

// ofLock is an event about a lock that the caller makes or takes off.
func (c call) ofLock(event string, kind auth.LockKind, name, why string) audit.Event {
	e := ofCaller(event, c.peer)
	of := ofLock(event, kind, name, c.peer.User)
	e.User, e.Device, e.Target, e.By, e.Object, e.Why = of.User, of.Device, of.Target, of.By, of.Object, why
	return e
}

// ofLock is what an event about a lock says of it.
func ofLock(event string, kind auth.LockKind, name, by string) audit.Event {
	e := audit.Event{Kind: event, By: by, Object: string(kind) + " " + name}
	switch kind {
	case auth.LockUser:
		e.User = name
	case auth.LockDevice:
		e.Device = name
	case auth.LockTarget:
		e.Target = name
	}
	return e
}

func (c call) locks() (any, error) {
	list := []api.Lock{}
	for _, l := range c.gateway.Locks.List() {
		list = append(list, api.Lock{Kind: string(l.Kind), Name: l.Name, By: l.By, Why: l.Why, Since: l.Created.UTC(), Until: l.Until})
	}
	return list, nil
}

func (c call) lock(ask api.Lock) (any, error) {
	l := auth.Lock{Kind: auth.LockKind(ask.Kind), Name: ask.Name, By: c.peer.User, Why: ask.Why, Until: ask.Until}
	if l.Kind == auth.LockUser && l.Name == c.peer.User || l.Kind == auth.LockDevice && l.Name == c.peer.Device {
		return nil, frame.Refuse("E_USAGE", "you would lock yourself out", "another administrator can")
	}
	if _, known := c.gateway.policy.Load().Target(l.Name); l.Kind == auth.LockTarget && !known {
		return nil, frame.Refuse(policy.CodeTargetUnknown, fmt.Sprintf("there is no target %q", frame.Clip(l.Name, 64)), "sallyport ls shows what there is")
	}
	err := c.gateway.Locks.Lock(c.Context(), l)
	if errors.Is(err, auth.ErrName) {
		return nil, err
	}
	c.gateway.Log.Info("locked", "kind", frame.Clip(ask.Kind, 16), "name", frame.Clip(ask.Name, 64), "by", c.peer.User, "why", frame.Clip(ask.Why, 255))
	c.gateway.record(c.ofLock(audit.Locked, l.Kind, l.Name, l.Why))
	return nil, err
}

func (c call) unlock() (any, error) {
	kind, name := c.PathValue("kind"), c.PathValue("name")
	return nil, c.gateway.takeOff(c.Context(), auth.LockKind(kind), name, c.ofLock(audit.Unlocked, auth.LockKind(kind), name, ""))
}

// Unlock takes a lock off for root.
func (g *Gateway) Unlock(ctx context.Context, kind auth.LockKind, name string) error {
	return g.takeOff(ctx, kind, name, ofLock(audit.Unlocked, kind, name, "root"))
}

// takeOff takes a lock off. What gives a right back is written first.
func (g *Gateway) takeOff(ctx context.Context, kind auth.LockKind, name string, e audit.Event) error {
	if !slices.ContainsFunc(g.Locks.List(), func(l auth.Lock) bool { return l.Kind == kind && l.Name == name }) {
		return g.Locks.Unlock(ctx, kind, name) // which says so
	}
	if err := g.demand(e); err != nil {
		return err
	}
	if err := g.Locks.Unlock(ctx, kind, name); err != nil {
		return err
	}
	g.Log.Info("unlocked", "kind", kind, "name", frame.Clip(name, 64), "by", e.By)
	return nil
}
