package store

import (
	"context"
	"fmt"
	"time"
)

// A Code is what is kept of a one-time code that enrols a device.
type Code struct {
	Hash    []byte
	User    string
	Expires time.Time
	Used    time.Time // zero while it is good
	By      string    // the device that used it
	Scope   string    // what a device that enrols with it may do; empty: all that its person may, for ever
}

const codeColumns = "hash, person, expires, used, used_by, scope"

func scanCode(row scanner) (k Code, err error) {
	err = row.Scan(&k.Hash, &k.User, stamp{&k.Expires}, stamp{&k.Used}, &k.By, &k.Scope)
	return k, err
}

// AddCode adds a code, and forgets those that expired before forget. ErrFull means that there are most codes already.
func (s *Store) AddCode(ctx context.Context, k Code, forget time.Time, most int) error {
	return s.change(ctx, "keep the code", func(c *change) error {
		if _, err := c.exec("DELETE FROM codes WHERE expires < $1", micros(forget)); err != nil {
			return err
		}
		var there int
		if err := c.row("SELECT COUNT(*) FROM codes").Scan(&there); err != nil {
			return err
		}
		if there >= most {
			return fmt.Errorf("%w: %d", ErrFull, there)
		}
		return c.addCode(k, "")
	})
}

func (c *change) addCode(k Code, onConflict string) error {
	_, err := c.exec("INSERT INTO codes ("+codeColumns+") VALUES ($1, $2, $3, $4, $5, $6)"+onConflict,
		data(k.Hash), k.User, micros(k.Expires), micros(k.Used), k.By, k.Scope)
	return err
}

// Code returns the code with a hash, or ErrNotFound.
func (s *Store) Code(ctx context.Context, hash []byte) (Code, error) {
	return one(ctx, s, "look for the code", scanCode, "SELECT "+codeColumns+" FROM codes WHERE hash = $1", hash)
}

// Enrol redeems a good code for a device, which PutDevice says more of: both happen, or neither. ErrConflict means that the
// code is used, expired or another person's, or that the device may not be put; ErrNotFound that there is no such code.
func (s *Store) Enrol(ctx context.Context, hash []byte, d Device, now time.Time) error {
	return s.change(ctx, "enrol the device", func(c *change) error {
		n, err := c.exec("UPDATE codes SET used = $1, used_by = $2 WHERE hash = $3 AND used = 0 AND expires > $1 AND person = $4",
			micros(now), d.ID, hash, d.User)
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := scanCode(c.row("SELECT "+codeColumns+" FROM codes WHERE hash = $1", hash)); err != nil {
				return err
			}
			return ErrConflict
		}
		return c.putDevice(d)
	})
}

// Import adds devices and codes that were kept elsewhere. What is there already stays as it is. It takes the time that it
// takes.
func (s *Store) Import(ctx context.Context, devices []Device, codes []Code) error {
	return s.fault(ctx, ctx, "import devices and codes", s.transact(ctx, func(c *change) error {
		for _, d := range devices {
			if _, err := c.exec("INSERT INTO devices ("+deviceColumns+") VALUES "+deviceValues+" ON CONFLICT (id) DO NOTHING", d.values()...); err != nil {
				return err
			}
		}
		for _, k := range codes {
			if err := c.addCode(k, " ON CONFLICT (hash) DO NOTHING"); err != nil {
				return err
			}
		}
		c.note("", "")
		return nil
	}))
}
