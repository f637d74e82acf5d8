package oidc

import (
	"context"
	"net/url"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Refresh asks the provider whether a sign-in still holds, and for what is true of the person now. The Session of the
// answer replaces the one before, which most providers take for stolen when they see it again: one Refresh of a sign-in
// at a time, and its Session is to be kept before anything is done with the answer. ErrEnded means that the person has
// to sign in again.
//
// Providers differ in what a refreshed ID token says of the way in which the person signed in. What it leaves out is
// unknown, so MFA may be zero where it was not at the sign-in; it is the caller who remembers that.
func (p *Provider) Refresh(ctx context.Context, s Session) (Identity, error) {
	if s.Refresh == "" {
		return Identity{}, &outcome{ErrEnded, &Detail{Provider: p.config.Name, Reason: "the provider gave no refresh token"}}
	}
	m, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	ctx = oidc.ClientContext(ctx, p.http)
	told, err := p.oauth(m).TokenSource(ctx, &oauth2.Token{RefreshToken: s.Refresh}).Token()
	if err != nil {
		return Identity{}, p.exchangeError("refresh", ErrEnded, err)
	}
	raw, ok := told.Extra("id_token").(string)
	if !ok {
		return Identity{}, p.refuse("the provider gave no id token at the refresh, so nobody knows what is true now")
	}
	c, err := p.verify(ctx, m, raw, expected{nonce: s.Nonce, subject: s.Subject, authTime: s.AuthTime, refresh: true})
	if err != nil {
		return Identity{}, err
	}
	if err := p.complete(ctx, m, told.AccessToken, c); err != nil {
		return Identity{}, err
	}
	return p.identity(c, told.RefreshToken, s)
}

// EndSession returns where to send a browser so that the person is signed out at the provider too, and comes back to
// after; empty if the provider has no such page. The ID token is not sent along: URLs end up in histories and logs. So
// the provider asks the person whether they mean it.
func (p *Provider) EndSession(ctx context.Context, after string) (string, error) {
	m, err := p.discover(ctx)
	if err != nil || m.EndSession == "" {
		return "", err
	}
	u, err := url.Parse(m.EndSession)
	if err != nil {
		return "", p.refuse("end_session_endpoint is %.200q", m.EndSession)
	}
	q := u.Query()
	q.Set("client_id", p.config.ClientID)
	if after != "" {
		q.Set("post_logout_redirect_uri", after)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}
