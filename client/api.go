package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// An API asks the appliance itself, over flows that a Dialer opens.
type API struct{ http *http.Client }

// NewAPI returns the API of the appliance that d reaches.
func NewAPI(d Dialer) *API {
	return &API{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			flow, _, err := d.Open(ctx, frame.OpenRequest{Protocol: api.Protocol}, nil)
			return flow, err
		},
		MaxIdleConns:       1,
		DisableCompression: true,
	}}}
}

// Close lets go of the flow that is kept for the next call.
func (a *API) Close() { a.http.CloseIdleConnections() }

// Me asks who the caller is.
func (a *API) Me(ctx context.Context) (me api.Me, err error) {
	return me, a.call(ctx, http.MethodGet, "me", nil, &me)
}

// Targets lists the targets that the caller may see.
func (a *API) Targets(ctx context.Context) (list []api.Target, err error) {
	return list, a.call(ctx, http.MethodGet, "targets", nil, &list)
}

// Grant asks what a flow would be granted, or why it would be refused, without opening it.
func (a *API) Grant(ctx context.Context, req frame.OpenRequest) (grant api.Grant, err error) {
	q := url.Values{"target": {req.Target}, "port": {strconv.Itoa(int(req.Port))}, "protocol": {req.Protocol}}
	return grant, a.call(ctx, http.MethodGet, "grant?"+q.Encode(), nil, &grant)
}

// Bench asks how fast the caller may measure their way.
func (a *API) Bench(ctx context.Context) (bench api.Bench, err error) {
	return bench, a.call(ctx, http.MethodGet, "bench", nil, &bench)
}

// Sessions lists the caller's sessions, or everybody's.
func (a *API) Sessions(ctx context.Context, all bool) (list []api.Session, err error) {
	path := "sessions"
	if all {
		path += "?all"
	}
	return list, a.call(ctx, http.MethodGet, path, nil, &list)
}

// EndSessions ends sessions for good, and lists those.
func (a *API) EndSessions(ctx context.Context, which api.EndSessions) (ended []api.Session, err error) {
	return ended, a.call(ctx, http.MethodPost, "sessions/end", which, &ended)
}

// MessageSessions tells those to whom sessions belong a line, and lists those sessions.
func (a *API) MessageSessions(ctx context.Context, m api.MessageSessions) (told []api.Session, err error) {
	return told, a.call(ctx, http.MethodPost, "sessions/message", m, &told)
}

// Devices lists all devices, for administrators.
func (a *API) Devices(ctx context.Context) (list []api.Device, err error) {
	return list, a.call(ctx, http.MethodGet, "devices", nil, &list)
}

// OwnDevices lists the caller's devices that are signed in.
func (a *API) OwnDevices(ctx context.Context) (list []api.Device, err error) {
	return list, a.call(ctx, http.MethodGet, "me/devices", nil, &list)
}

// NewCode makes a one-time code that enrols a device, for administrators.
func (a *API) NewCode(ctx context.Context, ask api.AskCode) (code api.Code, err error) {
	return code, a.call(ctx, http.MethodPost, "codes", ask, &code)
}

// Revoke bars a device for good, for administrators.
func (a *API) Revoke(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, "devices/"+url.PathEscape(id), nil, nil)
}

// RevokeOwn bars a device of the caller's for good.
func (a *API) RevokeOwn(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, "me/devices/"+url.PathEscape(id), nil, nil)
}

// Locks lists what is locked, for administrators.
func (a *API) Locks(ctx context.Context) (list []api.Lock, err error) {
	return list, a.call(ctx, http.MethodGet, "locks", nil, &list)
}

// Lock bars a user, a device or a target, for administrators.
func (a *API) Lock(ctx context.Context, l api.Lock) error {
	return a.call(ctx, http.MethodPost, "locks", l, nil)
}

// Unlock takes a lock off, for administrators.
func (a *API) Unlock(ctx context.Context, kind, name string) error {
	return a.call(ctx, http.MethodDelete, "locks/"+url.PathEscape(kind)+"/"+url.PathEscape(name), nil, nil)
}

// An AuditQuery chooses events of the audit log; what is zero does not.
type AuditQuery struct {
	Since, Until                       time.Time
	User, Target, Event, Session, Code string
	After                              uint64 // only events whose numbers are greater
}

// Audit asks for the next events, for administrators.
func (a *API) Audit(ctx context.Context, q AuditQuery) (page api.AuditPage, err error) {
	v := url.Values{}
	for name, value := range map[string]string{"user": q.User, "target": q.Target, "event": q.Event, "session": q.Session, "code": q.Code} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.After > 0 {
		v.Set("after", strconv.FormatUint(q.After, 10))
	}
	return page, a.call(ctx, http.MethodGet, "audit?"+v.Encode(), nil, &page)
}

// AuditKey asks for the key by which the audit log is verified, for administrators.
func (a *API) AuditKey(ctx context.Context) (key api.AuditKey, err error) {
	return key, a.call(ctx, http.MethodGet, "audit/key", nil, &key)
}

// Why asks how a request would be decided, for administrators; the query is the API's.
func (a *API) Why(ctx context.Context, q url.Values) (why api.Why, err error) {
	return why, a.call(ctx, http.MethodGet, "policy/why?"+q.Encode(), nil, &why)
}

// TestPolicy runs the tests that stand in the access files, for administrators.
func (a *API) TestPolicy(ctx context.Context) (t api.PolicyTest, err error) {
	return t, a.call(ctx, http.MethodGet, "policy/test", nil, &t)
}

// Logout ends the caller's sign-in and revokes their device, or all of their devices.
func (a *API) Logout(ctx context.Context, everywhere bool) error {
	path := "logout"
	if everywhere {
		path += "?everywhere"
	}
	return a.call(ctx, http.MethodPost, path, nil, nil)
}

// maxAnswer bounds what an answer may take of memory: a name for each of 100,000 targets and some more.
const maxAnswer = 64 << 20

func (a *API) call(ctx context.Context, method, path string, ask, answer any) error {
	var body io.Reader
	if ask != nil {
		b, err := json.Marshal(ask)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	return a.send(ctx, method, path, body, "application/json", answer)
}

// send is call with a body of any kind; may be nil.
func (a *API) send(ctx context.Context, method, path string, body io.Reader, kind string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://appliance/api/v1/"+path, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer resp.Body.Close()
	answered := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		var no api.Failure
		switch unread := answered.Decode(&no) != nil || no.Code == ""; {
		case unread && resp.StatusCode == http.StatusNotFound:
			return frame.Refuse(frame.VersionSkew, "the appliance is older than this command and does not know what it asks", "ask its administrator to upgrade it")
		case unread:
			return frame.Refuse(frame.Internal, fmt.Sprintf("the appliance answered %s", frame.Clip(resp.Status, 80)), "")
		}
		return &frame.StreamError{Remote: true, Reason: frame.Reason{Code: frame.Code(frame.Clip(no.Code, 32)),
			Sentence: frame.Clip(no.Sentence, 600), Hint: frame.Clip(no.Hint, 600)}}
	}
	if answer == nil {
		return nil
	}
	if err := answered.Decode(answer); err != nil {
		return frame.Refuse(frame.Internal, fmt.Sprintf("the appliance's answer does not parse: %v", err), "client and appliance may be of different versions")
	}
	return nil
}
