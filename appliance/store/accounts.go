package store

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"time"
)

// Local is the source of accounts that have their credentials here.
const Local = "local"

// NewSubject is the subject of a new local account: 32 random bytes in base64url, which passkeys know the account by.
func NewSubject() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: it would end the process
	return base64.RawURLEncoding.EncodeToString(b)
}

// An Account is a person who may sign in.
type Account struct {
	Name      string
	Source    string // Local, or the identity provider's name
	Subject   string // what the source calls the person; with Source it is unique
	Created   time.Time
	Disabled  time.Time // zero while it may be used
	LastLogin time.Time
	Groups    []string  // that it is in here, beside those that its source names
	ValidFrom time.Time // who signed in before this is not signed in any more
}

const accountColumns = "name, source, subject, created, disabled, last_login, member_of, valid_from"

func scanAccount(row scanner) (a Account, err error) {
	err = row.Scan(&a.Name, &a.Source, &a.Subject, stamp{&a.Created}, stamp{&a.Disabled}, stamp{&a.LastLogin}, nameList{&a.Groups}, stamp{&a.ValidFrom})
	if len(a.Groups) == 0 {
		a.Groups = nil
	}
	return a, err
}

// AddAccount adds an account. ErrConflict means that its name, or its subject, is taken.
func (s *Store) AddAccount(ctx context.Context, a Account) error {
	return s.change(ctx, "add the account "+a.Name, func(c *change) error {
		c.note(OfAccount, a.Name)
		return c.addAccount(a)
	})
}

func (c *change) addAccount(a Account) error {
	_, err := c.exec("INSERT INTO accounts ("+accountColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		a.Name, a.Source, a.Subject, micros(a.Created), micros(a.Disabled), micros(a.LastLogin), names(a.Groups), micros(a.ValidFrom))
	return err
}

// Accounts returns all accounts by name.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	return list(ctx, s, "read the accounts", scanAccount, "SELECT "+accountColumns+" FROM accounts ORDER BY name")
}

// Account returns an account by its name, or ErrNotFound.
func (s *Store) Account(ctx context.Context, name string) (Account, error) {
	return one(ctx, s, "read the account "+name, scanAccount, "SELECT "+accountColumns+" FROM accounts WHERE name = $1", name)
}

// AccountOf returns the account of a source's subject, or ErrNotFound.
func (s *Store) AccountOf(ctx context.Context, source, subject string) (Account, error) {
	return one(ctx, s, "read the account of "+source, scanAccount,
		"SELECT "+accountColumns+" FROM accounts WHERE source = $1 AND subject = $2", source, subject)
}

// DisableAccount bars an account from a time on, ends its sign-ins and revokes its devices. The zero time lets it in again,
// with a new device.
func (s *Store) DisableAccount(ctx context.Context, name string, at time.Time) error {
	return s.change(ctx, "bar the account "+name, func(c *change) error {
		c.note(OfAccount, name)
		if err := c.must(ErrNotFound, "UPDATE accounts SET disabled = $1 WHERE name = $2", micros(at), name); err != nil || at.IsZero() {
			return err
		}
		return c.endAccount(name, at)
	})
}

// NoteLogin keeps when an account was used last. It tells nobody.
func (s *Store) NoteLogin(ctx context.Context, name string, at time.Time) error {
	return s.change(ctx, "keep the login of "+name, func(c *change) error {
		return c.must(ErrNotFound, "UPDATE accounts SET last_login = $1 WHERE name = $2", micros(at), name)
	})
}

// RemoveAccount removes an account with its credentials, ends its sign-ins and revokes its devices.
func (s *Store) RemoveAccount(ctx context.Context, name string, at time.Time) error {
	return s.change(ctx, "remove the account "+name, func(c *change) error {
		c.note(OfAccount, name)
		if err := c.must(ErrNotFound, "DELETE FROM accounts WHERE name = $1", name); err != nil {
			return err
		}
		return c.endAccount(name, at)
	})
}
