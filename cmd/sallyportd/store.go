package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/config"
	"sallyport/appliance/store"
)

// storeConfig says where the daemon's database is.
func (d *daemon) storeConfig() store.Config {
	cfg := databaseOf(d.cfg, d.supply.File)
	cfg.Dir, cfg.Log, cfg.Trial = d.supply.State(), d.log, d.trial
	if u := d.uplink(); u != nil && cfg.URL != "" {
		u.allow(cfg.URL)
		cfg.Dial = u.dial
	}
	return cfg
}

// databaseOf says where the database of a configuration is. file reads the password's.
func databaseOf(c *config.Config, file func(string) ([]byte, error)) store.Config {
	s := store.Config{URL: c.Store.URL, Dir: c.State}
	if path := c.Store.PasswordFile; path != "" {
		s.Password = func() (string, error) {
			text, err := file(path)
			return strings.TrimRight(string(text), "\r\n"), err
		}
	}
	return s
}

// prune has the database forget what is over, now and each hour, until ctx ends.
func (d *daemon) prune(ctx context.Context) {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		if err := d.store.Prune(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.Warn("the database is not tidied up", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-hourly.C:
		}
	}
}

// deviceStore is the database as the registry wants it.
type deviceStore struct{ *store.Store }

// Devices implements auth.Store.
func (s deviceStore) Devices(ctx context.Context) ([]auth.Device, error) {
	all, err := s.Store.Devices(ctx)
	if err != nil {
		return nil, deviceFault(err, auth.ErrUnknownDevice)
	}
	devices := make([]auth.Device, 0, len(all))
	for _, kept := range all {
		d, err := fromStore(kept)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// Device implements auth.Store.
func (s deviceStore) Device(ctx context.Context, id string) (auth.Device, error) {
	d, err := s.Store.Device(ctx, id)
	if err != nil {
		return auth.Device{}, deviceFault(err, auth.ErrUnknownDevice)
	}
	return fromStore(d)
}

// Put implements auth.Store.
func (s deviceStore) Put(ctx context.Context, d auth.Device) error {
	return deviceFault(s.PutDevice(ctx, toStore([]auth.Device{d})[0]), auth.ErrUnknownDevice)
}

// Revoke implements auth.Store.
func (s deviceStore) Revoke(ctx context.Context, id string, at time.Time) error {
	_, err := s.RevokeDevice(ctx, id, at)
	return deviceFault(err, auth.ErrUnknownDevice)
}

// Seen implements auth.Store.
func (s deviceStore) Seen(ctx context.Context, seen []auth.Device) error {
	return deviceFault(s.SeeDevices(ctx, toStore(seen)), auth.ErrUnknownDevice)
}

// AddCode implements auth.Store.
func (s deviceStore) AddCode(ctx context.Context, c auth.Code, forget time.Time, most int) error {
	err := s.Store.AddCode(ctx, codeToStore(c), forget, most)
	if errors.Is(err, store.ErrFull) {
		return fmt.Errorf("%d enrolment codes are outstanding; wait until some have expired", most)
	}
	return deviceFault(err, auth.ErrCodeUnknown)
}

// Code implements auth.Store.
func (s deviceStore) Code(ctx context.Context, hash []byte) (auth.Code, error) {
	c, err := s.Store.Code(ctx, hash)
	if err != nil {
		return auth.Code{}, deviceFault(err, auth.ErrCodeUnknown)
	}
	scope, err := parseScope(c.Scope)
	return auth.Code{Hash: c.Hash, User: c.User, Expires: c.Expires, Used: c.Used, By: c.By, Scope: scope}, err
}

// Enrol implements auth.Store.
func (s deviceStore) Enrol(ctx context.Context, hash []byte, d auth.Device, now time.Time) error {
	return deviceFault(s.Store.Enrol(ctx, hash, toStore([]auth.Device{d})[0], now), auth.ErrCodeUnknown)
}

// Import implements auth.Store.
func (s deviceStore) Import(ctx context.Context, devices []auth.Device, codes []auth.Code) error {
	kept := make([]store.Code, 0, len(codes))
	for _, c := range codes {
		kept = append(kept, codeToStore(c))
	}
	return deviceFault(s.Store.Import(ctx, toStore(devices), kept), nil)
}

// Watch implements auth.Store.
func (s deviceStore) Watch(ctx context.Context, f func(id string) error) error {
	return s.Store.Watch(ctx, func(c store.Change) error {
		if c.Subject != store.OfDevice && c.Subject != "" {
			return nil
		}
		return f(c.Key)
	})
}

// controlFault is an error of the database as people are told it.
func controlFault(err error) error {
	if errors.Is(err, store.ErrDown) {
		return fmt.Errorf("%w (%w)", auth.ErrControlDown, err)
	}
	return err
}

// deviceFault is an error of the database as the registry wants it.
func deviceFault(err, none error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return none
	case errors.Is(err, store.ErrConflict):
		return auth.ErrRaced
	}
	return controlFault(err)
}

func fromStore(d store.Device) (auth.Device, error) {
	scope, err := parseScope(d.Scope)
	scope.Until = d.Expires
	return auth.Device{ID: d.ID, User: d.User, Name: d.Name, Platform: d.Platform, Key: d.Key, Enrolled: d.Enrolled,
		LastSeen: d.LastSeen, LastSource: d.LastSource, Version: d.Version, Revoked: d.Revoked, SignIn: d.SignIn, Scope: scope}, err
}

func toStore(devices []auth.Device) []store.Device {
	kept := make([]store.Device, 0, len(devices))
	for _, d := range devices {
		kept = append(kept, store.Device{ID: d.ID, User: d.User, Name: d.Name, Platform: d.Platform, Key: d.Key, Enrolled: d.Enrolled,
			LastSeen: d.LastSeen, LastSource: d.LastSource, Version: d.Version, Revoked: d.Revoked, SignIn: d.SignIn,
			Scope: deviceScope(d.Scope), Expires: d.Scope.Until})
	}
	return kept
}

func codeToStore(c auth.Code) store.Code {
	return store.Code{Hash: c.Hash, User: c.User, Expires: c.Expires, Used: c.Used, By: c.By, Scope: scopeText(c.Scope)}
}
