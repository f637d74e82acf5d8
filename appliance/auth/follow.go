package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// takeUp reads anew what somebody has changed: one device or, without an id, all.
func (r *Registry) takeUp(id string) error {
	if id == "" {
		return r.readAll(r.ctx)
	}
	d, err := r.store.Device(r.ctx, id)
	if err != nil {
		return err
	}
	r.learn(d)
	return nil
}

func (r *Registry) readAll(ctx context.Context) error {
	all, err := r.store.Devices(ctx)
	if err != nil {
		return fmt.Errorf("read the devices: %w", err)
	}
	for _, d := range all {
		r.learn(d)
	}
	return nil
}

// learn takes a device in, and tells the watchers if it is barred by that, or has another scope. What is barred stays so: the store may not have
// heard of it yet. The later of two times of Touch holds.
func (r *Registry) learn(d Device) {
	r.mu.Lock()
	old, known := r.devices[d.ID]
	if known && old.LastSeen.After(d.LastSeen) {
		d.LastSeen, d.LastSource, d.Version = old.LastSeen, old.LastSource, old.Version
	}
	if known && !old.Revoked.IsZero() {
		d.Revoked = old.Revoked
	}
	r.devices[d.ID] = d
	r.mu.Unlock()
	switch {
	case !known || !old.Revoked.IsZero():
	case !d.Revoked.IsZero():
		r.tell(d, ErrRevoked)
	case !old.Scope.Equal(d.Scope):
		r.tell(d, nil)
	}
}

// later has what may wait kept within a minute. The caller holds mu.
func (r *Registry) later() {
	if r.keep == nil && !r.closed {
		r.keep = time.AfterFunc(keepEvery, r.keepLater)
	}
}

// keepLater runs a minute after a change that may wait, and again each minute for as long as the store does not answer.
func (r *Registry) keepLater() {
	r.keepNow(r.ctx) // what fails stays to be done
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = nil
	if len(r.seen)+len(r.revoking) > 0 {
		r.later()
	}
}

// keepNow puts into the store what could wait.
func (r *Registry) keepNow(ctx context.Context) error {
	r.keeping.Lock()
	defer r.keeping.Unlock()
	r.mu.Lock()
	var seen []Device
	for id := range r.seen {
		seen = append(seen, r.devices[id])
	}
	clear(r.seen)
	revoking := maps.Clone(r.revoking)
	r.mu.Unlock()

	var faults []error
	for id, at := range revoking {
		err := r.store.Revoke(ctx, id, at)
		if err == nil {
			r.mu.Lock()
			delete(r.revoking, id)
			r.mu.Unlock()
		}
		faults = append(faults, err)
	}
	for part := range slices.Chunk(seen, keepAtOnce) {
		err := r.store.Seen(ctx, part)
		if err != nil {
			r.mu.Lock()
			for _, d := range part {
				r.seen[d.ID] = true
			}
			r.mu.Unlock()
		}
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("keep what is known of devices: %w", err)
	}
	return nil
}
