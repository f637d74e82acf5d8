package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/store"
)

// guestStore is the database as the guest links want it.
type guestStore struct{ *store.Store }

// Links implements auth.GuestStore.
func (s guestStore) Links(ctx context.Context, since time.Time) ([]auth.GuestLink, error) {
	all, err := s.GuestLinks(ctx, since)
	list := make([]auth.GuestLink, 0, len(all))
	for _, l := range all {
		list = append(list, guestFromStore(l))
	}
	return list, guestFault(err)
}

// Link implements auth.GuestStore.
func (s guestStore) Link(ctx context.Context, hash [sha256.Size]byte) (auth.GuestLink, error) {
	l, err := s.GuestLink(ctx, hash[:])
	return guestFromStore(l), guestFault(err)
}

// Uses implements auth.GuestStore.
func (s guestStore) Uses(ctx context.Context, since time.Time) ([]auth.GuestUse, error) {
	all, err := s.GuestUses(ctx, since)
	list := make([]auth.GuestUse, 0, len(all))
	for _, u := range all {
		list = append(list, auth.GuestUse(u))
	}
	return list, guestFault(err)
}

// Add implements auth.GuestStore.
func (s guestStore) Add(ctx context.Context, l auth.GuestLink, most int) error {
	err := s.AddGuestLink(ctx, store.GuestLink{ID: l.ID, Hash: l.Hash[:], Maker: l.Maker, Target: l.Target, VNet: l.VNet, Host: l.Host, Protocol: l.Protocol,
		Programs: l.Programs, Approval: l.Approval, SignIn: l.SignIn, Source: l.Source, Transport: l.Transport, MFA: l.MFA, Created: l.Created,
		Expires: l.Expires, Uses: l.Uses, Used: l.Used, Revoked: l.Revoked}, most)
	if errors.Is(err, store.ErrFull) {
		return auth.ErrManyGuests
	}
	return controlFault(err)
}

// Open implements auth.GuestStore.
func (s guestStore) Open(ctx context.Context, hash [sha256.Size]byte, d auth.Device, source string, now time.Time) (auth.Device, error) {
	put, err := s.OpenGuestLink(ctx, hash[:], toStore([]auth.Device{d})[0], source, now)
	if err != nil {
		return auth.Device{}, guestFault(err)
	}
	return fromStore(put)
}

// Revoke implements auth.GuestStore.
func (s guestStore) Revoke(ctx context.Context, id string, at time.Time) error {
	_, err := s.RevokeGuestLink(ctx, id, at)
	return guestFault(err)
}

// Watch implements auth.GuestStore.
func (s guestStore) Watch(ctx context.Context, f func() error) error {
	return s.Store.Watch(ctx, func(c store.Change) error {
		if c.Subject != store.OfGuest && c.Subject != "" {
			return nil
		}
		return f()
	})
}

func guestFromStore(l store.GuestLink) auth.GuestLink {
	one := auth.GuestLink{ID: l.ID, Maker: l.Maker, Target: l.Target, VNet: l.VNet, Host: l.Host, Protocol: l.Protocol, Programs: l.Programs, Approval: l.Approval,
		SignIn: l.SignIn, Source: l.Source, Transport: l.Transport, MFA: l.MFA, Created: l.Created, Expires: l.Expires, Uses: l.Uses, Used: l.Used, Revoked: l.Revoked}
	copy(one.Hash[:], l.Hash)
	return one
}

// guestFault is an error of the database as the guest links want it.
func guestFault(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return auth.ErrGuestLink
	case errors.Is(err, store.ErrConflict):
		return auth.ErrDeviceTaken
	}
	return controlFault(err)
}
