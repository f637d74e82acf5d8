package store

import (
	"context"
	"time"
)

// A Device is a key that names a person.
type Device struct {
	ID       string
	User     string
	Name     string
	Platform string
	Key      []byte
	Enrolled time.Time

	LastSeen   time.Time
	LastSource string
	Version    string // of the client

	Revoked time.Time // zero while it is good
	SignIn  string    // the sign-in it acts by; empty where the key alone names the person
	Scope   string    // what it may do; empty: all that its person may
	Expires time.Time // zero: never
}

const deviceColumns = "id, person, name, platform, public, enrolled, last_seen, last_source, version, revoked, signin, scope, expires"

const deviceValues = "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"

func scanDevice(row scanner) (d Device, err error) {
	err = row.Scan(&d.ID, &d.User, &d.Name, &d.Platform, &d.Key, stamp{&d.Enrolled}, stamp{&d.LastSeen}, &d.LastSource,
		&d.Version, stamp{&d.Revoked}, &d.SignIn, &d.Scope, stamp{&d.Expires})
	return d, err
}

// Devices returns all devices, by time of enrolment.
func (s *Store) Devices(ctx context.Context) ([]Device, error) {
	return list(ctx, s, "read the devices", scanDevice, "SELECT "+deviceColumns+" FROM devices ORDER BY enrolled, id")
}

// Device returns a device, or ErrNotFound.
func (s *Store) Device(ctx context.Context, id string) (Device, error) {
	return one(ctx, s, "read the device "+id, scanDevice, "SELECT "+deviceColumns+" FROM devices WHERE id = $1", id)
}

// PutDevice adds a device, or renews name, platform, sign-in, scope and end of one that has the same key and person and is not
// revoked. Anything else is ErrConflict.
func (s *Store) PutDevice(ctx context.Context, d Device) error {
	return s.change(ctx, "keep the device", func(c *change) error { return c.putDevice(d) })
}

func (c *change) putDevice(d Device) error {
	c.note(OfDevice, d.ID)
	return c.must(ErrConflict, "INSERT INTO devices ("+deviceColumns+") VALUES "+deviceValues+
		" ON CONFLICT (id) DO UPDATE SET name = excluded.name, platform = excluded.platform, signin = excluded.signin, scope = excluded.scope, expires = excluded.expires"+
		" WHERE devices.person = excluded.person AND devices.public = excluded.public AND devices.revoked = 0",
		d.values()...)
}

// values are those of deviceColumns.
func (d Device) values() []any {
	return []any{d.ID, d.User, d.Name, d.Platform, data(d.Key), micros(d.Enrolled), micros(d.LastSeen), d.LastSource, d.Version, micros(d.Revoked),
		d.SignIn, d.Scope, micros(d.Expires)}
}

// RevokeDevice ends a device for ever. It says whether this call did: one that is revoked already keeps its time.
func (s *Store) RevokeDevice(ctx context.Context, id string, at time.Time) (changed bool, err error) {
	err = s.change(ctx, "revoke the device "+id, func(c *change) error {
		n, err := c.exec("UPDATE devices SET revoked = $1 WHERE id = $2 AND revoked = 0", micros(at), id)
		if err != nil {
			return err
		}
		if changed = n > 0; !changed {
			_, err := scanDevice(c.row("SELECT "+deviceColumns+" FROM devices WHERE id = $1", id))
			return err
		}
		c.note(OfDevice, id)
		return nil
	})
	return changed && err == nil, err
}

// SeeDevices keeps when and where devices were seen last. It moves no time back and tells nobody.
func (s *Store) SeeDevices(ctx context.Context, seen []Device) error {
	return s.change(ctx, "keep when devices were seen", func(c *change) error {
		for _, d := range seen {
			if _, err := c.exec("UPDATE devices SET last_seen = $1, last_source = $2, version = $3 WHERE id = $4 AND last_seen < $1",
				micros(d.LastSeen), d.LastSource, d.Version, d.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
