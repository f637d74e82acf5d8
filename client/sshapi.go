package client

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/appliance/api"
)

// HostKeys lists the SSH host keys of a target or, where that is empty, of all, for administrators.
func (a *API) HostKeys(ctx context.Context, target string) (list []api.HostKey, err error) {
	return list, a.call(ctx, http.MethodGet, "hostkeys?"+url.Values{"target": {target}}.Encode(), nil, &list)
}

// ConfirmHostKey says that a target's host key is good, for administrators.
func (a *API) ConfirmHostKey(ctx context.Context, target, fingerprint string) error {
	return a.call(ctx, http.MethodPost, "hostkeys/confirm", api.ConfirmHostKey{Target: target, Fingerprint: fingerprint}, nil)
}

// ForgetHostKeys has the next host key of a target be its first, for administrators.
func (a *API) ForgetHostKeys(ctx context.Context, target string) error {
	return a.call(ctx, http.MethodPost, "hostkeys/forget", api.ForgetHostKeys{Target: target}, nil)
}

// SSHCertificate has a public key of this device signed for a target.
func (a *API) SSHCertificate(ctx context.Context, ask api.AskSSHCertificate) (cert api.SSHCertificate, err error) {
	return cert, a.call(ctx, http.MethodPost, "ssh/certificate", ask, &cert)
}
