package store

import (
	"context"
	"time"
)

// A SignIn is a person's stay, from sign-in to sign-out. Access tokens come out of it.
type SignIn struct {
	ID        string
	Account   string
	Device    string
	Provider  string    // who vouched: Local or an identity provider's name
	Groups    []string  // that the provider said
	MFA       time.Time // of the latest second factor; zero: none
	Created   time.Time
	Expires   time.Time
	Refreshed time.Time // the latest time that the provider was asked again
	Refresh   []byte    // the provider's refresh token, sealed by the caller
	Ended     time.Time // zero while it lasts
}

const signInColumns = "id, account, device, provider, member_of, mfa_at, created, expires, refreshed, sealed, ended"

func scanSignIn(row scanner) (n SignIn, err error) {
	err = row.Scan(&n.ID, &n.Account, &n.Device, &n.Provider, nameList{&n.Groups}, stamp{&n.MFA}, stamp{&n.Created}, stamp{&n.Expires},
		stamp{&n.Refreshed}, &n.Refresh, stamp{&n.Ended})
	return n, err
}

// AddSignIn adds a sign-in.
func (s *Store) AddSignIn(ctx context.Context, n SignIn) error {
	return s.change(ctx, "keep the sign-in", func(c *change) error {
		c.note(OfSignIn, n.ID)
		_, err := c.exec("INSERT INTO signins ("+signInColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
			n.ID, n.Account, n.Device, n.Provider, names(n.Groups), micros(n.MFA), micros(n.Created), micros(n.Expires),
			micros(n.Refreshed), data(n.Refresh), micros(n.Ended))
		return err
	})
}

// SignIn returns a sign-in, one that has ended too, or ErrNotFound.
func (s *Store) SignIn(ctx context.Context, id string) (SignIn, error) {
	return one(ctx, s, "read the sign-in", scanSignIn, "SELECT "+signInColumns+" FROM signins WHERE id = $1", id)
}

// SignIns returns the sign-ins that last at a time, of one account or, where that is empty, of all.
func (s *Store) SignIns(ctx context.Context, account string, now time.Time) ([]SignIn, error) {
	return list(ctx, s, "read the sign-ins", scanSignIn, "SELECT "+signInColumns+
		" FROM signins WHERE ended = 0 AND expires > $1 AND ($2 = '' OR account = $2) ORDER BY created, id", micros(now), account)
}

// RefreshSignIn puts what a provider says anew into a sign-in: groups, second factor, end and refresh token. was is
// Refreshed as the caller knows it. ErrConflict means that another has refreshed it since, or that it has ended.
func (s *Store) RefreshSignIn(ctx context.Context, n SignIn, was time.Time) error {
	return s.change(ctx, "refresh the sign-in", func(c *change) error {
		c.note(OfSignIn, n.ID)
		return c.must(ErrConflict, "UPDATE signins SET member_of = $1, mfa_at = $2, expires = $3, refreshed = $4, sealed = $5"+
			" WHERE id = $6 AND refreshed = $7 AND ended = 0",
			names(n.Groups), micros(n.MFA), micros(n.Expires), micros(n.Refreshed), data(n.Refresh), n.ID, micros(was))
	})
}

// EndSignIn ends a sign-in; one that has ended keeps its time. What refreshes it is forgotten.
func (s *Store) EndSignIn(ctx context.Context, id string, at time.Time) error {
	return s.change(ctx, "end the sign-in", func(c *change) error { return c.endSignIns("id", id, at) })
}

// EndSignInsOf ends all sign-ins of an account.
func (s *Store) EndSignInsOf(ctx context.Context, account string, at time.Time) error {
	return s.change(ctx, "end the sign-ins of "+account, func(c *change) error { return c.endSignIns("account", account, at) })
}

// EndSignInsOn ends all sign-ins on a device.
func (s *Store) EndSignInsOn(ctx context.Context, device string, at time.Time) error {
	return s.change(ctx, "end the sign-ins on "+device, func(c *change) error { return c.endSignIns("device", device, at) })
}

// ValidFrom has those come to nothing who have signed in to an account in a browser before a time, and are on no device yet.
func (s *Store) ValidFrom(ctx context.Context, account string, at time.Time) error {
	return s.change(ctx, "end what has begun of "+account, func(c *change) error { return c.validFrom(account, at) })
}

func (c *change) validFrom(account string, at time.Time) error {
	_, err := c.exec("UPDATE accounts SET valid_from = $1 WHERE name = $2 AND valid_from < $1", micros(at), account)
	return err
}

func (c *change) endSignIns(column, value string, at time.Time) error {
	if column == "account" { // those that have begun in a browser come to nothing too
		if err := c.validFrom(value, at); err != nil {
			return err
		}
	}
	return c.noteEach(OfSignIn, "UPDATE signins SET ended = $1, sealed = NULL WHERE "+column+" = $2 AND ended = 0 RETURNING id", micros(at), value)
}
