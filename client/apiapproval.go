package client

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/appliance/api"
)

// Approvals lists the requests that the caller may decide, and their own; all: those that are decided too.
func (a *API) Approvals(ctx context.Context, all bool) (list []api.Approval, err error) {
	path := "approvals"
	if all {
		path += "?all"
	}
	return list, a.call(ctx, http.MethodGet, path, nil, &list)
}

// AskApproval asks for a target without connecting to it, and lists what waits.
func (a *API) AskApproval(ctx context.Context, ask api.AskApproval) (list []api.Approval, err error) {
	return list, a.call(ctx, http.MethodPost, "approvals", ask, &list)
}

// DecideApproval says yes or no to the request whose id begins so.
func (a *API) DecideApproval(ctx context.Context, id string, d api.DecideApproval) (one api.Approval, err error) {
	return one, a.call(ctx, http.MethodPost, "approvals/"+url.PathEscape(id), d, &one)
}
