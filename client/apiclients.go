package client

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/appliance/api"
)

// Clients lists what the client can be downloaded as from the appliance.
func (a *API) Clients(ctx context.Context) (list []api.ClientFile, err error) {
	return list, a.call(ctx, http.MethodGet, "clients", nil, &list)
}

// BringClient brings a file of a release for people to download the client as, for administrators. What is there counts once
// SHA256SUMS has come, the last.
func (a *API) BringClient(ctx context.Context, name string, u Upload) error {
	var got api.ClientUpload
	return a.inPieces(ctx, u, 0, "clients/upload", url.Values{"name": {name}, "sha256": {u.ID}}, &got, func() int64 { return got.Received })
}
