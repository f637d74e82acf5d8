package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"sallyport/appliance"
	"sallyport/appliance/access"
	"sallyport/appliance/audit"
	"sallyport/appliance/config"
	"sallyport/appliance/store"
	"sallyport/frame"
)

// versions are the access files as the database has them. It implements appliance.Access.
type versions struct {
	daemon *daemon

	mu      sync.Mutex // held while a version is taken up
	inForce int64      // its number; 0 before the first
	written int64      // the latest number whose coming the audit log has from the one who made it
}

// openVersions takes up the version in force, or makes the first one.
func (d *daemon) openVersions(ctx context.Context) error {
	if d.cfg.Access != config.InDatabase {
		return nil
	}
	v := &versions{daemon: d}
	active, err := d.store.ActiveAccess(ctx)
	if err == nil && active.Version == 0 {
		err = v.first(ctx)
	}
	if err != nil {
		return fmt.Errorf("read the access files: %w", err)
	}
	if _, err := v.takeUp(ctx); err != nil {
		return err
	}
	d.versions, d.gateway.Access = v, v
	return nil
}

// first makes the version that an empty database begins with. Another appliance may be faster.
func (v *versions) first(ctx context.Context) error {
	files, from := access.Initial(), "an appliance's first start"
	if path := v.daemon.cfg.Seed; path != "" {
		read, err := v.daemon.supply.Files(path)
		if err != nil {
			return err
		}
		files, from = access.FromFolder(read), "access_seed"
	}
	rules, err := v.Read(files)
	if err != nil {
		return err
	}
	packed := files.Pack()
	_, err = v.daemon.store.AddAccess(ctx, 0, store.Access{Created: time.Now(), By: "root", Comment: from, Files: packed, Hash: access.Hash(packed)},
		toAccountChanges(access.AccountChanges(nil, rules.Accounts))...)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// takeUp goes by the version in force, and says whether it did not before. What has faults here changes nothing.
func (v *versions) takeUp(ctx context.Context) (changed bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	active, err := v.daemon.store.ActiveAccess(ctx)
	if err != nil || active.Version == v.inForce {
		return false, err
	}
	files, err := unpack(active)
	if err != nil {
		return false, err
	}
	rules, err := v.Read(files)
	if err != nil {
		return false, fmt.Errorf("version %d of the access files: %w", active.Version, err)
	}
	if active.Version != v.written {
		v.daemon.write(audit.Event{Kind: audit.AccessChanged, By: active.By, Object: fmt.Sprintf("version %d", active.Version), Why: active.Comment,
			Detail: map[string]string{"version": strconv.FormatInt(active.Version, 10), "hash": access.HashText(active.Hash)}})
	}
	v.inForce = active.Version
	v.daemon.gateway.SetPolicy(rules.Policy)
	return true, nil
}

// unpack returns the files of a version, which must be what was put there.
func unpack(a store.Access) (access.Files, error) {
	if !bytes.Equal(access.Hash(a.Files), a.Hash) {
		return nil, fmt.Errorf("version %d of the access files is not what was put there: its hash is another one", a.Version)
	}
	return access.Unpack(a.Files)
}

// followVersions takes up what others put in force, until ctx ends.
func (d *daemon) followVersions(ctx context.Context) {
	if d.versions == nil {
		return
	}
	err := d.store.Watch(ctx, func(c store.Change) error {
		if c.Subject != store.OfAccess && c.Subject != "" {
			return nil
		}
		changed, err := d.versions.takeUp(ctx)
		switch {
		case errors.Is(err, store.ErrDown):
			return err // and again
		case err != nil && ctx.Err() == nil:
			d.log.Error("the access files in the database are not taken, the old ones stay", "cause", err)
		case changed:
			d.log.Info("access version in force", "version", d.versions.number())
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("access files in the database are not followed any more", "cause", err)
	}
}

func (v *versions) number() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.inForce
}

// Version implements appliance.Access.
func (v *versions) Version(ctx context.Context, number int64) (appliance.AccessVersion, error) {
	read := v.daemon.store.ActiveAccess
	if number > 0 {
		read = func(ctx context.Context) (store.Access, error) { return v.daemon.store.AccessVersion(ctx, number) }
	}
	a, err := read(ctx)
	if err == nil && a.Version == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return appliance.AccessVersion{}, versionFault(err)
	}
	files, err := unpack(a)
	if err != nil {
		return appliance.AccessVersion{}, err
	}
	kept := fromVersion(a)
	kept.Files = files
	return kept, nil
}

// Versions implements appliance.Access.
func (v *versions) Versions(ctx context.Context, limit int) ([]appliance.AccessVersion, error) {
	all, err := v.daemon.store.AccessVersions(ctx, limit)
	if err != nil {
		return nil, versionFault(err)
	}
	var list []appliance.AccessVersion
	for _, a := range all {
		list = append(list, fromVersion(a))
	}
	return list, nil
}

func fromVersion(a store.Access) appliance.AccessVersion {
	return appliance.AccessVersion{Number: a.Version, Created: a.Created, By: a.By, Comment: a.Comment, Hash: a.Hash}
}

// Read implements appliance.Access.
func (v *versions) Read(f access.Files) (*access.Rules, error) {
	return access.Read(f, policyOptions(v.daemon.cfg))
}

// Apply implements appliance.Access.
func (v *versions) Apply(ctx context.Context, expected int64, a appliance.AccessVersion, accounts []access.AccountChange) (int64, error) {
	ctx = context.WithoutCancel(ctx) // who asks may go; what is begun is done
	v.mu.Lock()
	number, err := v.daemon.store.AddAccess(ctx, expected, store.Access{Created: a.Created, By: a.By, Comment: a.Comment, Files: a.Files.Pack(), Hash: a.Hash},
		toAccountChanges(accounts)...)
	if err == nil {
		v.written = number
	}
	v.mu.Unlock()
	if err != nil {
		return 0, versionFault(err)
	}
	if _, err := v.takeUp(ctx); err != nil { // it is in force all the same; who follows the database tries again
		v.daemon.log.Warn("the access version is not taken yet", "version", number, "cause", err)
	}
	return number, nil
}

func toAccountChanges(changes []access.AccountChange) []store.AccountChange {
	list := make([]store.AccountChange, 0, len(changes))
	for _, c := range changes {
		list = append(list, store.AccountChange{Name: c.User, Groups: c.Groups, Disabled: c.Disabled, Remove: c.Remove, Keep: c.Keep})
	}
	return list
}

// versionFault is an error of the database as the gateway wants it.
func versionFault(err error) error {
	switch {
	case errors.Is(err, store.ErrSource):
		return frame.Refuse("E_ACCOUNT_TAKEN", "accounts.yaml names somebody who signs in at an identity provider: "+err.Error(), "leave the account out there")
	case errors.Is(err, store.ErrConflict):
		return appliance.ErrVersion
	case errors.Is(err, store.ErrNotFound):
		return appliance.ErrNoVersion
	}
	return controlFault(err)
}
