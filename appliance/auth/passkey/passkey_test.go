package passkey

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/passkey/passkeytest"
	"sallyport/appliance/auth/pending"
)

func newParty(t *testing.T) *RelyingParty {
	t.Helper()
	rp, err := New(Config{Host: "bastion.example", Waiting: pending.NewMemory(pending.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

// register gives u a passkey that lies on a.
func register(t *testing.T, rp *RelyingParty, a *passkeytest.Authenticator, u *User) {
	t.Helper()
	ask, err := rp.BeginRegistration(t.Context(), *u)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := rp.FinishRegistration(t.Context(), *u, ask.ID, a.Create(ask.Options))
	if err != nil {
		t.Fatal(err, reason(err))
	}
	if !bytes.Equal(cred.ID, a.ID) {
		t.Fatalf("the passkey is %x, not %x", cred.ID, a.ID)
	}
	u.Credentials = append(u.Credentials, cred)
}

func reason(err error) string {
	if d, ok := errors.AsType[*Detail](err); ok {
		return d.Reason
	}
	return ""
}

// refused wants the generic answer, and a reason that has the words.
func refused(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, ErrRefused) || err.Error() != ErrRefused.Sentence || !strings.Contains(reason(err), words) {
		t.Errorf("%v (%s), not %q", err, reason(err), words)
	}
}

func TestRegisterAndLogin(t *testing.T) {
	rp, a := newParty(t), passkeytest.New(t, "bastion.example")
	ann := User{Handle: NewHandle(), Name: "ann"}
	ask, err := rp.BeginRegistration(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	o := a.Read(ask.Options).PublicKey
	if o.RP.ID != "bastion.example" || o.User.ID != passkeytest.B64(ann.Handle) || o.User.Name != "ann" ||
		o.AuthenticatorSelection.UserVerification != "required" || o.Attestation != "none" {
		t.Errorf("%s", ask.Options)
	}
	register(t, rp, a, &ann)

	for range 3 {
		ask, err := rp.BeginLogin(t.Context(), ann)
		if err != nil {
			t.Fatal(err)
		}
		o := a.Read(ask.Options).PublicKey
		if o.RPID != "bastion.example" || o.UserVerification != "required" || len(o.AllowCredentials) != 1 || o.AllowCredentials[0].ID != passkeytest.B64(a.ID) {
			t.Errorf("%s", ask.Options)
		}
		cred, err := rp.FinishLogin(t.Context(), ann, ask.ID, a.Get(ask.Options))
		if err != nil {
			t.Fatal(err, reason(err))
		}
		if !bytes.Equal(cred.ID, a.ID) || bytes.Equal(cred.Record, ann.Credentials[0].Record) {
			t.Errorf("%s after %s", cred.Record, ann.Credentials[0].Record)
		}
		ann.Credentials[0] = cred
	}

	ask, err = rp.BeginRegistration(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	if o := a.Read(ask.Options).PublicKey; len(o.ExcludeCredentials) != 1 || o.ExcludeCredentials[0].ID != passkeytest.B64(a.ID) {
		t.Errorf("the passkey that is there is not excluded: %s", ask.Options)
	}
}

func TestWhoeverTheAuthenticatorSays(t *testing.T) {
	rp := newParty(t)
	ann, bob := User{Handle: NewHandle(), Name: "ann"}, User{Handle: NewHandle(), Name: "bob"}
	anns, bobs := passkeytest.New(t, "bastion.example"), passkeytest.New(t, "bastion.example")
	register(t, rp, anns, &ann)
	register(t, rp, bobs, &bob)
	lookup := func(handle []byte) (User, bool, error) {
		for _, u := range []User{ann, bob} {
			if bytes.Equal(u.Handle, handle) {
				return u, true, nil
			}
		}
		return User{}, false, nil
	}
	for _, c := range []struct {
		a    *passkeytest.Authenticator
		name string
	}{{anns, "ann"}, {bobs, "bob"}} {
		ask, err := rp.BeginAny(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(c.a.Read(ask.Options).PublicKey.AllowCredentials) != 0 {
			t.Errorf("it says which there are: %s", ask.Options)
		}
		u, cred, err := rp.FinishAny(t.Context(), ask.ID, c.a.Get(ask.Options), lookup)
		if err != nil || u.Name != c.name || !bytes.Equal(cred.ID, c.a.ID) {
			t.Errorf("%s: %s, %v %s", c.name, u.Name, err, reason(err))
		}
	}

	stranger := passkeytest.New(t, "bastion.example")
	other := User{Handle: NewHandle(), Name: "mallory"}
	register(t, rp, stranger, &other)
	ask, _ := rp.BeginAny(t.Context())
	_, _, err := rp.FinishAny(t.Context(), ask.ID, stranger.Get(ask.Options), lookup)
	refused(t, err, "no account has the handle")

	stranger.Handle = ann.Handle // another's name, one's own key
	ask, _ = rp.BeginAny(t.Context())
	_, _, err = rp.FinishAny(t.Context(), ask.ID, stranger.Get(ask.Options), lookup)
	refused(t, err, "does not verify")

	stranger.Handle = nil
	ask, _ = rp.BeginAny(t.Context())
	_, _, err = rp.FinishAny(t.Context(), ask.ID, stranger.Get(ask.Options), lookup)
	refused(t, err, "names no account")

	broken := errors.New("the store is away")
	ask, _ = rp.BeginAny(t.Context())
	_, _, err = rp.FinishAny(t.Context(), ask.ID, anns.Get(ask.Options), func([]byte) (User, bool, error) { return User{}, false, broken })
	if !errors.Is(err, broken) || errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

func TestRefusedLogins(t *testing.T) {
	for what, c := range map[string]struct {
		tamper func(a *passkeytest.Authenticator)
		words  string
	}{
		"without user verification": {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.UserPresent }, "does not verify"},
		"without the user":          {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.UserVerified }, "does not verify"},
		"from another site":         {func(a *passkeytest.Authenticator) { a.Origin = "https://bastion.example.evil.test" }, "does not verify"},
		"from plain HTTP":           {func(a *passkeytest.Authenticator) { a.Origin = "http://bastion.example" }, "does not verify"},
		"for another host":          {func(a *passkeytest.Authenticator) { a.Host = "evil.test" }, "does not verify"},
		"of another id":             {func(a *passkeytest.Authenticator) { a.ID = bytes.Repeat([]byte{1}, 32) }, "does not verify"},
		"of another account":        {func(a *passkeytest.Authenticator) { a.Handle = NewHandle() }, "does not verify"},
		"by a copy":                 {func(a *passkeytest.Authenticator) { a.Count -= 2 }, "there may be a copy"},
		"with another key": {func(a *passkeytest.Authenticator) {
			b := passkeytest.New(t, "bastion.example")
			register(t, newParty(t), b, &User{Handle: NewHandle(), Name: "mallory"})
			a.Key = b.Key
		}, "does not verify"},
	} {
		t.Run(what, func(t *testing.T) {
			rp, a := newParty(t), passkeytest.New(t, "bastion.example")
			ann := User{Handle: NewHandle(), Name: "ann"}
			register(t, rp, a, &ann)
			a.Count++
			c.tamper(a)
			ask, err := rp.BeginLogin(t.Context(), ann)
			if err != nil {
				t.Fatal(err)
			}
			_, err = rp.FinishLogin(t.Context(), ann, ask.ID, a.Get(ask.Options))
			refused(t, err, c.words)
		})
	}
}

func TestRefusedRegistrations(t *testing.T) {
	for what, tamper := range map[string]func(a *passkeytest.Authenticator){
		"without user verification": func(a *passkeytest.Authenticator) { a.Flags = passkeytest.UserPresent },
		"from another site":         func(a *passkeytest.Authenticator) { a.Origin = "https://evil.test" },
		"for another host":          func(a *passkeytest.Authenticator) { a.Host = "evil.test" },
	} {
		t.Run(what, func(t *testing.T) {
			rp, a := newParty(t), passkeytest.New(t, "bastion.example")
			ann := User{Handle: NewHandle(), Name: "ann"}
			ask, err := rp.BeginRegistration(t.Context(), ann)
			if err != nil {
				t.Fatal(err)
			}
			tamper(a)
			_, err = rp.FinishRegistration(t.Context(), ann, ask.ID, a.Create(ask.Options))
			refused(t, err, "does not verify")
		})
	}
}

func TestAResponseIsGoodOnce(t *testing.T) {
	rp, a := newParty(t), passkeytest.New(t, "bastion.example")
	a.Synced = true // so that no counter helps
	ann, bob := User{Handle: NewHandle(), Name: "ann"}, User{Handle: NewHandle(), Name: "bob"}
	register(t, rp, a, &ann)
	register(t, rp, passkeytest.New(t, "bastion.example"), &bob)
	ask, err := rp.BeginLogin(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	response := a.Get(ask.Options)
	if _, err := rp.FinishLogin(t.Context(), ann, ask.ID, response); err != nil {
		t.Fatal(err, reason(err))
	}
	_, err = rp.FinishLogin(t.Context(), ann, ask.ID, response)
	refused(t, err, "its response came twice")

	next, _ := rp.BeginLogin(t.Context(), ann)
	_, err = rp.FinishLogin(t.Context(), ann, next.ID, response)
	refused(t, err, "challenge")

	// What was begun as one thing cannot be finished as another, nor by another account.
	next, _ = rp.BeginLogin(t.Context(), ann)
	_, err = rp.FinishRegistration(t.Context(), ann, next.ID, a.Get(next.Options))
	refused(t, err, "no such ceremony")
	next, _ = rp.BeginLogin(t.Context(), ann)
	_, err = rp.FinishLogin(t.Context(), bob, next.ID, a.Get(next.Options))
	refused(t, err, "begun for another account")
}

func TestSyncedPasskeysDoNotCount(t *testing.T) {
	rp, a := newParty(t), passkeytest.New(t, "bastion.example")
	a.Synced = true
	ann := User{Handle: NewHandle(), Name: "ann"}
	register(t, rp, a, &ann)
	for range 2 {
		ask, _ := rp.BeginLogin(t.Context(), ann)
		cred, err := rp.FinishLogin(t.Context(), ann, ask.ID, a.Get(ask.Options))
		if err != nil {
			t.Fatal(err, reason(err))
		}
		ann.Credentials[0] = cred
	}
}

func TestACeremonyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rp, a := newParty(t), passkeytest.New(t, "bastion.example")
		ann := User{Handle: NewHandle(), Name: "ann"}
		register(t, rp, a, &ann)
		ask, _ := rp.BeginLogin(t.Context(), ann)
		response := a.Get(ask.Options)
		time.Sleep(ceremonyTime)
		_, err := rp.FinishLogin(t.Context(), ann, ask.ID, response)
		refused(t, err, "it has expired")
	})
}

func TestBounds(t *testing.T) {
	rp := newParty(t)
	ann := User{Handle: NewHandle(), Name: "ann"}
	if _, err := rp.BeginLogin(t.Context(), ann); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	a := passkeytest.New(t, "bastion.example")
	early, err := rp.BeginRegistration(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	for range maxCredentials {
		register(t, rp, passkeytest.New(t, "bastion.example"), &ann)
	}
	if _, err := rp.FinishRegistration(t.Context(), ann, early.ID, a.Create(early.Options)); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if _, err := rp.BeginRegistration(t.Context(), ann); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	ask, err := rp.BeginLogin(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rp.FinishLogin(t.Context(), ann, ask.ID, make([]byte, maxResponse+1))
	refused(t, err, "more than 65536")
	if _, err := rp.BeginLogin(t.Context(), User{Name: "ann", Credentials: ann.Credentials}); err == nil {
		t.Error("an account without a handle has passkeys")
	}
	swapped := slices.Clone(ann.Credentials)
	swapped[0].ID, swapped[1].ID = swapped[1].ID, swapped[0].ID
	if _, err := rp.BeginLogin(t.Context(), User{Handle: ann.Handle, Credentials: swapped}); err == nil {
		t.Error("passkeys under each other's ids are taken")
	}
	for _, c := range []Config{{}, {Host: "bastion.example"}, {Waiting: pending.NewMemory(pending.Config{})}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v will do", c)
		}
	}
	if e, ok := errors.AsType[*auth.Error](refuse("x")); !ok || e != ErrRefused {
		t.Errorf("people are told %v", e)
	}
}

// FuzzResponses throws responses at both ceremonies: none is accepted, none is a crash.
func FuzzResponses(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AA","signature":"AA"}}`))
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YUA"}}`))
	rp, err := New(Config{Host: "bastion.example", Waiting: pending.NewMemory(pending.Config{})})
	if err != nil {
		f.Fatal(err)
	}
	ann := User{Handle: NewHandle(), Name: "ann"}
	f.Fuzz(func(t *testing.T, response []byte) {
		ctx := context.Background()
		ask, err := rp.BeginRegistration(ctx, ann)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rp.FinishRegistration(ctx, ann, ask.ID, response); !errors.Is(err, ErrRefused) {
			t.Errorf("%q registers: %v", response, err)
		}
		if ask, err = rp.BeginAny(ctx); err != nil {
			t.Fatal(err)
		}
		lookup := func([]byte) (User, bool, error) { return ann, true, nil }
		if _, _, err := rp.FinishAny(ctx, ask.ID, response, lookup); !errors.Is(err, ErrRefused) {
			t.Errorf("%q signs in: %v", response, err)
		}
	})
}
