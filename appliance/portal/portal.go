// Package portal is what the appliance answers browsers, and commands that wait for one: signing in, and setting an account
// up or changing it.
//
//	h, err := portal.New(portal.Config{Name: "bastion", URL: "https://bastion.example", Service: service, …})
//	mux.Handle("/", h)
//
// # What a browser is allowed
//
// Pages load style and script from the appliance alone, no other page may frame them, and nothing is kept in caches. GET
// changes nothing, but for the way back from an identity provider, which is bound to the browser by a cookie. POST is taken
// from the appliance's own pages: by http.CrossOriginProtection and by an Origin that is exactly ours. Cookies are __Host-,
// Secure and HttpOnly.
//
// # What is told
//
// A page says what a person can do about an error. The reason is for the log, and goes to Config.Refused.
package portal

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/people"
)

// Config has what the pages need.
type Config struct {
	Name      string // of the appliance
	Banner    string // what people consent to by signing in; may be empty
	URL       string // https://bastion.example
	Service   *signin.Service
	Providers []string // names, in the order in which people see them
	Accounts  *people.Accounts
	Passwords *password.Hasher
	Passkeys  *passkey.RelyingParty // nil where there are none

	// Enrol makes the device of a confirmed login its person's.
	Enrol func(context.Context, signin.Enrolment) (auth.Device, error)
	// EnrolByCode makes the device of who has a one-time code that person's.
	EnrolByCode func(auth.Enrolment, *http.Request) (auth.Device, error)
	Identity    [][]byte // the keys by which browsers know the appliance, Ed25519
	// API is the appliance's API as a device sees it.
	API func(device string, r *http.Request) (http.Handler, error)
	// Leave revokes the device of a browser that has become another.
	Leave    func(device string, r *http.Request) error
	Browsers *people.Browsers
	// Known is told of a request of somebody's who has signed in, whose answer may take long.
	Known  func(*http.Request)
	Guests Guests        // nil: there are no guest links
	Lasts  time.Duration // a sign-in

	// Changing has a person change what they sign in with, by do: what, and perhaps which of those.
	Changing func(user string, source netip.Addr, what, object string, do func() error) error
	// UserOf is whose a device is that may go on; empty for nobody's.
	UserOf func(device string) string
	// LeaveOthers revokes the devices of a person, but for one.
	LeaveOthers func(user, but string, r *http.Request) error

	// SetUp is told who has set their account up, from where.
	SetUp func(user string, source netip.Addr)
	// Refused is told of each sign-in that fails, with the exact reason.
	Refused func(user string, source netip.Addr, err error)
	Log     *slog.Logger
}

//go:embed pages.html style.css script.js guest.js
var files embed.FS

// maxBody bounds a request's body: a passkey's answer is the largest.
const maxBody = 128 << 10

type portal struct {
	Config
	gate  turnstile
	pages *template.Template
}

// New returns the handler of all pages.
func New(c Config) (http.Handler, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the appliance's address", c.URL)
	}
	pages, err := template.ParseFS(files, "pages.html")
	if err != nil {
		return nil, err
	}
	p := &portal{Config: c, pages: pages}
	mux := http.NewServeMux()
	for _, name := range []string{"style.css", "script.js", "guest.js"} {
		mux.HandleFunc("GET /login/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=300")
			http.ServeFileFS(w, r, files, name)
		})
	}
	mux.HandleFunc("POST /api/v1/login", p.startLogin)
	mux.HandleFunc("POST /api/v1/login/poll", p.pollLogin)
	p.signInPages(mux)
	p.accountPages(mux)
	p.apiPages(mux)
	p.appPages(mux)
	p.setupPages(mux)
	if p.Guests != nil {
		p.guestPages(mux)
	}
	return p.guarded(mux), nil
}

