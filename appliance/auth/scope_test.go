package auth

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeviceExpires: at its end a device is refused, and watchers are told once, on each appliance; another code lets it in
// again.
func TestDeviceExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(Memory)
		one, two := mustOpen(t, store, time.Now), mustOpen(t, store, time.Now)
		enrol := func(scope Scope) Device {
			t.Helper()
			code, err := one.NewCode("bot", 0, scope)
			if err != nil {
				t.Fatal(err)
			}
			d, err := one.Enrol(Enrolment{Code: code, Key: key(1), Source: home})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return d
		}
		var mu sync.Mutex
		var told []string
		for _, r := range []*Registry{one, two} {
			defer r.OnChange(func(d Device, why error) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case why == nil:
					told = append(told, "changed")
				case errors.Is(why, ErrDeviceExpired) && !time.Now().Before(d.Scope.Until) && time.Since(d.Scope.Until) < 2*time.Second:
					told = append(told, "expired")
				default:
					t.Errorf("told %v at %v", why, time.Now())
				}
			})()
		}
		scope := Scope{Targets: []string{"web-1", "db-1", "web-1"}, Until: time.Now().Add(time.Hour)}
		d := enrol(scope)
		if d.Scope.String() != "db-1, web-1 until "+scope.Until.UTC().Format("2006-01-02 15:04 MST") {
			t.Errorf("%s", d.Scope)
		}
		time.Sleep(time.Hour - time.Second)
		if _, err := two.Device(key(1)); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(time.Minute)
		for _, r := range []*Registry{one, two} {
			if _, err := r.Device(key(1)); !errors.Is(err, ErrDeviceExpired) {
				t.Errorf("after its end: %v", err)
			}
			if _, err := r.ScopeOf(d.ID); !errors.Is(err, ErrDeviceExpired) {
				t.Errorf("its scope: %v", err)
			}
		}
		mu.Lock()
		if got := strings.Join(told, " "); got != "expired expired" {
			t.Errorf("told %s", got)
		}
		told = nil
		mu.Unlock()
		enrol(Scope{Until: time.Now().Add(time.Minute)})
		if _, err := two.Device(key(1)); err != nil {
			t.Errorf("with another code: %v", err)
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(told, " "); got != "changed changed expired expired" {
			t.Errorf("told %s", got)
		}
	})
}

// TestCodeOfAnExpiredDevice: a code outlives what it is for.
func TestCodeOfAnExpiredDevice(t *testing.T) {
	clock := newClock()
	r := mustOpen(t, new(Memory), clock.time)
	code, err := r.NewCode("bot", 10*time.Minute, Scope{Until: clock.now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	clock.now = clock.now.Add(time.Minute)
	if _, err := r.Enrol(Enrolment{Code: code, Key: key(1), Source: home}); !errors.Is(err, ErrCodeExpired) {
		t.Errorf("%v", err)
	}
}
