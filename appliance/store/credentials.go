package store

import (
	"context"
	"time"
)

// The kinds of credentials.
const (
	Password = "password"
	TOTP     = "totp"
	Passkey  = "passkey"
	Recovery = "recovery"
)

// A Credential is something by which a person proves an account.
type Credential struct {
	ID      string
	Account string
	Kind    string
	Data    []byte // sealed by the caller
	Counter int64  // of TOTP, the latest step that was taken; of a passkey, its sign count
	Created time.Time
	Used    time.Time // zero before the first use
}

const credentialColumns = "id, account, kind, sealed, counter, created, used"

func scanCredential(row scanner) (k Credential, err error) {
	err = row.Scan(&k.ID, &k.Account, &k.Kind, &k.Data, &k.Counter, stamp{&k.Created}, stamp{&k.Used})
	return k, err
}

// AddCredential adds a credential to an account.
func (s *Store) AddCredential(ctx context.Context, k Credential) error {
	return s.change(ctx, "add the credential", func(c *change) error {
		c.note(OfAccount, k.Account)
		return c.addCredential(k)
	})
}

// addCredential finds no account to be the fault of its name: the databases call that by different names.
func (c *change) addCredential(k Credential) error {
	return c.must(ErrNotFound, "INSERT INTO credentials ("+credentialColumns+") SELECT $1, name, $3, $4, $5, $6, $7 FROM accounts WHERE name = $2",
		k.ID, k.Account, k.Kind, data(k.Data), k.Counter, micros(k.Created), micros(k.Used))
}

// ReplaceCredentials puts a set of credentials in the place of all of one kind that an account has: a new password, or a
// new sheet of recovery codes.
func (s *Store) ReplaceCredentials(ctx context.Context, account, kind string, set []Credential) error {
	return s.change(ctx, "replace the credentials of "+account, func(c *change) error {
		c.note(OfAccount, account)
		if _, err := c.exec("DELETE FROM credentials WHERE account = $1 AND kind = $2", account, kind); err != nil {
			return err
		}
		for _, k := range set {
			k.Account, k.Kind = account, kind
			if err := c.addCredential(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Credentials returns what an account has, by kind and age.
func (s *Store) Credentials(ctx context.Context, account string) ([]Credential, error) {
	return list(ctx, s, "read the credentials of "+account, scanCredential,
		"SELECT "+credentialColumns+" FROM credentials WHERE account = $1 ORDER BY kind, created, id", account)
}

// UseCounter takes a step of a counter once: ErrConflict means that this step or a later one was taken.
func (s *Store) UseCounter(ctx context.Context, id string, counter int64, at time.Time) error {
	return s.change(ctx, "use the credential", func(c *change) error {
		return c.must(ErrConflict, "UPDATE credentials SET counter = $1, used = $2 WHERE id = $3 AND counter < $1", counter, micros(at), id)
	})
}

// UseOnce takes a credential that is good once: ErrConflict means that it was taken.
func (s *Store) UseOnce(ctx context.Context, id string, at time.Time) error {
	return s.change(ctx, "use the credential", func(c *change) error {
		return c.must(ErrConflict, "UPDATE credentials SET used = $1 WHERE id = $2 AND used = 0", micros(at), id)
	})
}

// UseCredential keeps the latest use of a credential, and what that has made of its data: a password hashed anew, a
// passkey's state. ErrConflict means that the data is not any more what it was.
func (s *Store) UseCredential(ctx context.Context, id string, was, is []byte, at time.Time) error {
	return s.change(ctx, "use the credential", func(c *change) error {
		return c.must(ErrConflict, "UPDATE credentials SET sealed = $1, used = $2 WHERE id = $3 AND sealed IS NOT DISTINCT FROM $4",
			data(is), micros(at), id, data(was))
	})
}

// RemoveCredential takes a credential from an account. Where kinds are named one of those has to be left: ErrConflict means
// that none would be.
func (s *Store) RemoveCredential(ctx context.Context, account, id string, left ...string) error {
	return s.change(ctx, "remove the credential", func(c *change) error {
		c.note(OfAccount, account)
		// Of two who remove one each at once, the second has to see what the first has left.
		if err := c.must(ErrNotFound, "UPDATE accounts SET disabled = disabled WHERE name = $1", account); err != nil {
			return err
		}
		if err := c.must(ErrNotFound, "DELETE FROM credentials WHERE id = $1 AND account = $2", id, account); err != nil || len(left) == 0 {
			return err
		}
		for _, kind := range left {
			var n int
			if err := c.row("SELECT COUNT(*) FROM credentials WHERE account = $1 AND kind = $2", account, kind).Scan(&n); err != nil || n > 0 {
				return err
			}
		}
		return ErrConflict
	})
}
