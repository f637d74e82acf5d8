package portal

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/auth/totp"
	"sallyport/appliance/people"
)

// Who has an account of the appliance's own changes here what they sign in with. What lets them is not that the browser is
// signed in, since its cookie may have been stolen or the person may have gone for a coffee: they have just shown in it all
// that they sign in with, as the sign-in asks for it and counts it.

// forAccount is what somebody signs in for who wants to change their account.
const forAccount = "account"

func (p *portal) accountPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /login/account", p.account)
	mux.HandleFunc("POST /login/account", p.changeAccount)
	mux.HandleFunc("POST /login/account/passkey", p.anotherPasskey)
}

// prove asks a person to show what they sign in with.
func (p *portal) prove(w http.ResponseWriter, r *http.Request, err error) {
	v := page{For: forAccount, Passkeys: p.Passkeys != nil, User: p.UserOf(p.session(r))}
	status := http.StatusOK
	if known := told(err); r.Method != http.MethodGet || known.Code != signin.ErrVisit.Code { // who comes first has shown nothing yet
		p.Refused("", source(r), err)
		v.Error, status = known, statusOf(known)
	}
	p.show(w, "login", status, v)
}

func (p *portal) account(w http.ResponseWriter, r *http.Request) {
	a, _, err := p.Service.Proved(r.Context(), cookie(r, visitCookie))
	if err != nil {
		p.prove(w, r, err)
		return
	}
	p.showAccount(w, r, a.User, page{}, nil)
}

// showAccount says what somebody signs in with, what has just changed of it, and what has not.
func (p *portal) showAccount(w http.ResponseWriter, r *http.Request, user string, v page, err error) {
	factors, unread := p.Accounts.Factors(r.Context(), user)
	v.User, v.Factors, v.Passkeys = user, factors, p.Passkeys != nil
	status := http.StatusOK
	if err = cmp.Or(err, unread); err != nil {
		v.Error = told(err)
		status = statusOf(v.Error)
	}
	p.show(w, "account", status, v)
}

// An accountChange is something that a person does to their account: what the page says then, also where not all of it has
// come about.
type accountChange func(*portal, *http.Request, signin.Account) (page, error)

var accountChanges = map[string]accountChange{
	"password": (*portal).newPassword,
	"passkey":  (*portal).addPasskey,
	"remove":   (*portal).removeFactor,
	"codes":    (*portal).newCodes,
}

func (p *portal) changeAccount(w http.ResponseWriter, r *http.Request) {
	visit := cookie(r, visitCookie)
	a, at, err := p.Service.Proved(r.Context(), visit)
	if err != nil {
		p.prove(w, r, err)
		return
	}
	what := r.PostFormValue("do")
	switch what {
	case "done": // nobody who comes to this browser next is taken for them
		if err := p.Service.SignOut(r.Context(), visit); err != nil {
			p.showAccount(w, r, a.User, page{}, err)
			return
		}
		dropCookie(w, visitCookie)
		http.Redirect(w, r, "/account", http.StatusSeeOther)
		return
	case "app":
		p.newApp(w, r, a)
		return
	}
	v := page{}
	if change, known := accountChanges[what]; known {
		v, err = change(p, r, a)
	}
	if err == nil && r.PostFormValue("others") != "" {
		if err = p.leaveOthers(r, a.User, at); err == nil {
			v.Done = strings.TrimSpace(v.Done + " You are signed out everywhere else.")
		}
	}
	if err != nil {
		v.Open = what
	}
	p.showAccount(w, r, a.User, v, err)
}

// change writes down what somebody changes, and has it done.
func (p *portal) change(r *http.Request, user, what, object string, do func() error) error {
	return p.Changing(user, source(r), what, object, do)
}

func (p *portal) newPassword(r *http.Request, a signin.Account) (page, error) {
	typed, err := chosenPassword(r, a.User)
	if err != nil {
		return page{}, err
	}
	hash, err := p.Passwords.Hash(r.Context(), typed)
	if err != nil {
		return page{}, err
	}
	err = p.change(r, a.User, "password", "", func() error { return p.Accounts.Change(r.Context(), a.User, people.Setup{Password: hash}) })
	if err != nil {
		return page{}, err
	}
	return page{Done: "Your password is changed."}, nil
}

