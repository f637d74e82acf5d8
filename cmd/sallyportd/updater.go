package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sallyport/host"
	"sallyport/host/slots"
	"sallyport/image/update"
)

const (
	// onTrial is how long a version that has yet to prove itself may take to pass its self-test. Then the machine restarts,
	// and when the tries are used up the loader takes the version before.
	onTrial = 5 * time.Minute

	// answered is what an answer to who has asked for a restart may take to get there.
	answered = 500 * time.Millisecond
)

// An updater is the parent's half of updates: it believes nothing of what the worker says, and verifies what it installs
// while it writes it.
type updater struct {
	store   *slots.Store
	loader  slots.Loader
	version string // of this program
	flavour string // of the image that it is in
	keys    func() ([]ed25519.PublicKey, error)
	forget  func() error                             // removes what the version before would want if this one were given up; may be nil
	check   func(name string, h update.Header) error // looks at an image on the disk before it counts
	restart func()                                   // begins to end the worker in order, and then the machine
	log     *slog.Logger

	blessed atomic.Bool // since the start
}

// running is the slot that runs.
func (u *updater) running() (slots.Slot, error) {
	s, err := u.loader.Running()
	if u.blessed.Load() {
		s.Blessed = true
	}
	return s, err
}

func (u *updater) Status() (host.UpdateStatus, error) {
	running, err := u.running()
	if err != nil {
		return host.UpdateStatus{}, err
	}
	list, floor, err := u.store.List()
	if err != nil {
		return host.UpdateStatus{}, err
	}
	s := host.UpdateStatus{Version: u.version, Flavour: u.flavour, Trial: !running.Blessed, Next: running.Version, Floor: floor}
	next := slices.IndexFunc(list, func(s slots.Slot) bool { return !s.Given() })
	if next >= 0 {
		s.Next = list[next].Version
	}
	for _, slot := range list {
		state := "trial"
		switch {
		case slot.Blessed:
			state = "good"
		case slot.Given():
			state = "given-up"
		}
		s.Slots = append(s.Slots, host.UpdateSlot{Version: slot.Version, State: state, Tries: slot.Left, Size: slot.Size})
	}
	return s, nil
}

func (u *updater) Install(f io.Reader) (version string, err error) {
	running, err := u.running()
	if err != nil {
		return "", err
	}
	keys, err := u.keys()
	if err != nil {
		return "", err
	}
	_, floor, err := u.store.List()
	if err != nil {
		return "", err
	}
	opened, err := update.Open(f, keys...)
	if err != nil {
		return "", explainUpdate(err)
	}
	h := opened.Header
	if err := h.Fits(update.Running{Version: u.version, Flavour: u.flavour, Floor: floor}); err != nil {
		return h.Version, explainUpdate(err)
	}
	u.log.Info("an update is installed", "version", h.Version, "flavour", h.Flavour, "sha256", h.SHA256, "floor", h.Floor)
	err = u.store.Install(running, slots.Install{Version: h.Version, Size: h.Size, Image: opened, Floor: h.Floor,
		Check: func(name string) error { return u.check(name, h) }})
	if err != nil {
		return h.Version, explainUpdate(err)
	}
	return h.Version, nil
}

func (u *updater) Rollback() (version string, err error) {
	running, err := u.running()
	if err != nil {
		return "", err
	}
	if version, err = u.store.Rollback(running); err != nil {
		return "", explainUpdate(err)
	}
	u.log.Info("the next start takes another version", "version", version)
	return version, nil
}

func (u *updater) Restart() { time.AfterFunc(answered, u.restart) }

// prove gives a version on trial its time. When healthy is closed it is blessed; when its time is over before that, the
// machine restarts. It returns when ctx ends, or there is nothing to wait for any more.
func (u *updater) prove(ctx context.Context, healthy <-chan struct{}, patience time.Duration) {
	running, err := u.running()
	if err != nil {
		u.log.Warn("updates: what runs is not known", "cause", err)
		return
	}
	if running.Blessed {
		return
	}
	u.log.Info("this version has yet to prove itself", "version", running.Version, "tries left", running.Left, "within", patience)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-healthy:
		if err := u.bless(); err != nil {
			// It works, and the loader goes on counting: saying so is better than to restart what works.
			u.log.Error("this version serves, and cannot be made the one that is started for good", "version", running.Version, "cause", err)
		}
	case <-t.C:
		u.log.Error("this version has not passed its self-test; the machine restarts", "version", running.Version, "tries left", running.Left)
		u.restart()
	}
}

func (u *updater) bless() error {
	if err := u.store.Bless(u.loader); err != nil {
		return fmt.Errorf("bless: %w", err)
	}
	u.blessed.Store(true)
	if u.forget != nil {
		if err := u.forget(); err != nil {
			return fmt.Errorf("remove the database of the version before: %w", err)
		}
	}
	u.log.Info("this version is good: it is started from now on", "version", u.version)
	return nil
}
