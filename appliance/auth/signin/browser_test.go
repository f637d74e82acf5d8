package signin

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/passkey/passkeytest"
	"sallyport/appliance/auth/password"
)

func TestPasswordThenCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		visit, err := h.Password(t.Context(), " Ann ", secretSentence, From{Source: desk})
		if err != nil {
			t.Fatal(err)
		}
		if visit.SignedIn || visit.Known != "" || visit.User != "ann" || !slices.Equal(visit.Next, []string{"passkey", "totp", "recovery"}) {
			t.Errorf("%+v", visit)
		}
		started := h.start()
		if _, err := h.Confirm(t.Context(), visit.Secret, started.Code, desk); !errors.Is(err, ErrVisit) {
			t.Errorf("a password alone confirms: %v", err)
		}
		code := h.code(time.Now())
		done, err := h.TOTP(t.Context(), visit.Secret, code, From{Source: desk})
		if err != nil {
			t.Fatal(err)
		}
		if !done.SignedIn || done.Secret == visit.Secret || h.Cookies.Check("ann", done.Known) == "" {
			t.Errorf("%+v", done)
		}
		// The step is done, and so is the visit before it.
		if _, err := h.TOTP(t.Context(), visit.Secret, code, From{Source: desk}); !errors.Is(err, ErrVisit) {
			t.Error(err)
		}
		if _, err := h.TOTP(t.Context(), done.Secret, code, From{Source: desk}); !errors.Is(err, ErrVisit) {
			t.Error(err)
		}
		// A code that somebody looked at is not good again, for another visit neither.
		again, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk, Known: done.Known})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.TOTP(t.Context(), again.Secret, code, From{Source: desk, Known: done.Known}); !errors.Is(err, ErrWrongCode) {
			t.Error(err)
		}
		time.Sleep(30 * time.Second)
		last, err := h.TOTP(t.Context(), again.Secret, h.code(time.Now()), From{Source: desk, Known: done.Known})
		if err != nil || last.Known != "" {
			t.Errorf("%+v, %v", last, err)
		}
		if err := h.SignOut(t.Context(), last.Secret); err != nil {
			t.Error(err)
		}
		if _, err := h.Confirm(t.Context(), last.Secret, started.Code, desk); !errors.Is(err, ErrVisit) {
			t.Errorf("after signing out: %v", err)
		}
		if err := h.SignOut(t.Context(), last.Secret); err != nil {
			t.Error(err)
		}
	})
}

func TestAHundredOfOneCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.Failures = lockout.New(lockout.Config{Free: 1000}) })
		var visit Visit
		for what, step := range map[string]func() (Visit, error){
			"totp": func() (Visit, error) {
				return h.TOTP(t.Context(), visit.Secret, h.code(time.Now()), From{Source: desk})
			},
			"recovery": func() (Visit, error) { return h.Recovery(t.Context(), visit.Secret, h.recovery[3], From{Source: desk}) },
		} {
			var err error
			if visit, err = h.Password(t.Context(), "ann", secretSentence, From{Source: desk}); err != nil {
				t.Fatal(err)
			}
			var in atomic.Int32
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					switch _, err := step(); {
					case err == nil:
						in.Add(1)
					case !errors.Is(err, ErrWrongCode) && !errors.Is(err, ErrVisit):
						t.Errorf("%s: %v", what, err)
					}
				})
			}
			wg.Wait()
			if in.Load() != 1 {
				t.Errorf("%s: %d are in", what, in.Load())
			}
		}
	})
}

func TestRecoveryCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n, want := range []error{nil, ErrWrongCode} {
			visit, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Recovery(t.Context(), visit.Secret, strings.ToLower(h.recovery[0]), From{Source: desk}); !errors.Is(err, want) {
				t.Errorf("use %d: %v", n+1, err)
			}
		}
		if n := len(h.accounts.byUser["ann"].Recovery); n != 9 {
			t.Errorf("%d codes are left", n)
		}
	})
}

func TestWrongPasswordsLookAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.Failures = lockout.New(lockout.Config{Free: 1000}) })
		h.accounts.byUser["bob"] = &Account{User: "bob"} // has no password
		for _, c := range []struct{ user, password string }{
			{"ann", "wrong"}, {"ann", ""}, {"nobody", secretSentence}, {"bob", ""}, {"bob", secretSentence},
			{"", ""}, {"not a name!", "x"}, {strings.Repeat("x", 1<<16), "x"},
		} {
			visit, err := h.Password(t.Context(), c.user, c.password, From{Source: desk})
			if err != ErrWrong || visit.Secret != "" {
				t.Errorf("%.20q, %q: %+v, %v", c.user, c.password, visit, err)
			}
		}
	})
}

func TestGuessingAtAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		known := h.signIn().Known
		for range 5 {
			if _, err := h.Password(t.Context(), "ann", "wrong", From{Source: cafe}); !errors.Is(err, ErrWrong) {
				t.Fatal(err)
			}
		}
		if _, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk}); !errors.Is(err, lockout.ErrWait) {
			t.Errorf("a stranger with the right password, now: %v", err)
		}
		if _, err := h.Password(t.Context(), "ann", secretSentence, From{Source: cafe, Known: known}); err != nil {
			t.Errorf("ann herself: %v", err)
		}
		if _, err := h.Password(t.Context(), "nobody", "wrong", From{Source: desk}); !errors.Is(err, ErrWrong) {
			t.Error(err)
		}
	})
}

// Who has the password cannot wash away guesses at the second factor by typing it again, from wherever.
func TestGuessingAtTheSecondFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n := range 5 {
			from := From{Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(n)})}
			visit, err := h.Password(t.Context(), "ann", secretSentence, from)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.TOTP(t.Context(), visit.Secret, "000000", from); !errors.Is(err, ErrWrongCode) {
				t.Fatal(err)
			}
		}
		if _, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk}); !errors.Is(err, lockout.ErrWait) {
			t.Error(err)
		}
	})
}

func TestWhatAccountsLack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone := func(c *Config) { c.PasswordAlone = true }
		for what, c := range map[string]struct {
			change  func(*Account)
			service []func(*Config)
			next    []string
			err     error
		}{
			"nothing":          {func(*Account) {}, nil, []string{"passkey", "totp", "recovery"}, nil},
			"passkeys":         {func(a *Account) { a.Passkeys = nil }, nil, []string{"totp", "recovery"}, nil},
			"TOTP":             {func(a *Account) { a.TOTP = "" }, nil, []string{"passkey", "recovery"}, nil},
			"recovery codes":   {func(a *Account) { a.Recovery = nil }, nil, []string{"passkey", "totp"}, nil},
			"second factors":   {func(a *Account) { a.TOTP, a.Passkeys = "", nil }, nil, nil, ErrNoSecond},
			"the need of them": {func(a *Account) { a.TOTP, a.Passkeys = "", nil }, []func(*Config){alone}, nil, nil},
			"freedom":          {func(a *Account) { a.Locked = true }, nil, nil, ErrLocked},
		} {
			h := newHouse(t, c.service...)
			c.change(h.accounts.byUser["ann"])
			visit, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk})
			if !errors.Is(err, c.err) || !slices.Equal(visit.Next, c.next) || visit.SignedIn != (c.service != nil) {
				t.Errorf("%s: %+v, %v", what, visit, err)
			}
			if visit.SignedIn {
				if v, err := h.look(t.Context(), visit.Secret); err != nil || !v.Person.MFA.IsZero() || v.Person.Method != "password" {
					t.Errorf("a password alone is %+v, %v", v, err)
				}
			}
		}
		// Locked between the two steps.
		h := newHouse(t)
		visit, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk})
		if err != nil {
			t.Fatal(err)
		}
		h.accounts.byUser["ann"].Locked = true
		if _, err := h.TOTP(t.Context(), visit.Secret, h.code(time.Now()), From{Source: desk}); !errors.Is(err, ErrLocked) {
			t.Error(err)
		}
		// A secret that is missing has no codes, not those of an empty secret.
		h = newHouse(t)
		h.accounts.byUser["ann"].TOTP = ""
		if visit, err = h.Password(t.Context(), "ann", secretSentence, From{Source: desk}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.TOTP(t.Context(), visit.Secret, "328482", From{Source: desk}); !errors.Is(err, ErrWrongCode) {
			t.Error(err)
		}
	})
}

func TestPasswordsAreRehashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.Passwords = password.New(password.Config{Memory: 128, Passes: 1}) })
		was := h.accounts.byUser["ann"].Password
		for range 2 {
			if _, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk}); err != nil {
				t.Fatal(err)
			}
		}
		if is := h.accounts.byUser["ann"].Password; is == was || !strings.Contains(is, "m=128,") {
			t.Errorf("%s after %s", is, was)
		}
	})
}

func TestPasskeyAsSecondFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		visit, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk})
		if err != nil {
			t.Fatal(err)
		}
		ask, err := h.BeginPasskey(t.Context(), visit.Secret)
		if err != nil {
			t.Fatal(err)
		}
		done, err := h.FinishPasskey(t.Context(), visit.Secret, ask.ID, h.key.Get(ask.Options), From{Source: desk})
		if err != nil || !done.SignedIn {
			t.Fatalf("%+v, %v", done, err)
		}
		if v, err := h.look(t.Context(), done.Secret); err != nil || v.Person.Method != "password+passkey" || v.Person.MFA.IsZero() {
			t.Errorf("%+v, %v", v, err)
		}
		if _, err := h.BeginPasskey(t.Context(), visit.Secret); !errors.Is(err, ErrVisit) {
			t.Error(err)
		}
		if _, err := h.BeginPasskey(t.Context(), done.Secret); !errors.Is(err, ErrVisit) {
			t.Error(err)
		}
	})
}

func TestPasskeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for range 2 { // the counter is kept
			ask, err := h.BeginPasskey(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			done, err := h.FinishPasskey(t.Context(), "", ask.ID, h.key.Get(ask.Options), From{Source: desk})
			if err != nil || !done.SignedIn || done.User != "ann" {
				t.Fatalf("%+v, %v", done, err)
			}
			if v, err := h.look(t.Context(), done.Secret); err != nil || v.Person.Method != "passkey" || v.Person.MFA.IsZero() {
				t.Errorf("%+v, %v", v, err)
			}
		}
		stranger := passkeytest.New(t, "bastion.example")
		mallory := passkey.User{Handle: passkey.NewHandle(), Name: "mallory"}
		ask, err := h.Passkeys.BeginRegistration(t.Context(), mallory)
		if err != nil {
			t.Fatal(err)
		}
		stranger.Create(ask.Options)
		if ask, err = h.BeginPasskey(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := h.FinishPasskey(t.Context(), "", ask.ID, stranger.Get(ask.Options), From{Source: desk}); !errors.Is(err, passkey.ErrRefused) {
			t.Error(err)
		}
		h.accounts.byUser["ann"].Locked = true
		if ask, err = h.BeginPasskey(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := h.FinishPasskey(t.Context(), "", ask.ID, h.key.Get(ask.Options), From{Source: desk}); !errors.Is(err, ErrLocked) {
			t.Error(err)
		}
	})
}

func TestProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		browser := NewBrowser()
		to, err := h.BeginProvider(t.Context(), "corp", browser, false)
		if err != nil || to != "https://id.example/auth?to=corp" {
			t.Fatal(to, err)
		}
		answer := func(user, sub string) url.Values {
			return url.Values{"user": {user}, "sub": {sub}, "browser": {browser}}
		}
		visit, err := h.FinishProvider(t.Context(), "corp", browser, answer("carol", "1"))
		if err != nil || !visit.SignedIn || visit.User != "carol" || visit.Known != "" {
			t.Fatalf("%+v, %v", visit, err)
		}
		if _, err := h.FinishProvider(t.Context(), "corp", NewBrowser(), answer("carol", "1")); !errors.Is(err, oidc.ErrRefused) {
			t.Error(err)
		}
		for user, sub := range map[string]string{"carol": "2", "ann": "3"} { // another person's name, a local account's
			if _, err := h.FinishProvider(t.Context(), "corp", browser, answer(user, sub)); !errors.Is(err, ErrNameTaken) {
				t.Errorf("%s: %v", user, err)
			}
		}

		started := h.start()
		if _, err := h.Confirm(t.Context(), visit.Secret, started.Code, desk); err != nil {
			t.Fatal(err)
		}
		e, err := h.poll(started.ID)
		if err != nil || e == nil {
			t.Fatal(e, err)
		}
		if p := e.Person; p.User != "carol" || p.Method != "oidc:corp" || p.Issuer != "https://id.example" || p.Session.Refresh != "refresh canary" ||
			p.MFA.IsZero() || !slices.Equal(p.Groups, []string{"ops"}) {
			t.Errorf("%+v", p)
		}
		read, _ := readCode(started.Code)
		if l, _, _ := h.Logins.ByCode(t.Context(), read); l.Person.Session.Refresh != "" {
			t.Error("the refresh token is kept after it was handed over")
		}
	})
}

func TestWaysThatAreNotSetUp(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Providers, c.Passkeys = nil, nil })
	_, err1 := h.BeginPasskey(t.Context(), "")
	_, err2 := h.FinishPasskey(t.Context(), "", "", nil, From{})
	_, err3 := h.BeginProvider(t.Context(), "corp", NewBrowser(), false)
	_, err4 := h.FinishProvider(t.Context(), "corp", NewBrowser(), nil)
	for _, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, ErrNoSuchWay) {
			t.Error(err)
		}
	}
}

// Where the store is away nobody is in, and nobody's fault is counted.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		visit, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk})
		if err != nil {
			t.Fatal(err)
		}
		away := errors.New("the store is away")
		h.accounts.broken = away
		for range 10 {
			if _, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk}); !errors.Is(err, away) {
				t.Fatal(err)
			}
			if _, err := h.TOTP(t.Context(), visit.Secret, h.code(time.Now()), From{Source: desk}); !errors.Is(err, away) {
				t.Fatal(err)
			}
		}
		h.accounts.broken = nil
		if _, err := h.TOTP(t.Context(), visit.Secret, h.code(time.Now()), From{Source: desk}); err != nil {
			t.Error(err)
		}
	})
}
