package client

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/appliance/api"
)

// ApplyAccess compares access files with those in force and, unless it is a dry run, puts them in force; for
// administrators, as all here.
func (a *API) ApplyAccess(ctx context.Context, ask api.ApplyAccess) (plan api.AccessPlan, err error) {
	return plan, a.call(ctx, http.MethodPost, "access", ask, &plan)
}

// AccessVersions lists the versions of the access files, the latest first.
func (a *API) AccessVersions(ctx context.Context) (list []api.AccessVersion, err error) {
	return list, a.call(ctx, http.MethodGet, "access", nil, &list)
}

// AccessVersion returns a version with its files; active is the one in force.
func (a *API) AccessVersion(ctx context.Context, version string) (v api.AccessVersion, err error) {
	return v, a.call(ctx, http.MethodGet, "access/"+url.PathEscape(version), nil, &v)
}

// AccessDiff compares two versions.
func (a *API) AccessDiff(ctx context.Context, from, to string) (changes []api.AccessChange, err error) {
	q := url.Values{"from": {from}, "to": {to}}
	return changes, a.call(ctx, http.MethodGet, "access/diff?"+q.Encode(), nil, &changes)
}

// CheckPolicy asks what is wrong with access files, for administrators.
func (a *API) CheckPolicy(ctx context.Context, files map[string][]byte) (check api.PolicyCheck, err error) {
	return check, a.call(ctx, http.MethodPost, "policy/check", api.CheckPolicy{Files: files}, &check)
}

// Accounts lists all accounts.
func (a *API) Accounts(ctx context.Context) (list []api.Account, err error) {
	return list, a.call(ctx, http.MethodGet, "accounts", nil, &list)
}

// AddAccount makes a local account, and a link to set it up by.
func (a *API) AddAccount(ctx context.Context, ask api.AddAccount) (link api.SetUp, err error) {
	return link, a.call(ctx, http.MethodPost, "accounts", ask, &link)
}

// ResetAccount takes credentials off an account, and makes a link to set it up anew by.
func (a *API) ResetAccount(ctx context.Context, user string, ask api.ResetAccount) (link api.SetUp, err error) {
	return link, a.call(ctx, http.MethodPost, "accounts/"+url.PathEscape(user)+"/reset", ask, &link)
}

// SetAccount disables an account, or enables it.
func (a *API) SetAccount(ctx context.Context, user string, ask api.SetAccount) error {
	return a.call(ctx, http.MethodPost, "accounts/"+url.PathEscape(user), ask, nil)
}

// RemoveAccount removes an account.
func (a *API) RemoveAccount(ctx context.Context, user string) error {
	return a.call(ctx, http.MethodDelete, "accounts/"+url.PathEscape(user), nil, nil)
}

// SignIns lists the sign-ins that last, of one person or of all.
func (a *API) SignIns(ctx context.Context, user string) (list []api.SignIn, err error) {
	return list, a.call(ctx, http.MethodGet, "signins?"+url.Values{"user": {user}}.Encode(), nil, &list)
}

// EndSignIns ends a sign-in, or all of a person, and lists those.
func (a *API) EndSignIns(ctx context.Context, which api.EndSignIns) (ended []api.SignIn, err error) {
	return ended, a.call(ctx, http.MethodPost, "signins/end", which, &ended)
}