// guarded is what holds for every request.
func (p *portal) guarded(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "same-origin") // with no-referrer browsers say that forms come from nowhere
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		if origin := r.Header.Get("Origin"); r.Method != http.MethodGet && origin != "" && origin != p.URL {
			http.Error(w, "this request comes from another page", http.StatusForbidden)
			return
		}
		if err := cross.Check(r); err != nil {
			http.Error(w, "this request comes from another page", http.StatusForbidden)
			return
		}
		// Polls come often, and prove who they are; so do browsers that are devices.
		stranger := !strings.HasPrefix(r.URL.Path, "/api/v1/") || r.URL.Path == "/api/v1/login"
		if r.Method != http.MethodGet && stranger && !p.passes(w, r) {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// passes says whether one more request of a stranger is looked at; it is answered if not.
func (p *portal) passes(w http.ResponseWriter, r *http.Request) bool {
	if p.gate.pass(source(r), time.Now()) {
		return true
	}
	w.Header().Set("Retry-After", "60")
	http.Error(w, "too much at once; try again in a minute", http.StatusTooManyRequests)
	return false
}

// source is where a request comes from.
func source(r *http.Request) netip.Addr {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	return from.Addr().Unmap()
}

// A page is what a template is given.
type page struct {
	Appliance string
	Banner    string
	Title     string
	Error     *auth.Error

	Providers []string
	Passkeys  bool
	User      string
	Next      []string
	View      *signin.View
	Code      string
	To        string // where a browser goes on
	For       string // what somebody signs in for, if not to use the appliance
	Secret    string
	Picture   template.URL
	Recovery  []string

	Factors []people.Factor
	Done    string // what has been changed
	Open    string // which part of the page did not succeed
}

// show writes a page.
func (p *portal) show(w http.ResponseWriter, name string, status int, v page) {
	v.Appliance, v.Banner = p.Name, p.Banner
	var b bytes.Buffer
	if err := p.pages.ExecuteTemplate(&b, name, v); err != nil {
		p.Log.Error("a page was not written", "page", name, "cause", err)
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	b.WriteTo(w)
}

// told is what a person is told of an error; what was not made for people is the appliance's own trouble.
func told(err error) *auth.Error {
	var e *auth.Error
	if errors.As(err, &e) {
		return e
	}
	return auth.ErrControlDown
}

// failed tells why a step did not succeed, on the page name, and notes it.
func (p *portal) failed(w http.ResponseWriter, r *http.Request, name, user string, err error, v page) {
	e := told(err)
	p.Refused(p.known(r, user), source(r), err)
	v.Error, v.User = e, user
	if slices.Contains([]string{signin.ErrVisit.Code, oidc.ErrRefused.Code}, e.Code) {
		switch {
		case v.For == forAccount:
			v.To = "/login/account"
		case name == "device":
			v.To = "/login?next=/login/device"
		}
		name = "again"
	}
	p.show(w, name, statusOf(e), v)
}

// known is a user name for the log. What is typed there may be anything, a password too.
func (p *portal) known(r *http.Request, user string) string {
	if user == "" || auth.CheckUser(user) != nil {
		return ""
	}
	if _, known, err := p.Accounts.Account(r.Context(), user); err != nil || !known {
		return ""
	}
	return user
}

func statusOf(e *auth.Error) int {
	switch {
	case e.Code == auth.ErrControlDown.Code || e.Code == oidc.ErrDown.Code:
		return http.StatusServiceUnavailable
	case e.Code == signin.ErrSlow.Code || e.Code == signin.ErrManyLogins.Code || strings.HasSuffix(e.Code, "_WAIT"):
		return http.StatusTooManyRequests
	case e.Code == signin.ErrUnknownLogin.Code:
		return http.StatusNotFound
	case e.Code == auth.ErrSignedOut.Code:
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

// The names of cookies. A visit is what the browser has shown so far; browser binds the way to a provider and back, and
// must come along from its pages; known says who has signed in here before.
const (
	visitCookie   = "__Host-sallyport-visit"
	browserCookie = "__Host-sallyport-browser"
	knownCookie   = "__Host-sallyport-known"
	guestCookie   = "__Host-sallyport-guest" // somebody signs in to open a guest link
)

func setCookie(w http.ResponseWriter, name, value string, life time.Duration, mode http.SameSite) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second), Secure: true, HttpOnly: true, SameSite: mode})
}

func dropCookie(w http.ResponseWriter, name string) {
	setCookie(w, name, "", -time.Second, http.SameSiteStrictMode)
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}
