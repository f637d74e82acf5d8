package main

import (
	"context"
	"net/netip"

	"sallyport/appliance/auth"
	"sallyport/appliance/portal"
)

// guests are those who open links, as the pages see them.
type guests struct{ *daemon }

// Look implements portal.Guests.
func (g guests) Look(ctx context.Context, secret string, from netip.Addr) (auth.GuestLink, error) {
	return g.gateway.LookGuest(ctx, secret, from)
}

// Open implements portal.Guests.
func (g guests) Open(ctx context.Context, o portal.Opening) (auth.Device, error) {
	device := o.Device
	if !o.Link.SignIn {
		return g.gateway.OpenGuest(ctx, o.Link, device, o.Source)
	}
	if user, id, ok := g.signedIn(o.Session); ok {
		device.User, device.SignIn = user, id
		return g.gateway.OpenGuest(ctx, o.Link, device, o.Source)
	}
	e, err := o.SignedIn(ctx)
	if err != nil {
		return auth.Device{}, err
	}
	n, err := g.begin(ctx, e)
	if err != nil {
		return auth.Device{}, err
	}
	device.User, device.SignIn = n.User, n.ID
	made, err := g.gateway.OpenGuest(ctx, o.Link, device, o.Source)
	if err != nil {
		g.undo(ctx, n)
		return auth.Device{}, err
	}
	g.noteLogin(ctx, n)
	return made, nil
}

// signedIn is who has signed in in the browser that is a device, and the sign-in. A guest's own device is nobody's.
func (g guests) signedIn(device string) (user, id string, ok bool) {
	d, err := g.registry.Lookup(device)
	if err != nil || d.SignIn == "" || !d.Scope.IsZero() {
		return "", "", false
	}
	_, err = g.signIns.Standing(d.SignIn)
	return d.User, d.SignIn, err == nil
}

var _ portal.Guests = guests{}
