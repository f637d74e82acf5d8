package store

import (
	"context"
	"fmt"
	"time"
)

// A GuestLink lets people without rights of their own in, by a secret of which this is the hash.
type GuestLink struct {
	ID        string
	Hash      []byte
	Maker     string
	Target    string
	VNet      string // where the target lay when the link was made, and Host likewise
	Host      string
	Protocol  string
	Programs  []string // none: all
	Approval  string   // a group whose members must agree; may be empty
	SignIn    bool     // who opens it must sign in
	Source    string   // where the maker was
	Transport string   // and how
	MFA       time.Time
	Created   time.Time
	Expires   time.Time
	Uses      int64 // how often it may be opened
	Used      int64
	Revoked   time.Time // zero while it is good
}

// A GuestUse is one opening of a link.
type GuestUse struct {
	Link   string
	Number int64 // from 1 on
	User   string
	Device string
	Source string
	At     time.Time
}

const guestColumns = "id, hash, maker, target, vnet, host, protocol, programs, approval, sign_in, made_source, made_transport, made_mfa, created, expires, uses, used, revoked"

func scanGuestLink(row scanner) (l GuestLink, err error) {
	var signIn int64
	err = row.Scan(&l.ID, &l.Hash, &l.Maker, &l.Target, &l.VNet, &l.Host, &l.Protocol, nameList{&l.Programs}, &l.Approval, &signIn,
		&l.Source, &l.Transport, stamp{&l.MFA}, stamp{&l.Created}, stamp{&l.Expires}, &l.Uses, &l.Used, stamp{&l.Revoked})
	l.SignIn = signIn == 1
	if len(l.Programs) == 0 {
		l.Programs = nil
	}
	return l, err
}

// AddGuestLink adds a link. ErrFull means that its maker has most already that are good, ErrConflict that id or hash are
// taken.
func (s *Store) AddGuestLink(ctx context.Context, l GuestLink, most int) error {
	return s.change(ctx, "keep the guest link", func(c *change) error {
		var there int
		if err := c.row("SELECT COUNT(*) FROM guest_links WHERE maker = $1 AND revoked = 0 AND expires > $2", l.Maker, micros(l.Created)).Scan(&there); err != nil {
			return err
		}
		if there >= most {
			return fmt.Errorf("%w: %d", ErrFull, there)
		}
		signIn := 0
		if l.SignIn {
			signIn = 1
		}
		c.note(OfGuest, l.ID)
		_, err := c.exec("INSERT INTO guest_links ("+guestColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
			l.ID, data(l.Hash), l.Maker, l.Target, l.VNet, l.Host, l.Protocol, names(l.Programs), l.Approval, signIn, l.Source, l.Transport, micros(l.MFA),
			micros(l.Created), micros(l.Expires), l.Uses, l.Used, micros(l.Revoked))
		return err
	})
}

// GuestLinks returns the links that had not expired at a time, the revoked ones too, the latest first.
func (s *Store) GuestLinks(ctx context.Context, since time.Time) ([]GuestLink, error) {
	return list(ctx, s, "read the guest links", scanGuestLink, "SELECT "+guestColumns+" FROM guest_links WHERE expires > $1 ORDER BY created DESC, id", micros(since))
}

// GuestLink returns the link whose secret has a hash, or ErrNotFound.
func (s *Store) GuestLink(ctx context.Context, hash []byte) (GuestLink, error) {
	return one(ctx, s, "look for the guest link", scanGuestLink, "SELECT "+guestColumns+" FROM guest_links WHERE hash = $1", hash)
}

// GuestUses returns who has opened the links that had not expired at a time.
func (s *Store) GuestUses(ctx context.Context, since time.Time) ([]GuestUse, error) {
	scan := func(row scanner) (u GuestUse, err error) {
		err = row.Scan(&u.Link, &u.Number, &u.User, &u.Device, &u.Source, stamp{&u.At})
		return u, err
	}
	return list(ctx, s, "read who has used guest links", scan,
		"SELECT link, number, person, device, source, at FROM guest_uses WHERE link IN (SELECT id FROM guest_links WHERE expires > $1) ORDER BY link, number", micros(since))
}

// OpenGuestLink takes one use of the link whose secret has a hash, for a new device: both happen, or neither. A device
// without a user becomes one of "guest:ID-N". ErrNotFound means that there is no such link, or that it is used up, has
// expired or is revoked, ErrConflict that the device is known. One statement decides: of all appliances together no two
// take the last use.
func (s *Store) OpenGuestLink(ctx context.Context, hash []byte, d Device, source string, now time.Time) (put Device, err error) {
	err = s.change(ctx, "open the guest link", func(c *change) error {
		var id string
		var number int64
		open := "UPDATE guest_links SET used = used + 1 WHERE hash = $1 AND used < uses AND expires > $2 AND revoked = 0 RETURNING id, used"
		if err := c.row(open, hash, micros(now)).Scan(&id, &number); err != nil {
			return err
		}
		if d.User == "" {
			d.User = fmt.Sprintf("guest:%s-%d", id, number)
		}
		if _, err := c.exec("INSERT INTO guest_uses (link, number, person, device, source, at) VALUES ($1, $2, $3, $4, $5, $6)",
			id, number, d.User, d.ID, source, micros(now)); err != nil {
			return err
		}
		c.note(OfGuest, id)
		c.note(OfDevice, d.ID)
		return c.must(ErrConflict, "INSERT INTO devices ("+deviceColumns+") VALUES "+deviceValues+" ON CONFLICT (id) DO NOTHING", d.values()...)
	})
	return d, err
}

// RevokeGuestLink makes a link worth nothing. It says whether this call did.
func (s *Store) RevokeGuestLink(ctx context.Context, id string, at time.Time) (changed bool, err error) {
	err = s.change(ctx, "revoke the guest link", func(c *change) error {
		n, err := c.exec("UPDATE guest_links SET revoked = $1 WHERE id = $2 AND revoked = 0", micros(at), id)
		if changed = n > 0; changed {
			c.note(OfGuest, id)
		}
		return err
	})
	return changed && err == nil, err
}