// anotherPasskey asks the browser for one.
func (p *portal) anotherPasskey(w http.ResponseWriter, r *http.Request) {
	a, _, err := p.Service.Proved(r.Context(), cookie(r, visitCookie))
	if err == nil && p.Passkeys == nil {
		err = signin.ErrNoSuchWay
	}
	if err != nil {
		failure(w, err)
		return
	}
	out, err := p.Passkeys.BeginRegistration(r.Context(), a.PasskeyUser())
	if err != nil {
		failure(w, err)
		return
	}
	answerAsk(w, out)
}

func (p *portal) addPasskey(r *http.Request, a signin.Account) (page, error) {
	name := cmp.Or(strings.TrimSpace(r.PostFormValue("name")), "Passkey")
	if err := auth.CheckLabel("name of a passkey", name); err != nil {
		return page{}, err
	}
	if p.Passkeys == nil {
		return page{}, signin.ErrNoSuchWay
	}
	made, err := p.madePasskey(r, a.PasskeyUser())
	if err != nil {
		return page{}, err
	}
	made.Name = name
	err = p.change(r, a.User, "passkey added", name, func() error { return p.Accounts.Change(r.Context(), a.User, people.Setup{Passkey: made}) })
	if err != nil {
		return page{}, err
	}
	return page{Done: "The passkey is added."}, nil
}

// removeFactor takes off what signs a person in beside the password. Where that alone signs nobody in, something is left.
func (p *portal) removeFactor(r *http.Request, a signin.Account) (page, error) {
	factors, err := p.Accounts.Factors(r.Context(), a.User)
	if err != nil {
		return page{}, err
	}
	id := r.PostFormValue("id")
	i := slices.IndexFunc(factors, func(f people.Factor) bool { return f.ID == id && f.Removable() })
	if i < 0 {
		return page{}, people.ErrNoFactor
	}
	what, done := "passkey removed", "The passkey is removed."
	if factors[i].Kind == people.TOTP {
		what, done = "authenticator app removed", "The authenticator app is removed."
	}
	err = p.change(r, a.User, what, factors[i].Name, func() error { return p.Accounts.Remove(r.Context(), a.User, factors[i], p.needed()...) })
	if err != nil {
		return page{}, err
	}
	return page{Done: done}, nil
}

// needed are the kinds of which an account has to have something to sign in; none where its password alone does.
func (p *portal) needed() []string {
	switch {
	case p.Service.PasswordAlone:
		return nil
	case p.Passkeys == nil:
		return []string{people.TOTP}
	}
	return []string{people.TOTP, people.Passkey}
}

// newApp shows an authenticator app a secret, and takes the first code of it. As at the set-up, the page has the secret.
func (p *portal) newApp(w http.ResponseWriter, r *http.Request, a signin.Account) {
	secret := totp.Again(p.Name, a.User, r.PostFormValue("secret"))
	var err error
	if secret.Text == "" {
		if secret, err = totp.New(p.Name, a.User); err != nil {
			p.showAccount(w, r, a.User, page{}, err)
			return
		}
	} else if err = p.useApp(r, a.User, secret); err == nil {
		p.showAccount(w, r, a.User, page{Done: "Your authenticator app is set up."}, nil)
		return
	}
	v, status := page{User: a.User, Secret: secret.Text, Picture: p.picture(secret)}, http.StatusOK
	if err != nil {
		v.Error = told(err)
		status = statusOf(v.Error)
	}
	p.show(w, "app", status, v)
}

func (p *portal) useApp(r *http.Request, user string, secret totp.Secret) error {
	counter, ok := totp.Verify(secret.Text, r.PostFormValue("code"), time.Now())
	if !ok {
		return signin.ErrWrongCode
	}
	return p.change(r, user, "authenticator app", "", func() error {
		return p.Accounts.Change(r.Context(), user, people.Setup{TOTP: secret.Text, Counter: counter})
	})
}

func (p *portal) newCodes(r *http.Request, a signin.Account) (page, error) {
	shown, kept := totp.NewRecoveryCodes()
	err := p.change(r, a.User, "recovery codes", "", func() error { return p.Accounts.Change(r.Context(), a.User, people.Setup{Recovery: kept}) })
	if err != nil {
		return page{}, err
	}
	return page{Recovery: shown}, nil
}

// leaveOthers signs a person out everywhere but in this browser, and has nobody go on elsewhere who has signed in before they
// did.
func (p *portal) leaveOthers(r *http.Request, user string, since time.Time) error {
	here := p.session(r)
	if p.UserOf(here) != user {
		here = ""
	}
	return errors.Join(p.Accounts.EndBegun(r.Context(), user, since), p.LeaveOthers(user, here, r))
}
