package people

import (
	"errors"
	"testing"
	"time"

	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/totp"
	"sallyport/appliance/store"
)

// changes has ann, whose account TestAccounts has set up, change all that she signs in with.
func changes(t *testing.T, here, there *Accounts, password string) {
	t.Helper()
	ctx := t.Context()
	factors := func() map[string][]Factor {
		t.Helper()
		all, err := there.Factors(ctx, "ann")
		if err != nil {
			t.Fatal(err)
		}
		by := map[string][]Factor{}
		for _, f := range all {
			by[f.Kind] = append(by[f.Kind], f)
		}
		return by
	}
	was := factors()
	if len(was) != 4 || was[store.Recovery][0].Left != 9 || was[store.Recovery][0].Used.IsZero() || was[store.TOTP][0].Used.IsZero() || was[store.Password][0].Added.IsZero() {
		t.Fatalf("%+v", was)
	}
	secret, err := totp.New("Sallyport", "ann")
	if err != nil {
		t.Fatal(err)
	}
	_, codes := totp.NewRecoveryCodes()
	for _, s := range []Setup{{Password: "$argon2id$chosen"}, {TOTP: secret.Text, Counter: 20}, {Recovery: codes}, {Passkey: &passkey.Credential{ID: []byte("phone"), Record: []byte("{}"), Name: "Phone"}}} {
		if err := here.Change(ctx, "ann", s); err != nil {
			t.Fatal(err)
		}
	}
	if err := here.SetPassword(ctx, "ann", password, "$argon2id$stronger"); err != nil { // of a sign-in that has begun before
		t.Error(err)
	}
	if err := there.SetPasskey(ctx, "ann", passkey.Credential{ID: []byte("phone"), Record: []byte(`{"n":1}`)}); err != nil {
		t.Error(err)
	}
	ann, _, err := there.Account(ctx, "ann")
	if err != nil || ann.Password != "$argon2id$chosen" || ann.TOTP != secret.Text || len(ann.Recovery) != 10 || len(ann.Passkeys) != 2 {
		t.Errorf("%+v, %v", ann, err)
	}
	is := factors()
	phone := is[store.Passkey][1]
	if is[store.Recovery][0].Left != 10 || !is[store.Recovery][0].Used.IsZero() || phone.Name != "Phone" || phone.Used.IsZero() {
		t.Errorf("%+v", is)
	}

	// What is left has to be enough to sign in.
	second := []string{store.TOTP, store.Passkey}
	for _, f := range []Factor{is[store.TOTP][0], is[store.Passkey][0]} {
		if err := here.Remove(ctx, "ann", f, second...); err != nil {
			t.Error(err)
		}
		if err := here.Remove(ctx, "ann", f, second...); !errors.Is(err, ErrNoFactor) {
			t.Errorf("again: %v", err)
		}
	}
	if err := here.Remove(ctx, "ann", phone, second...); !errors.Is(err, ErrLastFactor) {
		t.Errorf("the last: %v", err)
	}
	for _, f := range []Factor{is[store.Password][0], is[store.Recovery][0], {ID: "nothing", Kind: store.Passkey}} {
		if err := here.Remove(ctx, "ann", f); !errors.Is(err, ErrNoFactor) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if err := here.Remove(ctx, "bob", phone); !errors.Is(err, ErrNoFactor) {
		t.Errorf("by another: %v", err)
	}
	if err := here.Remove(ctx, "ann", phone); err != nil {
		t.Errorf("where a password is enough: %v", err)
	}
	if err := here.Change(ctx, "nobody", Setup{Passkey: &passkey.Credential{ID: []byte("x")}}); !errors.Is(err, ErrNoAccount) {
		t.Errorf("of nobody: %v", err)
	}

	// Who has the name of somebody that is gone has nothing of theirs.
	at := time.Now().Add(time.Minute).Truncate(time.Microsecond)
	if err := here.EndBegun(ctx, "ann", at); err != nil {
		t.Error(err)
	}
	if ann, _, _ := there.Account(ctx, "ann"); !ann.ValidFrom.Equal(at) {
		t.Errorf("valid from %v", ann.ValidFrom)
	}
	newAccount(t, there.Store, "eve")
	if eve, _, _ := there.Account(ctx, "eve"); time.Since(eve.ValidFrom) > time.Minute {
		t.Errorf("valid from %v", eve.ValidFrom)
	}
}
