package client

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/appliance/api"
)

// Guests lists the caller's guest links; all: everybody's, for administrators.
func (a *API) Guests(ctx context.Context, all bool) (list []api.GuestLink, err error) {
	path := "guests"
	if all {
		path += "?all"
	}
	return list, a.call(ctx, http.MethodGet, path, nil, &list)
}

// Share makes a guest link.
func (a *API) Share(ctx context.Context, ask api.AskGuest) (made api.GuestLink, err error) {
	return made, a.call(ctx, http.MethodPost, "guests", ask, &made)
}

// Unshare makes a guest link worth nothing, and ends its sessions.
func (a *API) Unshare(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, "guests/"+url.PathEscape(id), nil, nil)
}
