package signin

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/totp"
)

// From says where a step comes from.
type From struct {
	Source netip.Addr
	Known  string // the browser's cookie of the user, as Visit.Known was
}

// Password is the first step of a local account. The visit that it returns says which second factors there are; where
// none is needed the person is signed in.
func (s *Service) Password(ctx context.Context, user, typed string, from From) (Visit, error) {
	user = strings.ToLower(strings.TrimSpace(user))
	try, err := s.begin(user, from)
	if err != nil {
		return Visit{}, err
	}
	a, err := s.account(ctx, user)
	if err != nil {
		try.Cancel()
		return Visit{}, err
	}
	match, err := s.Passwords.Verify(ctx, a.Password, typed)
	if err != nil {
		try.Cancel()
		return Visit{}, err
	}
	if !match.OK {
		return Visit{}, ErrWrong
	}
	next := s.seconds(a)
	switch {
	case a.Locked:
		try.Cancel()
		return Visit{}, ErrLocked
	case len(next) == 0 && !s.PasswordAlone:
		try.Cancel()
		return Visit{}, ErrNoSecond
	}
	if err := s.rehash(ctx, a, typed, match); err != nil {
		try.Cancel()
		return Visit{}, err
	}
	known := s.Cookies.Check(user, from.Known) != ""
	if len(next) == 0 {
		try.Succeed()
		now := s.Clock()
		return s.enter(ctx, visit{SignedIn: true, Known: known, Person: Person{User: user, Groups: a.Groups, Method: "password", AuthTime: now}})
	}
	// Neither failed nor forgiven: else whoever has the password could wash away their guesses at the second factor.
	try.Cancel()
	out, err := s.enter(ctx, visit{Known: known, Person: Person{User: user, Method: "password"}})
	out.Next = next
	return out, err
}

// begin counts an attempt.
func (s *Service) begin(user string, from From) (*lockout.Try, error) {
	return s.Failures.Begin(lockout.Attempt{Account: user, Source: from.Source, Device: s.Cookies.Check(user, from.Known)})
}

// account returns an empty account for names that are none here, whose password is the decoy.
func (s *Service) account(ctx context.Context, user string) (Account, error) {
	if auth.CheckUser(user) != nil {
		return Account{}, nil
	}
	a, known, err := s.Accounts.Account(ctx, user)
	if err != nil || !known {
		return Account{}, err
	}
	return a, nil
}

// seconds returns the second factors that an account has.
func (s *Service) seconds(a Account) []string {
	var next []string
	if len(a.Passkeys) > 0 && s.Passkeys != nil {
		next = append(next, "passkey")
	}
	if a.TOTP != "" {
		next = append(next, "totp")
	}
	if len(next) > 0 && len(a.Recovery) > 0 {
		next = append(next, "recovery")
	}
	return next
}

// rehash makes what is kept of a password as strong as it would be made today, unless everybody is busy.
func (s *Service) rehash(ctx context.Context, a Account, typed string, match password.Match) error {
	if !match.Rehash {
		return nil
	}
	stronger, err := s.Passwords.Hash(ctx, typed)
	if errors.Is(err, password.ErrBusy) {
		return nil // next time
	}
	if err != nil {
		return err
	}
	return s.Accounts.SetPassword(ctx, a.User, a.Password, stronger)
}

// TOTP is the second step with a code of an authenticator app.
func (s *Service) TOTP(ctx context.Context, secret, code string, from From) (Visit, error) {
	return s.second(ctx, secret, "totp", from, func(a Account) (bool, error) {
		counter, ok := totp.Verify(a.TOTP, code, s.Clock())
		if !ok {
			return false, nil
		}
		return s.Accounts.UseTOTP(ctx, a.User, counter)
	})
}

// Recovery is the second step with a recovery code, which is gone then.
func (s *Service) Recovery(ctx context.Context, secret, code string, from From) (Visit, error) {
	return s.second(ctx, secret, "recovery", from, func(a Account) (bool, error) {
		found, ok := totp.FindRecoveryCode(a.Recovery, code)
		if !ok {
			return false, nil
		}
		return s.Accounts.UseRecovery(ctx, a.User, found)
	})
}

// second goes on from a right password with a code that use takes, or not.
func (s *Service) second(ctx context.Context, secret, method string, from From, use func(Account) (bool, error)) (Visit, error) {
	v, err := s.look(ctx, secret)
	if err != nil {
		return Visit{}, err
	}
	if v.SignedIn {
		return Visit{}, ErrVisit
	}
	try, err := s.begin(v.Person.User, from)
	if err != nil {
		return Visit{}, err
	}
	a, err := s.account(ctx, v.Person.User)
	if err != nil {
		try.Cancel()
		return Visit{}, err
	}
	ok, err := use(a)
	if err != nil {
		try.Cancel()
		return Visit{}, err
	}
	if !ok {
		return Visit{}, ErrWrongCode
	}
	try.Succeed()
	return s.finish(ctx, secret, a, "password+"+method)
}

// finish ends the visit of a password with one that is signed in.
func (s *Service) finish(ctx context.Context, secret string, a Account, method string) (Visit, error) {
	v, err := s.leave(ctx, secret)
	if err != nil {
		return Visit{}, err
	}
	return s.signedIn(ctx, a, method, v.Known)
}

// signedIn is for whoever has shown two factors of a local account.
func (s *Service) signedIn(ctx context.Context, a Account, method string, known bool) (Visit, error) {
	if a.Locked {
		return Visit{}, ErrLocked
	}
	now := s.Clock()
	return s.enter(ctx, visit{SignedIn: true, Known: known, Person: Person{User: a.User, Groups: a.Groups, Method: method, AuthTime: now, MFA: now}})
}
