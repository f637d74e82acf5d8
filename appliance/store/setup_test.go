package store

import (
	"reflect"
	"testing"
	"time"
)

// person puts an account with a device and a sign-in into a store.
func person(t *testing.T, s *Store, name string) {
	t.Helper()
	ctx := t.Context()
	must(t, s.AddAccount(ctx, Account{Name: name, Source: Local, Subject: name, Created: start, Groups: []string{"ops"}}))
	must(t, s.PutDevice(ctx, Device{ID: "dev-" + name, User: name, Key: []byte(name), Enrolled: start}))
	must(t, s.AddSignIn(ctx, SignIn{ID: "in-" + name, Account: name, Device: "dev-" + name, Created: start, Expires: start.Add(time.Hour)}))
}

// ended says whether nothing of a person's is good any more.
func ended(t *testing.T, s *Store, name string) bool {
	t.Helper()
	d, err := s.Device(t.Context(), "dev-"+name)
	must(t, err)
	in, err := s.SignIn(t.Context(), "in-"+name)
	must(t, err)
	if d.Revoked.IsZero() != in.Ended.IsZero() {
		t.Errorf("%s: device revoked at %v, sign-in ended at %v", name, d.Revoked, in.Ended)
	}
	return !d.Revoked.IsZero()
}

// TestAnAccountEndsWithAllOfIt: who is barred or removed has no sign-in, no device and no set-up link; others keep theirs.
func TestAnAccountEndsWithAllOfIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		for _, name := range []string{"ann", "bob", "eve"} {
			person(t, s, name)
		}
		must(t, s.ResetAccount(ctx, "ann", nil, []byte("h"), start.Add(time.Hour), start))
		must(t, s.DisableAccount(ctx, "ann", start))
		must(t, s.RemoveAccount(ctx, "bob", start))
		for name, want := range map[string]bool{"ann": true, "bob": true, "eve": false} {
			if got := ended(t, s, name); got != want {
				t.Errorf("%s has ended: %v", name, got)
			}
		}
		_, err := s.Take(ctx, SetUp, []byte("h"), start)
		is(t, "the link of who is barred", err, ErrNotFound)
	})
}

func TestSetUpLinks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		ann := Account{Name: "ann", Source: Local, Subject: "ann", Created: start, Groups: []string{"ops", "leads"}}
		must(t, s.OpenAccount(ctx, ann, []byte("first"), start.Add(time.Hour)))
		is(t, "a taken name", s.OpenAccount(ctx, ann, []byte("x"), start.Add(time.Hour)), ErrConflict)
		if got, err := s.Account(ctx, "ann"); err != nil || !reflect.DeepEqual(got, ann) {
			t.Errorf("%+v, %v", got, err)
		}
		for _, kind := range []string{Password, TOTP, Recovery} {
			must(t, s.AddCredential(ctx, Credential{ID: kind, Account: "ann", Kind: kind, Created: start}))
		}
		if got, err := s.CredentialKinds(ctx); err != nil || !reflect.DeepEqual(got, map[string][]string{"ann": {Password, Recovery, TOTP}}) {
			t.Errorf("%v, %v", got, err)
		}
		must(t, s.ResetAccount(ctx, "ann", []string{TOTP, Recovery}, []byte("second"), start.Add(time.Hour), start))
		if left, err := s.Credentials(ctx, "ann"); err != nil || len(left) != 1 || left[0].Kind != Password {
			t.Errorf("%+v, %v", left, err)
		}
		_, err := s.Take(ctx, SetUp, []byte("first"), start)
		is(t, "the first link, after the second", err, ErrNotFound)
		if o, err := s.Take(ctx, SetUp, []byte("second"), start); err != nil || string(o.Data) != "ann" {
			t.Errorf("%+v, %v", o, err)
		}
		_, err = s.Take(ctx, SetUp, []byte("second"), start)
		is(t, "a link that was used", err, ErrNotFound)
		must(t, s.AddAccount(ctx, Account{Name: "bob", Source: "idp", Subject: "42"}))
		is(t, "reset who signs in elsewhere", s.ResetAccount(ctx, "bob", nil, []byte("h"), start, start), ErrConflict)
		is(t, "reset nobody", s.ResetAccount(ctx, "eve", nil, []byte("h"), start, start), ErrNotFound)
	})
}

// TestAccountsOfAVersion: a version and what it does to accounts are one.
func TestAccountsOfAVersion(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		for _, name := range []string{"ann", "bob", "eve", "dan"} {
			person(t, s, name)
		}
		must(t, s.DisableAccount(ctx, "dan", start))
		changes := []AccountChange{
			{Name: "ann", Groups: []string{"leads"}},
			{Name: "bob", Disabled: true},
			{Name: "carl", Groups: []string{"ops"}},
			{Name: "dan", Groups: []string{"leads"}, Keep: true},
			{Name: "eve", Remove: true},
			{Name: "nobody", Remove: true},
		}
		_, err := s.AddAccess(ctx, 7, Access{Created: start}, changes...)
		is(t, "after another version", err, ErrConflict)
		if all, err := s.Accounts(ctx); err != nil || len(all) != 4 {
			t.Errorf("a version that was not taken has changed accounts: %+v, %v", all, err)
		}
		_, err = s.AddAccess(ctx, 0, Access{Created: start}, changes...)
		must(t, err)
		all, err := s.Accounts(ctx)
		must(t, err)
		got := map[string]string{}
		for _, a := range all {
			got[a.Name] = names(a.Groups)
			if a.Source != Local || a.Disabled.IsZero() != (a.Name != "bob" && a.Name != "dan") {
				t.Errorf("%+v", a)
			}
		}
		if want := map[string]string{"ann": `["leads"]`, "bob": `[]`, "carl": `["ops"]`, "dan": `["ops"]`}; !reflect.DeepEqual(got, want) {
			t.Errorf("%v", got)
		}
		for name, want := range map[string]bool{"ann": false, "bob": true, "eve": true} {
			if got := ended(t, s, name); got != want {
				t.Errorf("%s has ended: %v", name, got)
			}
		}
	})
}
