package signin

import (
	"context"
	"net/url"

	"sallyport/appliance/auth/passkey"
)

// BeginPasskey asks for a passkey: of the account whose password was right on this visit, or where secret is empty of
// anybody.
func (s *Service) BeginPasskey(ctx context.Context, secret string) (passkey.Ask, error) {
	if s.Passkeys == nil {
		return passkey.Ask{}, ErrNoSuchWay
	}
	if secret == "" {
		return s.Passkeys.BeginAny(ctx)
	}
	_, a, err := s.halfway(ctx, secret)
	if err != nil {
		return passkey.Ask{}, err
	}
	return s.Passkeys.BeginLogin(ctx, a.PasskeyUser())
}

// FinishPasskey takes the browser's answer. Nobody guesses a passkey, so failures are not counted.
func (s *Service) FinishPasskey(ctx context.Context, secret, ask string, response []byte, from From) (Visit, error) {
	if s.Passkeys == nil {
		return Visit{}, ErrNoSuchWay
	}
	if secret == "" {
		return s.finishAny(ctx, ask, response, from)
	}
	_, a, err := s.halfway(ctx, secret)
	if err != nil {
		return Visit{}, err
	}
	used, err := s.Passkeys.FinishLogin(ctx, a.PasskeyUser(), ask, response)
	if err != nil {
		return Visit{}, err
	}
	if err := s.Accounts.SetPasskey(ctx, a.User, used); err != nil {
		return Visit{}, err
	}
	return s.finish(ctx, secret, a, "password+passkey")
}

// halfway returns the account of a visit whose password was right.
func (s *Service) halfway(ctx context.Context, secret string) (visit, Account, error) {
	v, err := s.look(ctx, secret)
	if err != nil {
		return v, Account{}, err
	}
	if v.SignedIn {
		return v, Account{}, ErrVisit
	}
	a, err := s.account(ctx, v.Person.User)
	return v, a, err
}

func (s *Service) finishAny(ctx context.Context, ask string, response []byte, from From) (Visit, error) {
	var a Account
	lookup := func(handle []byte) (passkey.User, bool, error) {
		var known bool
		var err error
		a, known, err = s.Accounts.AccountByHandle(ctx, handle)
		return a.PasskeyUser(), known, err
	}
	_, used, err := s.Passkeys.FinishAny(ctx, ask, response, lookup)
	if err != nil {
		return Visit{}, err
	}
	if err := s.Accounts.SetPasskey(ctx, a.User, used); err != nil {
		return Visit{}, err
	}
	return s.signedIn(ctx, a, "passkey", s.Cookies.Check(a.User, from.Known) != "")
}

// BeginProvider returns where to send a browser that is known by a secret of NewBrowser. Fresh has the provider ask the
// person again who is signed in there already.
func (s *Service) BeginProvider(ctx context.Context, provider, browser string, fresh bool) (string, error) {
	if s.Providers == nil {
		return "", ErrNoSuchWay
	}
	return s.Providers.Begin(ctx, provider, browser, fresh)
}

// FinishProvider takes what the browser came back with. The provider decides what the person had to show.
func (s *Service) FinishProvider(ctx context.Context, provider, browser string, answer url.Values) (Visit, error) {
	if s.Providers == nil {
		return Visit{}, ErrNoSuchWay
	}
	who, err := s.Providers.Finish(ctx, provider, browser, answer)
	if err != nil {
		return Visit{}, err
	}
	if err := s.Accounts.Bind(ctx, who); err != nil {
		return Visit{}, err
	}
	// No cookie of a known browser: there is no password to guess here.
	return s.enter(ctx, visit{SignedIn: true, Known: true, Person: Person{
		User: who.User, Groups: who.Groups, Method: "oidc:" + provider, AuthTime: who.AuthTime, MFA: who.MFA,
		Issuer: who.Issuer, Session: who.Session,
	}})
}
