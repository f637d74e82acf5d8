package portal

import (
	"crypto/ed25519"
	"errors"
	"net/http"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/people"
)

// The API is there for browsers too, for those that have signed in: a browser makes a key of its own, which becomes a device
// of the person's as any other is, and gets a cookie that stands for it.

// sessionCookie is what a browser that is a device shows.
const sessionCookie = "__Host-sallyport-session"

func (p *portal) apiPages(mux *http.ServeMux) {
	mux.HandleFunc("POST /login/browser", p.enrolBrowser)
	mux.HandleFunc("POST /login/code", p.enrolByCode)
	mux.HandleFunc("POST /login/leave", p.leaveBrowser)
	mux.HandleFunc("/api/v1/", p.serveAPI)
}

// enrolBrowser makes a device of a browser in which somebody has just signed in.
func (p *portal) enrolBrowser(w http.ResponseWriter, r *http.Request) {
	var in api.LoginStart
	if !ask(w, r, &in) {
		return
	}
	key, err := b64.DecodeString(in.Key)
	if err != nil {
		failure(w, signin.ErrProof)
		return
	}
	e, err := p.Service.Browser(r.Context(), cookie(r, visitCookie), signin.Start{Key: key, Name: in.Name, Platform: in.Platform, Source: source(r)})
	var device auth.Device
	if err == nil {
		device, err = p.Enrol(r.Context(), e)
	}
	if err == nil {
		err = p.remember(w, r, device)
	}
	if err != nil {
		p.Refused(e.Person.User, source(r), err)
		failure(w, err)
	}
}

// remember gives a browser the cookie that stands for its device, and tells it what it is. What it was before it is no more:
// only now, since any page may send a browser here, and nobody is to be signed out by a link that signs nobody in.
func (p *portal) remember(w http.ResponseWriter, r *http.Request, device auth.Device) error {
	secret, err := p.Browsers.Remember(r.Context(), device.ID, time.Now().Add(p.Lasts))
	if err != nil {
		return err
	}
	if before := p.session(r); before != "" && before != device.ID {
		p.leave(r, before)
	}
	state := api.LoginState{State: "enrolled", User: device.User, Device: device.ID, Identity: p.identity()}
	dropCookie(w, visitCookie)
	setCookie(w, sessionCookie, secret, p.Lasts, http.SameSiteStrictMode)
	answer(w, http.StatusCreated, state)
	return nil
}

// leave gives up what a browser was. The browser has another cookie and another key by then, so what does not succeed is noted.
func (p *portal) leave(r *http.Request, device string) {
	if err := errors.Join(p.Leave(device, r), p.Browsers.Forget(r.Context(), cookie(r, sessionCookie))); err != nil {
		p.Log.Warn("what a browser was before is not given up", "device", device, "cause", err)
	}
}

// identity is the keys by which browsers know the appliance.
func (p *portal) identity() (keys []string) {
	for _, key := range p.Identity {
		keys = append(keys, b64.EncodeToString(key))
	}
	return keys
}

// enrolByCode makes a device of a browser that has a one-time code: the code says whose, and for what.
func (p *portal) enrolByCode(w http.ResponseWriter, r *http.Request) {
	var in api.CodeLogin
	if !ask(w, r, &in) {
		return
	}
	key, err := b64.DecodeString(in.Key)
	signature, unread := b64.DecodeString(in.Signature)
	if err != nil || unread != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, api.CodeMessage(p.URL, in.Code), signature) {
		failure(w, signin.ErrProof)
		return
	}
	device, err := p.EnrolByCode(auth.Enrolment{Code: in.Code, Key: key, Name: in.Name, Platform: in.Platform, Source: source(r)}, r)
	if err == nil {
		err = p.remember(w, r, device)
	}
	if err != nil {
		p.Refused("", source(r), err)
		failure(w, err)
	}
}

// leaveBrowser makes the cookie worthless. The device is given up by POST /api/v1/logout.
func (p *portal) leaveBrowser(w http.ResponseWriter, r *http.Request) {
	if err := p.Browsers.Forget(r.Context(), cookie(r, sessionCookie)); err != nil {
		failure(w, err)
		return
	}
	dropCookie(w, sessionCookie)
	w.WriteHeader(http.StatusNoContent)
}

// serveAPI answers a browser as its device.
func (p *portal) serveAPI(w http.ResponseWriter, r *http.Request) {
	// What a page asks for comes from the page; a link from elsewhere carries no Strict cookie, but says so too.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "this request comes from another page", http.StatusForbidden)
		return
	}
	h, err := p.browser(r)
	if err != nil {
		failure(w, err)
		return
	}
	p.patient(w, r, answerAPI)
	h.ServeHTTP(w, r)
}

// answerAPI is how long the API may take over an answer, as in a command's flow.
const answerAPI = time.Minute

// browser is the API as the browser's device sees it, or why it is none.
func (p *portal) browser(r *http.Request) (http.Handler, error) {
	device, err := DeviceOf(p.Browsers, r)
	if err != nil {
		return nil, err
	}
	return p.API(device, r)
}

// DeviceOf is the device of the browser whose cookie a request shows, or auth.ErrSignedOut.
func DeviceOf(b *people.Browsers, r *http.Request) (string, error) {
	secret := cookie(r, sessionCookie)
	if secret == "" {
		return "", auth.ErrSignedOut
	}
	return b.Device(r.Context(), secret)
}
