package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/portal/web"
)

// appPolicy is what the pages of the application may load: what is the appliance's own, and WebAssembly, which shows desktops.
const appPolicy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"

// appPaths are where the application's pages are, for who has signed in: web/src/lib/routes.ts says what is there.
var appPaths = []string{"/{$}", "/targets", "/connect/", "/session/", "/files/", "/sessions", "/account", "/approvals", "/guests", "/admin/", "/downloads"}

func (p *portal) appPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /assets/", p.asset(web.Assets()))
	mux.HandleFunc("GET /licenses", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(web.Licenses())
	})
	for _, path := range appPaths {
		mux.HandleFunc("GET "+path, p.app)
	}
	mux.HandleFunc("GET /downloads/{name}", p.download)
	for _, path := range []string{"/login/browser", "/login/code"} { // on the way in
		mux.HandleFunc("GET "+path, p.appPage)
	}
}

// slowAsset is how long a browser that has signed in may take over a file: the client of desktops is a megabyte, and lines
// are slow. Who has not signed in is sent small ones alone, and has a stranger's time.
const slowAsset = 5 * time.Minute

func (p *portal) asset(files http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := DeviceOf(p.Browsers, r); err == nil {
			p.patient(w, r, slowAsset)
		}
		w.Header().Set("Content-Security-Policy", appPolicy) // a worker has that of its file
		files.ServeHTTP(w, r)
	}
}

// patient gives an answer to who has signed in more time than one to a stranger has.
func (p *portal) patient(w http.ResponseWriter, r *http.Request, d time.Duration) {
	p.Known(r)
	until := time.Now().Add(d)
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(until) // net/http takes one that passes for the browser's end
	rc.SetWriteDeadline(until)
}

// app answers who has signed in with the application, and leads others to the sign-in and back.
func (p *portal) app(w http.ResponseWriter, r *http.Request) {
	if _, err := p.browser(r); err != nil && p.toSignIn(w, r, err, r.URL.RequestURI()) {
		return
	}
	p.appPage(w, r) // which says itself what is amiss with the database
}

// toSignIn leads who has not signed in to where that is done, and from there to next. It is false for another trouble.
func (p *portal) toSignIn(w http.ResponseWriter, r *http.Request, err error, next string) bool {
	var e *auth.Error
	if !errors.As(err, &e) || e.Code == auth.ErrControlDown.Code {
		return false
	}
	to := "/login"
	if next = localPath(next); next != "/" {
		to += "?next=" + url.QueryEscape(next)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return true
}

// download is a file of the client, as the API has it: its address is for people, who open it from elsewhere too.
func (p *portal) download(w http.ResponseWriter, r *http.Request) {
	h, err := p.browser(r)
	if err != nil {
		if !p.toSignIn(w, r, err, "/downloads") {
			http.Error(w, told(err).Sentence, statusOf(told(err)))
		}
		return
	}
	p.Known(r)
	of := r.Clone(r.Context())
	of.URL.Path, of.URL.RawPath = "/api/v1/clients/"+r.PathValue("name"), ""
	h.ServeHTTP(w, of)
}

func (p *portal) appPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", appPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(web.Page())
}

// localPath is a path of this appliance, or / for what might lead elsewhere.
func localPath(next string) string {
	if len(next) > 512 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
