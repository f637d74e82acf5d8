package auth

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A testClock stands still until it is moved.
type testClock struct{ now time.Time }

func (c *testClock) time() time.Time { return c.now }

func newClock() *testClock {
	return &testClock{time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
}

var home = netip.MustParseAddr("192.0.2.7")

// key returns a device key that depends on n only.
func key(n byte) ed25519.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

// mustOpen opens a registry on a store, as one appliance of those that share it does.
func mustOpen(t testing.TB, store Store, clock func() time.Time) *Registry {
	t.Helper()
	r, err := Open(t.Context(), t.TempDir(), store, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func mustCode(t testing.TB, r *Registry, user string) string {
	t.Helper()
	code, err := r.NewCode(user, 10*time.Minute, Scope{})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func mustEnrol(t testing.TB, r *Registry, user string, n byte) Device {
	t.Helper()
	d, err := r.Enrol(Enrolment{Code: mustCode(t, r, user), Key: key(n), Name: "laptop", Platform: "linux/amd64", Source: home})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEnrol(t *testing.T) {
	clock, store := newClock(), new(Memory)
	r := mustOpen(t, store, clock.time)
	d := mustEnrol(t, r, "ann", 1)
	if d.User != "ann" || d.Name != "laptop" || d.Platform != "linux/amd64" || d.ID != DeviceID(key(1)) || !d.Enrolled.Equal(clock.now) {
		t.Errorf("%+v", d)
	}
	for _, r := range []*Registry{r, mustOpen(t, store, clock.time)} {
		if got, err := r.Device(key(1)); err != nil || got.ID != d.ID || got.User != "ann" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := r.Device(key(2)); !errors.Is(err, ErrUnknownDevice) {
			t.Errorf("a key that nobody enrolled: %v", err)
		}
	}
}

func TestTheCodeIsNotKept(t *testing.T) {
	store := new(Memory)
	code := mustCode(t, mustOpen(t, store, newClock().time), "ann")
	kept := fmt.Sprintf("%+v %q", store.codes, store.codes[0].Hash)
	if strings.Contains(kept, code) || strings.Contains(kept, strings.ReplaceAll(code, "-", "")) || len(store.codes[0].Hash) != 32 {
		t.Errorf("the code is kept: %s", kept)
	}
}

// TestEnrolmentErrors has a row for each way in which a code can be wrong, with the exact words.
func TestEnrolmentErrors(t *testing.T) {
	const ask = "ask an administrator for a new code"
	tests := []struct {
		what string
		e    func(r *Registry, clock *testClock) Enrolment
		want Error
	}{
		{"wrong", func(r *Registry, _ *testClock) Enrolment { return Enrolment{Code: "0000-0000-0000-0000"} },
			Error{"E_CODE_UNKNOWN", "this enrolment code is not known here", "check it for a slip of the finger, and that this is the right appliance"}},
		{"too short", func(r *Registry, _ *testClock) Enrolment { return Enrolment{Code: mustCode(t, r, "ann")[:18]} },
			Error{"E_CODE_UNKNOWN", "this enrolment code is not known here", "check it for a slip of the finger, and that this is the right appliance"}},
		{"empty", func(r *Registry, _ *testClock) Enrolment { return Enrolment{} },
			Error{"E_CODE_UNKNOWN", "this enrolment code is not known here", "check it for a slip of the finger, and that this is the right appliance"}},
		{"used", func(r *Registry, _ *testClock) Enrolment {
			code := mustCode(t, r, "ann")
			if _, err := r.Enrol(Enrolment{Code: code, Key: key(9)}); err != nil {
				t.Fatal(err)
			}
			return Enrolment{Code: code}
		}, Error{"E_CODE_USED", "this enrolment code has been used", ask + "; if it was not you who used it, say so at once"}},
		{"used a day ago", func(r *Registry, clock *testClock) Enrolment {
			code := mustCode(t, r, "ann")
			if _, err := r.Enrol(Enrolment{Code: code, Key: key(9)}); err != nil {
				t.Fatal(err)
			}
			clock.now = clock.now.Add(24 * time.Hour)
			return Enrolment{Code: code}
		}, Error{"E_CODE_USED", "this enrolment code has been used", ask + "; if it was not you who used it, say so at once"}},
		{"expired just now", func(r *Registry, clock *testClock) Enrolment {
			code := mustCode(t, r, "ann")
			clock.now = clock.now.Add(10 * time.Minute)
			return Enrolment{Code: code}
		}, Error{"E_CODE_EXPIRED", "this enrolment code has expired", ask}},
		{"expired an hour ago", func(r *Registry, clock *testClock) Enrolment {
			code := mustCode(t, r, "ann")
			clock.now = clock.now.Add(70 * time.Minute)
			return Enrolment{Code: code}
		}, Error{"E_CODE_EXPIRED", "this enrolment code has expired 1h0m0s ago", ask}},
		{"forgotten", func(r *Registry, clock *testClock) Enrolment {
			code := mustCode(t, r, "ann")
			clock.now = clock.now.Add(25 * time.Hour)
			return Enrolment{Code: code}
		}, Error{"E_CODE_UNKNOWN", "this enrolment code is not known here", "check it for a slip of the finger, and that this is the right appliance"}},
		{"somebody else's", func(r *Registry, _ *testClock) Enrolment { return Enrolment{Code: mustCode(t, r, "ann"), User: "bob"} },
			Error{"E_CODE_USER", "this enrolment code is for somebody else", "ask an administrator for a code of your own"}},
		{"a revoked device", func(r *Registry, _ *testClock) Enrolment {
			if err := r.Revoke(mustEnrol(t, r, "ann", 1).ID); err != nil {
				t.Fatal(err)
			}
			return Enrolment{Code: mustCode(t, r, "ann")}
		}, Error{"E_DEVICE_REVOKED", "this device has been revoked", "ask an administrator; a new enrolment needs sallyport logout first"}},
		{"somebody else's device", func(r *Registry, _ *testClock) Enrolment {
			mustEnrol(t, r, "bob", 1)
			return Enrolment{Code: mustCode(t, r, "ann")}
		}, Error{"E_DEVICE_USER", "this device is enrolled for somebody else", "run sallyport logout first, which makes a new device key at the next login"}},
		{"a user name that is none", func(r *Registry, _ *testClock) Enrolment { return Enrolment{User: "Ann\n"} },
			Error{"E_NAME", "a user name is 1 to 64 of a-z, 0-9, dot, dash, _ and @", `"Ann\n" is not one`}},
		{"a device name with an escape", func(r *Registry, _ *testClock) Enrolment { return Enrolment{Name: "\x1b[31m"} },
			Error{"E_NAME", "a device name is at most 64 printable characters", `"\x1b[31m" is not one`}},
		{"a device name that turns text around", func(r *Registry, _ *testClock) Enrolment { return Enrolment{Name: "\u202eabc"} },
			Error{"E_NAME", "a device name is at most 64 printable characters", `"\u202eabc" is not one`}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			clock := newClock()
			r := mustOpen(t, new(Memory), clock.time)
			e := tt.e(r, clock)
			e.Key, e.Source = key(1), home
			_, err := r.Enrol(e)
			var got *Error
			if !errors.As(err, &got) || *got != tt.want {
				t.Errorf("got %#v, want %#v", err, tt.want)
			}
		})
	}
}

func TestAWrongPersonDoesNotUseUpACode(t *testing.T) {
	r := mustOpen(t, new(Memory), newClock().time)
	code := mustCode(t, r, "ann")
	if _, err := r.Enrol(Enrolment{Code: code, User: "bob", Key: key(1), Source: home}); !errors.Is(err, ErrCodeOtherUser) {
		t.Fatal(err)
	}
	if _, err := r.Enrol(Enrolment{Code: code, User: "ann", Key: key(1), Source: home}); err != nil {
		t.Error(err)
	}
}

func TestACodeWorksOnceAmongThousand(t *testing.T) {
	r := mustOpen(t, new(Memory), newClock().time)
	code := mustCode(t, r, "ann")
	var enrolled, used atomic.Int32
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 1000 {
		wg.Go(func() {
			<-start
			source := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			seed := make([]byte, ed25519.SeedSize)
			seed[0], seed[1] = byte(i), byte(i>>8)
			pub := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
			switch _, err := r.Enrol(Enrolment{Code: code, Key: pub, Source: source}); {
			case err == nil:
				enrolled.Add(1)
			case errors.Is(err, ErrCodeUsed):
				used.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if enrolled.Load() != 1 || used.Load() != 999 || len(r.List()) != 1 {
		t.Errorf("%d enrolled, %d were told that the code is used, %d devices", enrolled.Load(), used.Load(), len(r.List()))
	}
}

func TestTheSameDeviceMayEnrolAgain(t *testing.T) {
	clock := newClock()
	r := mustOpen(t, new(Memory), clock.time)
	first := mustEnrol(t, r, "ann", 1)
	clock.now = clock.now.Add(time.Hour)
	code := mustCode(t, r, "ann")
	again, err := r.Enrol(Enrolment{Code: code, Key: key(1), Name: "new name", Source: home})
	if err != nil || again.ID != first.ID || again.Name != "new name" || !again.Enrolled.Equal(first.Enrolled) || len(r.List()) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := r.Enrol(Enrolment{Code: code, Key: key(2), Source: home}); !errors.Is(err, ErrCodeUsed) {
		t.Errorf("its code is not used up: %v", err)
	}
}

func TestAStoreThatDoesNotAnswerLeavesTheCodeGood(t *testing.T) {
	clock, store := newClock(), new(faultyStore)
	r := mustOpen(t, store, clock.time)
	code := mustCode(t, r, "ann")
	for _, call := range []string{"Code", "Enrol"} {
		store.fail(call)
		clock.now = clock.now.Add(2 * downFor)
		d, err := r.Enrol(Enrolment{Code: code, Key: key(1), Source: home})
		var no *Error
		if !errors.Is(err, ErrControlDown) || !errors.As(err, &no) || !strings.Contains(err.Error(), "the cable is out") {
			t.Fatalf("enrolled %+v without %s, %v", d, call, err)
		}
		if _, err := r.Device(key(1)); !errors.Is(err, ErrUnknownDevice) {
			t.Errorf("the device is known, though it is not kept: %v", err)
		}
	}
	store.fail()
	asked := store.count("Code")
	if _, err := r.Enrol(Enrolment{Code: code, Key: key(1), Source: home}); !errors.Is(err, ErrControlDown) || store.count("Code") != asked {
		t.Errorf("the next one waits for the store too: %v", err)
	}
	clock.now = clock.now.Add(2 * downFor)
	if _, err := r.Enrol(Enrolment{Code: code, Key: key(1), Source: home}); err != nil {
		t.Errorf("the code is gone: %v", err)
	}
}

func TestACodeThatCannotBeKeptIsNotGiven(t *testing.T) {
	store := new(faultyStore)
	r := mustOpen(t, store, newClock().time)
	store.fail("AddCode")
	if code, err := r.NewCode("ann", 0, Scope{}); !errors.Is(err, ErrControlDown) || code != "" {
		t.Errorf("%q, %v", code, err)
	}
}

func TestCodesAreBounded(t *testing.T) {
	clock, store := newClock(), new(Memory)
	r := mustOpen(t, store, clock.time)
	store.codes = make([]Code, maxCodes)
	for i := range store.codes {
		store.codes[i] = Code{User: "ann", Expires: clock.now}
	}
	if _, err := r.NewCode("ann", 0, Scope{}); err == nil {
		t.Error("one more than the limit")
	}
	clock.now = clock.now.Add(remember + time.Second)
	if _, err := r.NewCode("ann", 0, Scope{}); err != nil || len(store.codes) != 1 {
		t.Errorf("%d codes after all have expired, %v", len(store.codes), err)
	}
}

func TestRevoke(t *testing.T) {
	clock, store := newClock(), new(Memory)
	r := mustOpen(t, store, clock.time)
	d := mustEnrol(t, r, "ann", 1)
	other := mustEnrol(t, r, "bob", 2)
	var told []string
	stop := r.OnChange(func(d Device, _ error) {
		if _, err := r.Device(d.Key); !errors.Is(err, ErrRevoked) {
			t.Errorf("told before it is so: %v", err)
		}
		told = append(told, d.ID)
	})
	for range 2 {
		if err := r.Revoke(d.ID); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0] != d.ID {
		t.Errorf("told %q", told)
	}
	for _, r := range []*Registry{r, mustOpen(t, store, clock.time)} {
		if _, err := r.Device(key(1)); !errors.Is(err, ErrRevoked) {
			t.Error(err)
		}
		if list := r.List(); len(list) != 2 || list[0].Revoked.IsZero() || !list[1].Revoked.IsZero() {
			t.Errorf("%+v", list)
		}
	}
	stop()
	if err := r.Revoke(other.ID); err != nil || len(told) != 1 {
		t.Errorf("told %q after stop, %v", told, err)
	}
	if err := r.Revoke("dev-none"); !errors.Is(err, ErrUnknownDevice) {
		t.Error(err)
	}
}

func TestRevocationDoesNotWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		r := mustOpen(t, store, time.Now)
		d := mustEnrol(t, r, "ann", 1)
		told := 0
		r.OnChange(func(Device, error) { told++ })
		store.fail("Revoke")
		if err := r.Revoke(d.ID); !errors.Is(err, ErrControlDown) {
			t.Errorf("nobody is told that it is not kept: %v", err)
		}
		r.takeUp("") // the store says that the device is good
		if _, err := r.Device(key(1)); !errors.Is(err, ErrRevoked) || told != 1 {
			t.Errorf("%v, told %d times", err, told)
		}
		time.Sleep(90 * time.Second) // one more try, in vain
		synctest.Wait()
		store.fail()
		time.Sleep(keepEvery)
		synctest.Wait()
		if kept, err := store.Device(t.Context(), d.ID); err != nil || kept.Revoked.IsZero() {
			t.Errorf("the revocation never reached the store: %+v, %v", kept, err)
		}
	})
}

// TestAppliancesHearOfEachOther has two registries on one store.
func TestAppliancesHearOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(Memory)
		one, two := mustOpen(t, store, time.Now), mustOpen(t, store, time.Now)
		told := make(chan Device, 10)
		two.OnChange(func(d Device, _ error) { told <- d })
		code := mustCode(t, two, "ann") // each redeems what the other has made
		d, err := one.Enrol(Enrolment{Code: code, Key: key(1), Source: home})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, err := two.Device(key(1)); err != nil || got.ID != d.ID {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := two.Enrol(Enrolment{Code: code, Key: key(2), Source: home}); !errors.Is(err, ErrCodeUsed) {
			t.Errorf("used on the other: %v", err)
		}
		if err := one.Revoke(d.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := two.Device(key(1)); !errors.Is(err, ErrRevoked) || len(told) != 1 {
			t.Errorf("%v, told %d times", err, len(told))
		}
	})
}

// TestNewsAreTakenUpWhenTheStoreAnswers has the store fail just as somebody has something to tell.
func TestNewsAreTakenUpWhenTheStoreAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		r := mustOpen(t, store, time.Now)
		synctest.Wait()
		store.fail("Devices")
		if err := r.takeUp(""); !errors.Is(err, ErrControlDown) {
			t.Errorf("it is taken for done: %v", err)
		}
		store.fail()
		mustEnrol(t, mustOpen(t, store, time.Now), "ann", 1)
		synctest.Wait()
		if _, err := r.Device(key(1)); err != nil {
			t.Error(err)
		}
	})
}

func TestTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		r := mustOpen(t, store, time.Now)
		d := mustEnrol(t, r, "ann", 1)
		for range 100 {
			r.Touch(d.ID, home, "1.0")
			time.Sleep(time.Second)
		}
		synctest.Wait()
		store.fail("Seen")
		time.Sleep(keepEvery) // what fails is not lost
		synctest.Wait()
		store.fail()
		r.Touch(d.ID, home, "1.1\x1b[31m")
		if n := store.count("Seen"); n != 2 {
			t.Errorf("%d writes in 160 seconds, want 2", n)
		}
		got, err := r.Device(key(1))
		if err != nil || !got.LastSeen.Equal(time.Now().Truncate(time.Microsecond)) || got.LastSource != "192.0.2.7" || got.Version != "" {
			t.Errorf("%+v, %v", got, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		kept, err := store.Device(t.Context(), d.ID)
		if err != nil || !kept.LastSeen.Equal(got.LastSeen) {
			t.Errorf("Close did not write: %v, want %v, %v", kept.LastSeen, got.LastSeen, err)
		}
		r.Touch(d.ID, home, "1.2")
		r.Touch("dev-none", home, "1.2")
	})
}

func TestReadersDoNotWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		r := mustOpen(t, store, time.Now)
		d := mustEnrol(t, r, "ann", 1)
		store.wait = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { r.NewCode("bob", 0, Scope{}) })
		synctest.Wait() // it waits for the store
		if _, err := r.Device(key(1)); err != nil {
			t.Error(err)
		}
		r.Touch(d.ID, home, "1.0")
		r.List()
		close(store.wait)
		wg.Wait()
	})
}

func TestARegistryNeedsItsStoreToStart(t *testing.T) {
	store := new(faultyStore)
	store.fail("Devices")
	if _, err := Open(t.Context(), t.TempDir(), store, time.Now); !errors.Is(err, ErrControlDown) {
		t.Error(err)
	}
}

func TestUserNames(t *testing.T) {
	for _, name := range []string{"ann", "ann.b@corp.example", "a-b_c", "007"} {
		if err := CheckUser(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "Ann", "ann b", "ann\n", "\x1b[31mann", "\u202eann", "änn", "group:ops", "*", strings.Repeat("a", 65)} {
		if err := CheckUser(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
		r := mustOpen(t, new(Memory), newClock().time)
		if code, err := r.NewCode(name, 0, Scope{}); !errors.Is(err, ErrName) {
			t.Errorf("%q gets the code %s, %v", name, code, err)
		}
	}
}

func TestDeviceIDs(t *testing.T) {
	if got := DeviceID(key(1)); got != "dev-"+got[4:] || len(got) != 17 || got != strings.ToLower(got) {
		t.Errorf("%q", got)
	}
	if DeviceID(key(1)) == DeviceID(key(2)) {
		t.Error("two keys have one id")
	}
}
