package portal

import (
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/auth/totp"
	"sallyport/appliance/people"
)

// errDiffer is the answer to two passwords that should be one.
var errDiffer = &auth.Error{Code: "E_SETUP_PASSWORD", Sentence: "the two passwords differ", Hint: "type the same one twice"}

func (p *portal) setupPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /setup", func(w http.ResponseWriter, r *http.Request) { p.show(w, "setup-code", http.StatusOK, page{}) })
	mux.HandleFunc("POST /setup", p.beginSetup)
	mux.HandleFunc("POST /setup/passkey", p.newPasskey)
	mux.HandleFunc("POST /setup/finish", p.finishSetup)
}

// setupPage asks for a password and a second factor. Nothing is kept meanwhile: the page has the secret of one-time codes,
// which its reader is shown anyway.
func (p *portal) setupPage(w http.ResponseWriter, r *http.Request, user, code string, secret totp.Secret, err error) {
	v := page{Code: code, User: user, Secret: secret.Text, Passkeys: p.Passkeys != nil, Picture: p.picture(secret)}
	if err != nil {
		p.failed(w, r, "setup", user, err, v)
		return
	}
	p.show(w, "setup", http.StatusOK, v)
}

func (p *portal) beginSetup(w http.ResponseWriter, r *http.Request) {
	code := r.PostFormValue("code")
	user, err := p.Accounts.SetupOf(r.Context(), code)
	if err != nil {
		p.failed(w, r, "setup-code", "", err, page{})
		return
	}
	secret, err := totp.New(p.Name, user)
	if err != nil {
		p.failed(w, r, "setup-code", user, err, page{})
		return
	}
	p.setupPage(w, r, user, code, secret, nil)
}

func (p *portal) newPasskey(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Code string `json:"code"`
	}
	if !ask(w, r, &in) {
		return
	}
	u, err := p.newcomer(r, in.Code)
	if err != nil {
		failure(w, err)
		return
	}
	out, err := p.Passkeys.BeginRegistration(r.Context(), u)
	if err != nil {
		failure(w, err)
		return
	}
	answerAsk(w, out)
}

// newcomer is who sets their account up, as authenticators see them.
func (p *portal) newcomer(r *http.Request, code string) (passkey.User, error) {
	if p.Passkeys == nil {
		return passkey.User{}, signin.ErrNoSuchWay
	}
	user, err := p.Accounts.SetupOf(r.Context(), code)
	if err != nil {
		return passkey.User{}, err
	}
	a, known, err := p.Accounts.Account(r.Context(), user)
	if err == nil && !known {
		err = people.ErrNoAccount
	}
	return passkey.User{Handle: a.Handle, Name: user}, err
}

func (p *portal) finishSetup(w http.ResponseWriter, r *http.Request) {
	code := r.PostFormValue("code")
	user, err := p.Accounts.SetupOf(r.Context(), code)
	if err != nil {
		p.failed(w, r, "setup-code", "", err, page{})
		return
	}
	secret := totp.Again(p.Name, user, r.PostFormValue("secret"))
	chosen, shown, err := p.chosen(r, user, code, secret)
	if err == nil {
		_, err = p.Accounts.SetUp(r.Context(), code, chosen)
	}
	if err != nil {
		p.setupPage(w, r, user, code, secret, err)
		return
	}
	p.SetUp(user, source(r))
	p.show(w, "setup-done", http.StatusOK, page{User: user, Recovery: shown})
}

// chosen is what the form says, checked.
func (p *portal) chosen(r *http.Request, user, code string, secret totp.Secret) (s people.Setup, shown []string, err error) {
	typed, err := chosenPassword(r, user)
	if err != nil {
		return s, nil, err
	}
	if r.PostFormValue("passkey") != "" {
		u, err := p.newcomer(r, code)
		if err != nil {
			return s, nil, err
		}
		if s.Passkey, err = p.madePasskey(r, u); err != nil {
			return s, nil, err
		}
	}
	if one := r.PostFormValue("totp"); one != "" || s.Passkey == nil {
		counter, ok := totp.Verify(secret.Text, one, time.Now())
		if !ok {
			return s, nil, signin.ErrWrongCode
		}
		s.TOTP, s.Counter = secret.Text, counter
	}
	shown, s.Recovery = totp.NewRecoveryCodes()
	s.Password, err = p.Passwords.Hash(r.Context(), typed)
	return s, shown, err
}

// chosenPassword is what was typed twice, and may be user's.
func chosenPassword(r *http.Request, user string) (string, error) {
	typed := r.PostFormValue("password")
	if typed != r.PostFormValue("again") {
		return "", errDiffer
	}
	return typed, password.Check(user, typed)
}

// madePasskey is what the browser has made for u.
func (p *portal) madePasskey(r *http.Request, u passkey.User) (*passkey.Credential, error) {
	var in passkeyAnswer
	if err := json.Unmarshal([]byte(r.PostFormValue("passkey")), &in); err != nil {
		return nil, passkey.ErrRefused
	}
	made, err := p.Passkeys.FinishRegistration(r.Context(), u, in.ID, in.Response)
	return &made, err
}

// picture is the QR code of a secret of one-time codes, for a page.
func (p *portal) picture(secret totp.Secret) template.URL {
	drawn, err := secret.Picture()
	if err != nil {
		p.Log.Error("a QR code was not drawn", "cause", err)
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(drawn))
}
