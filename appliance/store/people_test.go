package store

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func device(n int, user string) Device {
	return Device{ID: fmt.Sprintf("dev-%d", n), User: user, Name: "laptop", Platform: "linux/amd64", Key: []byte{byte(n), byte(n >> 8), 7}, Enrolled: start}
}

func TestDevices(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		ctx := t.Context()
		d := device(1, "ann")
		d.Scope, d.Expires = "some", start.Add(time.Hour)
		must(t, s.PutDevice(ctx, d))
		if got, err := again().Device(ctx, d.ID); err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("got %+v, %v", got, err)
		}
		renamed := d
		renamed.Name, renamed.SignIn, renamed.Enrolled = "desktop", "s1", start.Add(time.Hour)
		renamed.Scope, renamed.Expires = "less", start.Add(time.Minute)
		must(t, s.PutDevice(ctx, renamed))
		if got, err := s.Device(ctx, d.ID); err != nil || got.Scope != "less" || !got.Expires.Equal(renamed.Expires) || got.Name != "desktop" || got.SignIn != "s1" || !got.Enrolled.Equal(start) {
			t.Errorf("renewed it is %+v, %v", got, err)
		}
		for what, other := range map[string]Device{"another person": device(1, "bob"), "another key": {ID: d.ID, User: "ann", Key: []byte("k")}} {
			is(t, what, s.PutDevice(ctx, other), ErrConflict)
		}
		seen := Device{ID: d.ID, LastSeen: start.Add(time.Minute), LastSource: "192.0.2.7", Version: "1.2"}
		old := Device{ID: d.ID, LastSeen: start, LastSource: "old"}
		must(t, s.SeeDevices(ctx, []Device{seen, old, {ID: "none", LastSeen: start}}))
		if got, _ := s.Device(ctx, d.ID); !got.LastSeen.Equal(seen.LastSeen) || got.LastSource != "192.0.2.7" || got.Version != "1.2" {
			t.Errorf("seen as %+v", got)
		}
		for i, want := range []bool{true, false} {
			if changed, err := s.RevokeDevice(ctx, d.ID, start.Add(time.Duration(i)*time.Hour)); changed != want || err != nil {
				t.Errorf("revoked: %v, %v", changed, err)
			}
		}
		if got, _ := s.Device(ctx, d.ID); !got.Revoked.Equal(start) {
			t.Errorf("revoked at %v", got.Revoked)
		}
		is(t, "put a revoked device", s.PutDevice(ctx, d), ErrConflict)
		_, err := s.RevokeDevice(ctx, "none", start)
		is(t, "revoke nothing", err, ErrNotFound)
		_, err = s.Device(ctx, "none")
		is(t, "read nothing", err, ErrNotFound)
		must(t, s.PutDevice(ctx, device(2, "bob")))
		if all, err := s.Devices(ctx); err != nil || len(all) != 2 || all[0].ID != "dev-1" {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

func TestCodes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		code := Code{Hash: []byte("h1"), User: "ann", Expires: start.Add(time.Minute), Scope: "robots"}
		must(t, s.AddCode(ctx, code, start, 2))
		if got, err := s.Code(ctx, code.Hash); err != nil || !reflect.DeepEqual(got, code) {
			t.Errorf("got %+v, %v", got, err)
		}
		is(t, "the same again", s.AddCode(ctx, code, start, 2), ErrConflict)
		must(t, s.AddCode(ctx, Code{Hash: []byte("h2"), User: "ann", Expires: start.Add(time.Hour)}, start, 2))
		is(t, "one too many", s.AddCode(ctx, Code{Hash: []byte("h3"), User: "ann"}, start, 2), ErrFull)

		is(t, "no code", s.Enrol(ctx, []byte("none"), device(1, "ann"), start), ErrNotFound)
		is(t, "another's", s.Enrol(ctx, code.Hash, device(1, "bob"), start), ErrConflict)
		is(t, "expired", s.Enrol(ctx, code.Hash, device(1, "ann"), code.Expires), ErrConflict)
		if _, err := s.Device(ctx, "dev-1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("it is enrolled all the same: %v", err)
		}
		must(t, s.PutDevice(ctx, device(9, "bob")))
		mine := device(9, "ann")
		is(t, "somebody else's device", s.Enrol(ctx, code.Hash, mine, start), ErrConflict)
		if got, _ := s.Code(ctx, code.Hash); !got.Used.IsZero() {
			t.Error("the code is used, though there is no device")
		}
		must(t, s.Enrol(ctx, code.Hash, device(1, "ann"), start))
		if got, _ := s.Code(ctx, code.Hash); !got.Used.Equal(start) || got.By != "dev-1" {
			t.Errorf("used: %+v", got)
		}
		is(t, "used", s.Enrol(ctx, code.Hash, device(2, "ann"), start), ErrConflict)
		must(t, s.AddCode(ctx, Code{Hash: []byte("h3"), User: "ann", Expires: start.Add(2 * time.Hour)}, start.Add(30*time.Minute), 2)) // forgets h1
		_, err := s.Code(ctx, code.Hash)
		is(t, "forgotten", err, ErrNotFound)
	})
}

