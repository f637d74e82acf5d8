package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

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
	return me, a.call(ctx, http.MethodGet, "me", &me)
}

// Targets lists the targets that the caller may see.
func (a *API) Targets(ctx context.Context) (list []api.Target, err error) {
	return list, a.call(ctx, http.MethodGet, "targets", &list)
}

// Grant asks what a flow would be granted, or why it would be refused, without opening it.
func (a *API) Grant(ctx context.Context, req frame.OpenRequest) (grant api.Grant, err error) {
	q := url.Values{"target": {req.Target}, "port": {strconv.Itoa(int(req.Port))}, "protocol": {req.Protocol}}
	return grant, a.call(ctx, http.MethodGet, "grant?"+q.Encode(), &grant)
}

// Bench asks how fast the caller may measure their way.
func (a *API) Bench(ctx context.Context) (bench api.Bench, err error) {
	return bench, a.call(ctx, http.MethodGet, "bench", &bench)
}

// Flows lists the caller's flows, or everybody's.
func (a *API) Flows(ctx context.Context, all bool) (list []api.Flow, err error) {
	path := "flows"
	if all {
		path += "?all"
	}
	return list, a.call(ctx, http.MethodGet, path, &list)
}

// Devices lists all devices, for administrators.
func (a *API) Devices(ctx context.Context) (list []api.Device, err error) {
	return list, a.call(ctx, http.MethodGet, "devices", &list)
}

// Revoke bars a device for good, for administrators.
func (a *API) Revoke(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, "devices/"+url.PathEscape(id), nil)
}

// Logout revokes the caller's own device.
func (a *API) Logout(ctx context.Context) error { return a.call(ctx, http.MethodPost, "logout", nil) }

// maxAnswer bounds what an answer may take of memory: a name for each of 100,000 targets and some more.
const maxAnswer = 64 << 20

func (a *API) call(ctx context.Context, method, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://appliance/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		var no api.Failure
		switch unread := body.Decode(&no) != nil || no.Code == ""; {
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
	if err := body.Decode(answer); err != nil {
		return frame.Refuse(frame.Internal, fmt.Sprintf("the appliance's answer does not parse: %v", err), "client and appliance may be of different versions")
	}
	return nil
}
