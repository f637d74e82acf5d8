package main

import (
	"context"
	"errors"

	"sallyport/appliance/hostkey"
	"sallyport/appliance/store"
)

// hostKeyStore is the database as the pins want it.
type hostKeyStore struct{ *store.Store }

// HostKeys implements hostkey.Store.
func (s hostKeyStore) HostKeys(ctx context.Context) ([]hostkey.Key, error) {
	all, err := s.Store.HostKeys(ctx, "")
	keys := make([]hostkey.Key, 0, len(all))
	for _, k := range all {
		keys = append(keys, hostKeyFrom(k))
	}
	return keys, err
}

// See implements hostkey.Store.
func (s hostKeyStore) See(ctx context.Context, k hostkey.Key) (hostkey.Key, error) {
	pinned, err := s.SeeHostKey(ctx, hostKeyTo(k))
	return hostKeyFrom(pinned), err
}

// Put implements hostkey.Store.
func (s hostKeyStore) Put(ctx context.Context, k hostkey.Key) error {
	return s.PutHostKey(ctx, hostKeyTo(k))
}

// Forget implements hostkey.Store.
func (s hostKeyStore) Forget(ctx context.Context, target string) error {
	err := s.ForgetHostKeys(ctx, target)
	if errors.Is(err, store.ErrNotFound) {
		return hostkey.ErrUnknown
	}
	return err
}

func hostKeyFrom(k store.HostKey) hostkey.Key {
	return hostkey.Key{Target: k.Target, Algorithm: k.Algorithm, Blob: k.Key, Seen: k.Seen, Confirmed: k.Confirmed, By: k.By}
}

func hostKeyTo(k hostkey.Key) store.HostKey {
	return store.HostKey{Target: k.Target, Algorithm: k.Algorithm, Key: k.Blob, Seen: k.Seen, Confirmed: k.Confirmed, By: k.By}
}

// followSSH takes up host keys and certificate authorities that other appliances change in the database, until ctx ends.
func (d *daemon) followSSH(ctx context.Context) {
	err := d.store.Watch(ctx, func(c store.Change) error {
		if c.Subject == store.OfHostKey || c.Subject == "" {
			if err := d.hostKeys.Reload(ctx); err != nil {
				return err
			}
		}
		if d.sshCA != nil && (c.Subject == store.OfKey || c.Subject == "") {
			return d.sshCA.Reload(ctx)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("SSH keys of other appliances are not heard of any more", "cause", err)
	}
}