// TestACodeIsGoodOnce has a thousand redeem one code at once, half of them on another appliance.
func TestACodeIsGoodOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		stores := []*Store{s, again()}
		must(t, s.AddCode(t.Context(), Code{Hash: []byte("h"), User: "ann", Expires: start.Add(time.Hour)}, start, 10))
		var won, lost atomic.Int64
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 1000 {
			wg.Go(func() {
				<-begin
				switch err := stores[i%2].Enrol(t.Context(), []byte("h"), device(i, "ann"), start); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, ErrConflict):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		close(begin)
		wg.Wait()
		devices, err := s.Devices(t.Context())
		if won.Load() != 1 || lost.Load() != 999 || len(devices) != 1 || err != nil {
			t.Errorf("%d won, %d lost, %d devices, %v", won.Load(), lost.Load(), len(devices), err)
		}
	})
}

func TestImport(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		devices, codes := []Device{device(1, "ann"), device(2, "bob")}, []Code{{Hash: []byte("h"), User: "ann", Expires: start}}
		must(t, s.Import(t.Context(), devices[:1], codes))
		_, err := s.RevokeDevice(t.Context(), "dev-1", start)
		must(t, err)
		must(t, s.Import(t.Context(), devices, codes))
		got, err := s.Devices(t.Context())
		if err != nil || len(got) != 2 || got[0].Revoked.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestAccounts(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		ann := Account{Name: "ann", Source: Local, Subject: "ann", Created: start}
		bob := Account{Name: "bob", Source: "idp", Subject: "42", Created: start}
		must(t, s.AddAccount(ctx, ann))
		must(t, s.AddAccount(ctx, bob))
		is(t, "a taken name", s.AddAccount(ctx, Account{Name: "ann", Source: "idp", Subject: "43"}), ErrConflict)
		is(t, "a taken subject", s.AddAccount(ctx, Account{Name: "eve", Source: "idp", Subject: "42"}), ErrConflict)
		if got, err := s.AccountOf(ctx, "idp", "42"); err != nil || !reflect.DeepEqual(got, bob) {
			t.Errorf("%+v, %v", got, err)
		}
		must(t, s.DisableAccount(ctx, "ann", start))
		must(t, s.NoteLogin(ctx, "ann", start.Add(time.Hour)))
		ann.Disabled, ann.LastLogin, ann.ValidFrom = start, start.Add(time.Hour), start
		if got, err := s.Account(ctx, "ann"); err != nil || !reflect.DeepEqual(got, ann) {
			t.Errorf("%+v, %v", got, err)
		}
		must(t, s.DisableAccount(ctx, "ann", time.Time{}))
		if all, err := s.Accounts(ctx); err != nil || len(all) != 2 || !all[0].Disabled.IsZero() {
			t.Errorf("%+v, %v", all, err)
		}
		must(t, s.AddSignIn(ctx, SignIn{ID: "s1", Account: "ann", Created: start, Expires: start.Add(time.Hour)}))
		must(t, s.AddCredential(ctx, Credential{ID: "k1", Account: "ann", Kind: Password, Data: []byte("x"), Created: start}))
		must(t, s.RemoveAccount(ctx, "ann", start))
		if left, err := s.Credentials(ctx, "ann"); len(left) != 0 || err != nil {
			t.Errorf("%+v, %v", left, err)
		}
		if in, err := s.SignIn(ctx, "s1"); err != nil || !in.Ended.Equal(start) {
			t.Errorf("%+v, %v", in, err)
		}
		for what, err := range map[string]error{"remove": s.RemoveAccount(ctx, "ann", start), "bar": s.DisableAccount(ctx, "ann", start),
			"login": s.NoteLogin(ctx, "ann", start), "credential": s.AddCredential(ctx, Credential{ID: "k2", Account: "ann"})} {
			is(t, what, err, ErrNotFound)
		}
	})
}

