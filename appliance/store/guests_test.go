package store

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func guestLink(id string, uses int64) GuestLink {
	return GuestLink{ID: id, Hash: []byte("hash of " + id), Maker: "ann", Target: "db-1", VNet: "hub", Host: "10.0.5.4", Protocol: "ssh", Programs: []string{"terminal"},
		Approval: "leads", SignIn: true, Source: "192.0.2.7", Transport: "quic", MFA: start.Add(-time.Minute), Created: start, Expires: start.Add(time.Hour), Uses: uses}
}

func TestGuestLinks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		ctx := t.Context()
		link := guestLink("one", 2)
		must(t, s.AddGuestLink(ctx, link, 2))
		if got, err := again().GuestLink(ctx, link.Hash); err != nil || !reflect.DeepEqual(got, link) {
			t.Errorf("got %+v, %v", got, err)
		}
		other := guestLink("two", 1)
		must(t, s.AddGuestLink(ctx, other, 2))
		is(t, "one too many", s.AddGuestLink(ctx, guestLink("three", 1), 2), ErrFull)
		same := guestLink("one", 1)
		is(t, "the same id", s.AddGuestLink(ctx, same, 9), ErrConflict)
		same.ID = "other"
		is(t, "the same secret", s.AddGuestLink(ctx, same, 9), ErrConflict)

		d, err := s.OpenGuestLink(ctx, link.Hash, device(1, ""), "192.0.2.9", start)
		must(t, err)
		if got, err := s.Device(ctx, d.ID); err != nil || got.User != "guest:one-1" || !reflect.DeepEqual(got, d) {
			t.Errorf("got %+v, want %+v; %v", got, d, err)
		}
		_, err = s.OpenGuestLink(ctx, link.Hash, device(1, ""), "192.0.2.9", start)
		is(t, "a device that is known", err, ErrConflict)
		if d, err = s.OpenGuestLink(ctx, link.Hash, device(2, "carl"), "", start); err != nil || d.User != "carl" {
			t.Errorf("%+v, %v", d, err)
		}
		_, err = s.OpenGuestLink(ctx, link.Hash, device(3, ""), "", start)
		is(t, "used up", err, ErrNotFound)
		_, err = s.OpenGuestLink(ctx, other.Hash, device(3, ""), "", other.Expires)
		is(t, "expired", err, ErrNotFound)
		_, err = s.OpenGuestLink(ctx, []byte("none"), device(3, ""), "", start)
		is(t, "unknown", err, ErrNotFound)
		for i, want := range []bool{true, false} {
			if changed, err := s.RevokeGuestLink(ctx, "two", start.Add(time.Duration(i)*time.Minute)); changed != want || err != nil {
				t.Errorf("%v, %v", changed, err)
			}
		}
		_, err = s.OpenGuestLink(ctx, other.Hash, device(3, ""), "", start)
		is(t, "revoked", err, ErrNotFound)
		if _, err := s.Device(ctx, "dev-3"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a device came in by a link that was no good: %v", err)
		}
		uses, err := s.GuestUses(ctx, start)
		must(t, err)
		if want := []GuestUse{{"one", 1, "guest:one-1", "dev-1", "192.0.2.9", start}, {"one", 2, "carl", "dev-2", "", start}}; !slices.Equal(uses, want) {
			t.Errorf("got %+v", uses)
		}
		all, err := s.GuestLinks(ctx, start)
		if err != nil || len(all) != 2 || all[0].Used != 2 && all[1].Used != 2 {
			t.Errorf("%+v, %v", all, err)
		}
		if none, err := s.GuestLinks(ctx, link.Expires); err != nil || len(none) != 0 {
			t.Errorf("%+v, %v", none, err)
		}
	})
}

// TestLastUseOfALink has a hundred take the last use of a link, at two appliances.
func TestLastUseOfALink(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		ctx := t.Context()
		stores := []*Store{s, again()}
		link := guestLink("one", 1)
		must(t, s.AddGuestLink(ctx, link, 1))
		var wg sync.WaitGroup
		var won, lost atomic.Int32
		for i := range 100 {
			wg.Go(func() {
				_, err := stores[i%2].OpenGuestLink(ctx, link.Hash, device(i, ""), "", start)
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, ErrNotFound):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 99 {
			t.Errorf("%d opened it, %d were refused", won.Load(), lost.Load())
		}
		if devices, err := s.Devices(ctx); err != nil || len(devices) != 1 {
			t.Errorf("%+v, %v", devices, err)
		}
	})
}

// TestAnAccountTakesItsLinksAlong: when an account is disabled, what it has given away is worth nothing.
func TestAnAccountTakesItsLinksAlong(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		for _, name := range []string{"ann", "bob"} {
			must(t, s.AddAccount(ctx, Account{Name: name, Source: Local, Subject: name, Created: start}))
			link := guestLink("of-"+name, 1)
			link.Maker = name
			must(t, s.AddGuestLink(ctx, link, 1))
		}
		must(t, s.DisableAccount(ctx, "ann", start))
		_, err := s.OpenGuestLink(ctx, []byte("hash of of-ann"), device(1, ""), "", start)
		is(t, "of a disabled account", err, ErrNotFound)
		_, err = s.OpenGuestLink(ctx, []byte("hash of of-bob"), device(1, ""), "", start)
		is(t, "of another account", err, nil)
		must(t, s.RemoveAccount(ctx, "bob", start))
		links, err := s.GuestLinks(ctx, start)
		must(t, err)
		for _, l := range links {
			if l.Revoked.IsZero() {
				t.Errorf("%+v is still good", l)
			}
		}
	})
}
