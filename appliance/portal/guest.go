package portal

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/signin"
)

// A guest link is /guest#SECRET. The secret reaches no server with the page: GET /guest shows the same to everybody and
// changes nothing, so that a preview of a link costs no use. The page's script sends the secret in a body, first to say
// what the link is for, and once somebody has clicked to open it for a key that the browser has made.

// Guests are who comes by links.
type Guests interface {
	// Look is the link of a secret if it lets somebody in from there, or auth.ErrGuestLink, whatever the reason.
	Look(ctx context.Context, secret string, from netip.Addr) (auth.GuestLink, error)
	// Open makes a device that has come by the link.
	Open(context.Context, Opening) (auth.Device, error)
}

// An Opening is somebody who opens a link.
type Opening struct {
	Link    auth.GuestLink
	Device  auth.Device // its key, name and platform
	Session string      // the device that the browser is already; may be empty
	Source  netip.Addr
	// SignedIn is who has just signed in in the browser, once, or signin.ErrVisit.
	SignedIn func(context.Context) (signin.Enrolment, error)
}

// badLink is how long an answer takes that says that a link does not work: it tells nothing of why.
const badLink = 300 * time.Millisecond

func (p *portal) guestPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /guest", func(w http.ResponseWriter, r *http.Request) { p.show(w, "guest", http.StatusOK, page{}) })
	mux.HandleFunc("POST /guest/look", p.lookGuest)
	mux.HandleFunc("POST /guest/open", p.openGuest)
}

// lookGuest says what a link is for.
func (p *portal) lookGuest(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	var in api.LookGuest
	if !ask(w, r, &in) {
		return
	}
	l, err := p.Guests.Look(r.Context(), in.Secret, source(r))
	if err != nil {
		notIn(w, r, began, err)
		return
	}
	v := guestView(l)
	v.Instead = p.session(r) != ""
	answer(w, http.StatusOK, v)
}

// openGuest lets somebody in.
func (p *portal) openGuest(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	var in api.OpenGuest
	if !ask(w, r, &in) {
		return
	}
	key, err := b64.DecodeString(in.Key)
	if err != nil {
		failure(w, signin.ErrProof)
		return
	}
	o := Opening{Device: auth.Device{Key: key, Name: in.Name, Platform: in.Platform}, Session: p.session(r), Source: source(r),
		SignedIn: func(ctx context.Context) (signin.Enrolment, error) {
			return p.Service.Browser(ctx, cookie(r, visitCookie), signin.Start{Key: key, Name: in.Name, Platform: in.Platform, Source: source(r)})
		}}
	var device auth.Device
	if o.Link, err = p.Guests.Look(r.Context(), in.Secret, o.Source); err == nil {
		device, err = p.Guests.Open(r.Context(), o)
	}
	var secret string
	until := time.Now().Add(p.Lasts)
	if err == nil {
		if o.Link.Expires.Before(until) {
			until = o.Link.Expires
		}
		secret, err = p.Browsers.Remember(r.Context(), device.ID, until)
	}
	if errors.Is(err, signin.ErrVisit) {
		setCookie(w, guestCookie, "waits", visitLife, http.SameSiteLaxMode) // it must come along from a provider's page
	}
	if err != nil {
		notIn(w, r, began, err)
		return
	}
	dropCookie(w, visitCookie)
	setCookie(w, sessionCookie, secret, time.Until(until), http.SameSiteStrictMode)
	v := guestView(o.Link)
	v.User, v.Device, v.Identity = device.User, device.ID, p.identity()
	answer(w, http.StatusCreated, v)
}

func guestView(l auth.GuestLink) api.GuestView {
	return api.GuestView{Maker: l.Maker, Target: l.Target, Protocol: l.Protocol, Approval: l.Approval, SignIn: l.SignIn, Expires: l.Expires.UTC()}
}

// session is the device that a browser is; empty for one that is none.
func (p *portal) session(r *http.Request) string {
	secret := cookie(r, sessionCookie)
	if secret == "" {
		return ""
	}
	device, err := p.Browsers.Device(r.Context(), secret)
	if err != nil {
		return "" // which is no reason to turn a guest away
	}
	return device
}

// notIn says why somebody is not let in, not before badLink is over.
func notIn(w http.ResponseWriter, r *http.Request, began time.Time, err error) {
	select {
	case <-time.After(time.Until(began.Add(badLink))):
	case <-r.Context().Done():
	}
	failure(w, err)
}