func TestCredentials(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		must(t, s.AddAccount(ctx, Account{Name: "ann", Source: Local, Subject: "ann", Created: start}))
		totp := Credential{ID: "t", Account: "ann", Kind: TOTP, Data: []byte("sealed"), Created: start}
		must(t, s.AddCredential(ctx, totp))
		is(t, "the same again", s.AddCredential(ctx, totp), ErrConflict)
		must(t, s.ReplaceCredentials(ctx, "ann", Recovery, []Credential{{ID: "r1", Data: []byte("1"), Created: start}, {ID: "r2", Created: start}}))
		must(t, s.UseCounter(ctx, "t", 100, start))
		for _, step := range []int64{100, 99} {
			is(t, "a step that was taken", s.UseCounter(ctx, "t", step, start), ErrConflict)
		}
		must(t, s.UseOnce(ctx, "r1", start))
		is(t, "a code that was used", s.UseOnce(ctx, "r1", start), ErrConflict)
		must(t, s.UseCredential(ctx, "t", []byte("sealed"), []byte("resealed"), start.Add(time.Hour)))
		is(t, "not any more", s.UseCredential(ctx, "t", []byte("sealed"), nil, start), ErrConflict)
		is(t, "none", s.UseCredential(ctx, "none", nil, nil, start), ErrConflict)
		must(t, s.UseCredential(ctx, "r2", nil, nil, time.Time{}))
		want := []Credential{
			{ID: "r1", Account: "ann", Kind: Recovery, Data: []byte("1"), Created: start, Used: start},
			{ID: "r2", Account: "ann", Kind: Recovery, Created: start},
			{ID: "t", Account: "ann", Kind: TOTP, Data: []byte("resealed"), Counter: 100, Created: start, Used: start.Add(time.Hour)},
		}
		if got, err := s.Credentials(ctx, "ann"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		must(t, s.ReplaceCredentials(ctx, "ann", Recovery, []Credential{{ID: "r3", Created: start}}))
		must(t, s.RemoveCredential(ctx, "ann", "t"))
		is(t, "another's", s.RemoveCredential(ctx, "bob", "r3"), ErrNotFound)
		if got, err := s.Credentials(ctx, "ann"); err != nil || len(got) != 1 || got[0].ID != "r3" {
			t.Errorf("%+v, %v", got, err)
		}

		// Of two who remove the last two at once, one does.
		for _, k := range []Credential{{ID: "t", Kind: TOTP}, {ID: "p", Kind: Passkey}} {
			k.Account, k.Created = "ann", start
			must(t, s.AddCredential(ctx, k))
		}
		done := make(chan error, 2)
		for _, id := range []string{"t", "p"} {
			go func() { done <- s.RemoveCredential(ctx, "ann", id, TOTP, Passkey) }()
		}
		one, other := <-done, <-done
		if one != nil {
			one, other = other, one
		}
		must(t, one)
		is(t, "the last", other, ErrConflict)
		if got, err := s.Credentials(ctx, "ann"); err != nil || len(got) != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		must(t, s.ValidFrom(ctx, "ann", start.Add(time.Hour)))
		must(t, s.ValidFrom(ctx, "ann", start))
		if got, err := s.Account(ctx, "ann"); err != nil || !got.ValidFrom.Equal(start.Add(time.Hour)) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestSignIns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		in := SignIn{ID: "s1", Account: "ann", Device: "dev-1", Provider: "idp", Groups: []string{"ops", `"quoted", ü`}, MFA: start, Created: start,
			Expires: start.Add(8 * time.Hour), Refreshed: start, Refresh: []byte("sealed")}
		must(t, s.AddSignIn(ctx, in))
		if got, err := s.SignIn(ctx, "s1"); err != nil || !reflect.DeepEqual(got, in) {
			t.Errorf("%+v, %v", got, err)
		}
		next := in
		next.Groups, next.Refreshed, next.Refresh = []string{"ops"}, start.Add(time.Hour), []byte("another")
		must(t, s.RefreshSignIn(ctx, next, start))
		is(t, "refreshed by another", s.RefreshSignIn(ctx, next, start), ErrConflict)
		must(t, s.AddSignIn(ctx, SignIn{ID: "s2", Account: "ann", Device: "dev-2", Created: start, Expires: start.Add(time.Minute)}))
		must(t, s.AddSignIn(ctx, SignIn{ID: "s3", Account: "bob", Device: "dev-2", Created: start, Expires: start.Add(9 * time.Hour)}))
		for _, q := range []struct {
			account string
			at      time.Time
			want    []string
		}{{"", start, []string{"s1", "s2", "s3"}}, {"ann", start, []string{"s1", "s2"}}, {"", start.Add(time.Hour), []string{"s1", "s3"}}} {
			all, err := s.SignIns(ctx, q.account, q.at)
			var got []string
			for _, in := range all {
				got = append(got, in.ID)
			}
			if err != nil || !reflect.DeepEqual(got, q.want) {
				t.Errorf("%q at %v: %q, %v", q.account, q.at, got, err)
			}
		}
		must(t, s.EndSignIn(ctx, "s1", start.Add(time.Hour)))
		must(t, s.EndSignIn(ctx, "s1", start.Add(2*time.Hour)))
		if got, err := s.SignIn(ctx, "s1"); err != nil || !got.Ended.Equal(start.Add(time.Hour)) || got.Refresh != nil {
			t.Errorf("ended it is %+v, %v", got, err)
		}
		is(t, "an ended one", s.RefreshSignIn(ctx, next, next.Refreshed), ErrConflict)
		must(t, s.EndSignInsOn(ctx, "dev-2", start))
		must(t, s.EndSignInsOf(ctx, "bob", start))
		if all, err := s.SignIns(ctx, "", start); len(all) != 0 || err != nil {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

func TestAOneTimeValueIsTakenOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		stores := []*Store{s, again()}
		o := OneTime{Kind: "state", Hash: []byte("h"), Data: []byte("d"), Expires: start.Add(time.Minute)}
		must(t, s.Keep(t.Context(), o))
		is(t, "the same again", s.Keep(t.Context(), o), ErrConflict)
		_, err := s.Take(t.Context(), "other", o.Hash, start)
		is(t, "of another kind", err, ErrNotFound)
		var taken atomic.Int64
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				got, err := stores[i%2].Take(t.Context(), "state", o.Hash, start)
				switch {
				case err == nil && bytes.Equal(got.Data, o.Data) && got.Expires.Equal(o.Expires):
					taken.Add(1)
				case !errors.Is(err, ErrNotFound):
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 1 {
			t.Errorf("taken %d times", taken.Load())
		}
		must(t, s.Keep(t.Context(), o))
		for range 2 {
			if got, err := s.Look(t.Context(), "state", o.Hash, start); err != nil || !reflect.DeepEqual(got, o) {
				t.Errorf("looked at it is %+v, %v", got, err)
			}
		}
		_, err = s.Look(t.Context(), "state", o.Hash, o.Expires)
		is(t, "look at an expired one", err, ErrNotFound)
		is(t, "exchange an expired one", s.Exchange(t.Context(), o, []byte("d"), o.Expires), ErrConflict)
		changed := OneTime{Kind: "state", Hash: o.Hash, Data: []byte("e")}
		must(t, s.Exchange(t.Context(), changed, []byte("d"), start))
		is(t, "exchanged by another", s.Exchange(t.Context(), changed, []byte("d"), start), ErrConflict)
		if got, err := s.Look(t.Context(), "state", o.Hash, start); err != nil || string(got.Data) != "e" || !got.Expires.Equal(o.Expires) {
			t.Errorf("exchanged it is %+v, %v", got, err)
		}
		_, err = s.Take(t.Context(), "state", o.Hash, o.Expires)
		is(t, "expired", err, ErrNotFound)
	})
}
