package store

import (
	"context"
	"fmt"
	"time"
)

// SetUp is the kind of the one-time value behind a set-up link: who comes with it chooses the credentials of the account
// that the value names.
const SetUp = "account-setup"

// An AccountChange is what a version of the access files does to an account.
type AccountChange struct {
	Name     string
	Groups   []string
	Disabled bool
	Remove   bool
	Keep     bool // make the account where it is missing, and else leave it as it is
}

// changeAccount does what a version says of an account.
func (c *change) changeAccount(a AccountChange, at time.Time) error {
	c.note(OfAccount, a.Name)
	if a.Remove {
		n, err := c.exec("DELETE FROM accounts WHERE name = $1 AND source = $2", a.Name, Local)
		if err != nil || n == 0 {
			return err
		}
		return c.endAccount(a.Name, at)
	}
	var disabled time.Time
	if a.Disabled {
		disabled = at
	}
	n, err := c.exec("INSERT INTO accounts ("+accountColumns+") VALUES ($1, $2, $6, $3, $4, 0, $5, $3) ON CONFLICT (name) DO NOTHING",
		a.Name, Local, micros(at), micros(disabled), names(a.Groups), NewSubject())
	if err != nil || n > 0 || a.Keep {
		return err
	}
	// What files say of a local account is not said of who came from elsewhere under its name.
	if err := c.must(ErrSource, "UPDATE accounts SET member_of = $1, disabled = $2 WHERE name = $3 AND source = $4", names(a.Groups), micros(disabled), a.Name, Local); err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	if a.Disabled {
		return c.endAccount(a.Name, at)
	}
	return nil
}

// endAccount ends the sign-ins of an account, revokes its devices and guest links, and forgets its set-up link.
func (c *change) endAccount(name string, at time.Time) error {
	if err := c.endSignIns("account", name, at); err != nil {
		return err
	}
	if err := c.forgetSetUp(name); err != nil {
		return err
	}
	if _, err := c.exec("DELETE FROM codes WHERE person = $1 AND used = 0", name); err != nil {
		return err
	}
	if err := c.noteEach(OfGuest, "UPDATE guest_links SET revoked = $1 WHERE maker = $2 AND revoked = 0 RETURNING id", micros(at), name); err != nil {
		return err
	}
	return c.noteEach(OfDevice, "UPDATE devices SET revoked = $1 WHERE person = $2 AND revoked = 0 RETURNING id", micros(at), name)
}

func (c *change) forgetSetUp(name string) error {
	_, err := c.exec("DELETE FROM once WHERE kind = $1 AND sealed = $2", SetUp, []byte(name))
	return err
}

// keepSetUp puts a set-up link in the place of those that the account has.
func (c *change) keepSetUp(name string, hash []byte, expires time.Time) error {
	if err := c.forgetSetUp(name); err != nil {
		return err
	}
	_, err := c.exec("INSERT INTO once ("+onceColumns+") VALUES ($1, $2, $3, $4)", SetUp, data(hash), []byte(name), micros(expires))
	return err
}

// OpenAccount adds an account with a set-up link: hash is the SHA-256 of its code. ErrConflict means that the name is taken.
func (s *Store) OpenAccount(ctx context.Context, a Account, hash []byte, expires time.Time) error {
	return s.change(ctx, "add the account "+a.Name, func(c *change) error {
		c.note(OfAccount, a.Name)
		if err := c.addAccount(a); err != nil {
			return err
		}
		return c.keepSetUp(a.Name, hash, expires)
	})
}

// ResetAccount takes all credentials of some kinds from a local account, ends its sign-ins, and keeps a new set-up link for
// it. ErrConflict means that its credentials are not kept here.
func (s *Store) ResetAccount(ctx context.Context, name string, kinds []string, hash []byte, expires, at time.Time) error {
	return s.change(ctx, "reset the account "+name, func(c *change) error {
		a, err := scanAccount(c.row("SELECT "+accountColumns+" FROM accounts WHERE name = $1", name))
		if err != nil {
			return err
		}
		if a.Source != Local {
			return fmt.Errorf("%s signs in at %s: %w", name, a.Source, ErrConflict)
		}
		c.note(OfAccount, name)
		for _, kind := range kinds {
			if _, err := c.exec("DELETE FROM credentials WHERE account = $1 AND kind = $2", name, kind); err != nil {
				return err
			}
		}
		if err := c.endSignIns("account", name, at); err != nil {
			return err
		}
		return c.keepSetUp(name, hash, expires)
	})
}

// CredentialKinds returns the kinds of credentials that each account has.
func (s *Store) CredentialKinds(ctx context.Context) (map[string][]string, error) {
	type has struct{ account, kind string }
	scan := func(row scanner) (h has, err error) {
		err = row.Scan(&h.account, &h.kind)
		return h, err
	}
	all, err := list(ctx, s, "read the kinds of credentials", scan, "SELECT DISTINCT account, kind FROM credentials ORDER BY account, kind")
	kinds := map[string][]string{}
	for _, h := range all {
		kinds[h.account] = append(kinds[h.account], h.kind)
	}
	return kinds, err
}
