package portal

import (
	"encoding/json"
	"net/http"
	"time"

	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/signin"
)

const visitLife = 10 * time.Minute

func (p *portal) signInPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) { p.show(w, "login", http.StatusOK, p.choices(r)) })
	mux.HandleFunc("POST /login/password", p.password)
	mux.HandleFunc("POST /login/factor", p.factor)
	mux.HandleFunc("POST /login/passkey", p.beginPasskey)
	mux.HandleFunc("POST /login/passkey/answer", p.finishPasskey)
	mux.HandleFunc("POST /login/at/{provider}", p.toProvider)
	mux.HandleFunc("GET /login/{provider}", p.fromProvider)
	mux.HandleFunc("GET /login/device", func(w http.ResponseWriter, r *http.Request) { p.show(w, "device", http.StatusOK, page{}) })
	mux.HandleFunc("POST /login/device", p.device)
	mux.HandleFunc("POST /login/confirm", p.confirm)
	mux.HandleFunc("POST /login/deny", p.deny)
}

// choices are the ways to sign in: for changing an account, those that such accounts have.
func (p *portal) choices(r *http.Request) page {
	v := page{Passkeys: p.Passkeys != nil, For: r.PostFormValue("for")}
	if v.For != forAccount {
		v.For, v.Providers = "", p.Providers
	}
	return v
}

func from(r *http.Request) signin.From {
	return signin.From{Source: source(r), Known: cookie(r, knownCookie)}
}

// onwardTo is where who has signed in goes on: to their account or the guest link, if they did it for that, or to the
// application, which makes the browser a device of theirs.
func onwardTo(w http.ResponseWriter, r *http.Request, purpose string) string {
	if purpose == forAccount {
		return "/login/account"
	}
	if cookie(r, guestCookie) == "" {
		return "/login/browser"
	}
	dropCookie(w, guestCookie)
	return "/guest"
}

// entered goes on with what a step has gained.
func (p *portal) entered(w http.ResponseWriter, r *http.Request, v signin.Visit) {
	setCookie(w, visitCookie, v.Secret, visitLife, http.SameSiteStrictMode)
	if v.Known != "" {
		setCookie(w, knownCookie, v.Known, lockout.CookieLife, http.SameSiteStrictMode)
	}
	purpose := p.choices(r).For
	if v.SignedIn {
		p.show(w, "onward", http.StatusOK, page{To: onwardTo(w, r, purpose), User: v.User})
		return
	}
	p.show(w, "factor", http.StatusOK, page{User: v.User, Next: v.Next, For: purpose})
}

func (p *portal) password(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("user")
	v, err := p.Service.Password(r.Context(), user, r.PostFormValue("password"), from(r))
	if err != nil {
		p.failed(w, r, "login", user, err, p.choices(r))
		return
	}
	p.entered(w, r, v)
}

func (p *portal) factor(w http.ResponseWriter, r *http.Request) {
	visit, code := cookie(r, visitCookie), r.PostFormValue("code")
	step := p.Service.TOTP
	if r.PostFormValue("method") == "recovery" {
		step = p.Service.Recovery
	}
	user, next := p.Service.Halfway(r.Context(), visit)
	v, err := step(r.Context(), visit, code, from(r))
	if err != nil {
		p.failed(w, r, "factor", user, err, page{Next: next, For: p.choices(r).For})
		return
	}
	p.entered(w, r, v)
}

// passkeyAnswer is what a browser's script says after navigator.credentials.
type passkeyAnswer struct {
	ID       string          `json:"id"`
	Visit    bool            `json:"visit"` // of the account whose password was right, and not of anybody
	For      string          `json:"for"`   // what they sign in for, as page has it
	Response json.RawMessage `json:"response"`
}

func (a passkeyAnswer) visit(r *http.Request) string {
	if a.Visit {
		return cookie(r, visitCookie)
	}
	return ""
}

func (p *portal) beginPasskey(w http.ResponseWriter, r *http.Request) {
	var in passkeyAnswer
	if !ask(w, r, &in) {
		return
	}
	out, err := p.Service.BeginPasskey(r.Context(), in.visit(r))
	if err != nil {
		failure(w, err)
		return
	}
	answerAsk(w, out)
}

func answerAsk(w http.ResponseWriter, a passkey.Ask) {
	answer(w, http.StatusOK, map[string]any{"id": a.ID, "options": a.Options})
}

func (p *portal) finishPasskey(w http.ResponseWriter, r *http.Request) {
	var in passkeyAnswer
	if !ask(w, r, &in) {
		return
	}
	user, _ := p.Service.Halfway(r.Context(), in.visit(r))
	v, err := p.Service.FinishPasskey(r.Context(), in.visit(r), in.ID, in.Response, from(r))
	if err != nil {
		p.Refused(user, source(r), err)
		failure(w, err)
		return
	}
	setCookie(w, visitCookie, v.Secret, visitLife, http.SameSiteStrictMode)
	if v.Known != "" {
		setCookie(w, knownCookie, v.Known, lockout.CookieLife, http.SameSiteStrictMode)
	}
	answer(w, http.StatusOK, map[string]string{"to": onwardTo(w, r, in.For)})
}

// toProvider sends a browser to an identity provider: by a page, since form-action would follow a redirect.
func (p *portal) toProvider(w http.ResponseWriter, r *http.Request) {
	browser := signin.NewBrowser()
	to, err := p.Service.BeginProvider(r.Context(), r.PathValue("provider"), browser, r.PostFormValue("fresh") != "")
	if err != nil {
		p.failed(w, r, "login", "", err, p.choices(r))
		return
	}
	setCookie(w, browserCookie, browser, visitLife, http.SameSiteLaxMode)
	p.show(w, "onward", http.StatusOK, page{To: to})
}

// fromProvider is the one GET that may change something, and that anybody may send a browser to: it counts like a POST.
func (p *portal) fromProvider(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && !p.passes(w, r) {
		return
	}
	v, err := p.Service.FinishProvider(r.Context(), r.PathValue("provider"), cookie(r, browserCookie), r.URL.Query())
	dropCookie(w, browserCookie)
	if err != nil {
		p.failed(w, r, "again", "", err, page{})
		return
	}
	p.entered(w, r, v)
}

// device shows which device a code is of.
func (p *portal) device(w http.ResponseWriter, r *http.Request) {
	code := r.PostFormValue("code")
	view, err := p.Service.Open(r.Context(), code, source(r))
	if err == nil && view.State != signin.Waiting {
		err = signin.ErrDecided
	}
	if err != nil {
		p.failed(w, r, "device", "", err, page{})
		return
	}
	p.show(w, "confirm", http.StatusOK, page{View: &view, Code: view.Code})
}

func (p *portal) confirm(w http.ResponseWriter, r *http.Request) {
	view, err := p.Service.Confirm(r.Context(), cookie(r, visitCookie), r.PostFormValue("code"), source(r))
	if err != nil {
		p.failed(w, r, "device", "", err, page{})
		return
	}
	dropCookie(w, visitCookie)
	p.show(w, "done", http.StatusOK, page{View: &view})
}

func (p *portal) deny(w http.ResponseWriter, r *http.Request) {
	view, err := p.Service.Deny(r.Context(), r.PostFormValue("code"), source(r))
	if err != nil {
		p.failed(w, r, "device", "", err, page{})
		return
	}
	p.Refused("", view.Source, signin.ErrDenied) // somebody there wanted to be somebody here
	p.show(w, "denied", http.StatusOK, page{View: &view})
}
