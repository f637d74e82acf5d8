package lockout

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/auth"
)

var home = netip.MustParseAddr("192.0.2.1")

// waits returns how long an attempt would have to wait; one that is let through fails.
func waits(t *testing.T, l *Limiter, a Attempt) time.Duration {
	t.Helper()
	_, err := l.Begin(a)
	if err == nil {
		return 0
	}
	w, ok := errors.AsType[*Wait](err)
	if !ok || !errors.Is(err, ErrWait) {
		t.Fatal(err)
	}
	return w.For
}

func TestPenaltiesDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		ann := Attempt{Account: "ann", Source: home}
		var got []time.Duration
		for range 20 {
			if w := waits(t, l, ann); w != 0 {
				t.Fatalf("held up for %v after the penalty", w)
			}
			w := waits(t, l, ann)
			got = append(got, w)
			time.Sleep(w)
		}
		want := []time.Duration{0, 0} // until the fifth failure the second look is let through too
		for p := time.Second; len(want) < len(got); p = min(2*p, 15*time.Minute) {
			want = append(want, p)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, not %v", got, want)
		}
	})
}

// free counts how many attempts in a row are let through now.
func free(l *Limiter, a Attempt) int {
	for n := 0; ; n++ {
		if _, err := l.Begin(a); err != nil || n == 1000 {
			return n
		}
	}
}

func TestTheFifthFailureCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		if n := free(l, Attempt{Account: "ann", Source: home}); n != 5 {
			t.Errorf("%d attempts in a row", n)
		}
		if w := waits(t, l, Attempt{Account: "ann", Source: netip.MustParseAddr("198.51.100.7")}); w != time.Second {
			t.Errorf("the account waits %v elsewhere", w)
		}
		if w := waits(t, l, Attempt{Account: "bob", Source: home}); w != time.Second {
			t.Errorf("the source waits %v with another account", w)
		}
		if w := waits(t, l, Attempt{Account: "bob", Source: netip.MustParseAddr("192.0.2.2")}); w != 0 {
			t.Errorf("another account from another source waits %v", w)
		}
	})
}

func TestASourceIsASlash64(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for i := range 5 {
			waits(t, l, Attempt{Account: fmt.Sprint(i), Source: netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i))})
		}
		if w := waits(t, l, Attempt{Account: "x", Source: netip.MustParseAddr("2001:db8::ffff:1:2:3")}); w == 0 {
			t.Error("the same /64 has free attempts")
		}
		if w := waits(t, l, Attempt{Account: "x", Source: netip.MustParseAddr("2001:db8:0:1::1")}); w != 0 {
			t.Errorf("another /64 waits %v", w)
		}
		for i := range 5 {
			waits(t, l, Attempt{Account: fmt.Sprint("m", i), Source: netip.MustParseAddr("::ffff:203.0.113.5")})
		}
		if w := waits(t, l, Attempt{Account: "y", Source: netip.MustParseAddr("203.0.113.5")}); w == 0 {
			t.Error("a mapped address is another source")
		}
	})
}

func TestASuccessForgivesTheAccountOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for range 4 {
			waits(t, l, Attempt{Account: "ann", Source: home})
		}
		try, err := l.Begin(Attempt{Account: "ann", Source: home})
		if err != nil {
			t.Fatal(err)
		}
		try.Succeed()
		if n := free(l, Attempt{Account: "ann", Source: netip.MustParseAddr("198.51.100.7")}); n != 5 {
			t.Errorf("the account has %d attempts elsewhere", n)
		}
		if n := free(l, Attempt{Account: "bob", Source: home}); n != 1 {
			t.Errorf("the source has %d attempts left of its fifth", n)
		}
	})
}

func TestCancelTakesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		ann := Attempt{Account: "ann", Source: home}
		for range 100 {
			try, err := l.Begin(ann)
			if err != nil {
				t.Fatal(err)
			}
			try.Cancel()
		}
		if l.accounts.recent.Len() != 0 || l.sources.recent.Len() != 0 {
			t.Error("something is remembered")
		}
		if n := free(l, ann); n != 5 {
			t.Errorf("%d attempts", n)
		}
		// During the penalty's end a success does not make the others of the source wait anew.
		time.Sleep(time.Second)
		try, err := l.Begin(ann)
		if err != nil {
			t.Fatal(err)
		}
		try.Succeed()
		if w := waits(t, l, Attempt{Account: "bob", Source: home}); w != 0 {
			t.Errorf("a success costs the source %v", w)
		}
	})
}

func TestTimeForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		ann := Attempt{Account: "ann", Source: home}
		for range 10 {
			time.Sleep(waits(t, l, ann))
		}
		time.Sleep(24 * time.Hour)
		if n := free(l, ann); n != 5 {
			t.Errorf("%d attempts a day later", n)
		}
	})
}

// Guessing at one account from ever new sources, as fast as it is let through, for thirty days.
func TestGuessesADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Max: 100})
		begun, guesses := time.Now(), 0
		for i := 0; time.Since(begun) < 30*24*time.Hour; i++ {
			source := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if w := waits(t, l, Attempt{Account: "ann", Source: source}); w > 0 {
				time.Sleep(w)
			} else {
				guesses++
			}
		}
		if perDay := guesses / 30; perDay < 90 || perDay > 110 {
			t.Errorf("%d guesses a day", perDay)
		}
	})
}

func TestAThousandAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		var through atomic.Int32
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if _, err := l.Begin(Attempt{Account: "ann", Source: home}); err == nil {
					through.Add(1)
				}
			})
		}
		wg.Wait()
		if through.Load() != 5 {
			t.Errorf("%d were let through", through.Load())
		}
	})
}

func TestAKnownDeviceIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for failures := 0; failures < 12; {
			if w := waits(t, l, Attempt{Account: "ann", Source: home}); w > 0 {
				time.Sleep(w)
			} else {
				failures++
			}
		}
		stranger := waits(t, l, Attempt{Account: "ann", Source: home})
		if stranger < time.Minute {
			t.Fatalf("a stranger waits %v", stranger)
		}
		laptop := Attempt{Account: "ann", Source: home, Device: "laptop"}
		try, err := l.Begin(laptop)
		if err != nil {
			t.Fatal(err)
		}
		try.Succeed()
		if w := waits(t, l, Attempt{Account: "ann", Source: home}); w != stranger {
			t.Errorf("her success makes a stranger wait %v, not %v", w, stranger)
		}
		if n := free(l, laptop); n != 5 {
			t.Errorf("the device has %d attempts", n)
		}
		if n := free(l, Attempt{Account: "ann", Source: home, Device: "phone"}); n != 5 {
			t.Errorf("another device has %d attempts", n)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Max: 10})
		for i := range 1000 {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			waits(t, l, Attempt{Account: fmt.Sprint(i), Source: addr})
			waits(t, l, Attempt{Account: fmt.Sprint(i), Source: addr, Device: "d"})
		}
		for what, n := range map[string]int{
			"accounts": len(l.accounts.byKey), "sources": len(l.sources.byKey), "devices": len(l.devices.byKey),
			"accounts listed": l.accounts.recent.Len(),
		} {
			if n != 10 {
				t.Errorf("%d %s", n, what)
			}
		}
		// What is undone after it was forgotten is not remembered again.
		try, err := l.Begin(Attempt{Account: "ann", Source: home})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			waits(t, l, Attempt{Account: fmt.Sprint(i), Source: netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})})
		}
		try.Cancel()
		if l.accounts.recent.Len() != 10 {
			t.Error(l.accounts.recent.Len())
		}
	})
}

func TestWaitSaysWhatToDo(t *testing.T) {
	err := error(newWait(1500 * time.Millisecond))
	e, ok := errors.AsType[*auth.Error](err)
	if !ok || e.Code != "E_LOGIN_WAIT" || e.Sentence != "too many failed attempts; the next is looked at in 2s" {
		t.Errorf("%+v", e)
	}
}

func TestCookies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCookies([32]byte{1}, time.Now)
		cookie := c.New("ann")
		device := c.Check("ann", cookie)
		if device == "" || device != c.Check("ann", cookie) {
			t.Fatalf("%q names %q", cookie, device)
		}
		if other := c.Check("ann", c.New("ann")); other == "" || other == device {
			t.Errorf("another browser is %q too", other)
		}
		for what, got := range map[string]string{
			"another account":   c.Check("bob", cookie),
			"another fleet":     NewCookies([32]byte{2}, time.Now).Check("ann", cookie),
			"nothing":           c.Check("ann", ""),
			"a dot":             c.Check("ann", "."),
			"another signature": c.Check("ann", cookie[:len(cookie)-4]+"AAAA"),
			"another device":    c.Check("ann", "AAAA"+cookie[4:]),
			"something after":   c.Check("ann", cookie+"."),
			"something long":    c.Check("ann", cookie+string(make([]byte, 1<<20))),
		} {
			if got != "" {
				t.Errorf("%s: taken as %q", what, got)
			}
		}
		time.Sleep(CookieLife - time.Second)
		if c.Check("ann", cookie) == "" {
			t.Error("forgotten early")
		}
		time.Sleep(time.Second)
		if c.Check("ann", cookie) != "" {
			t.Error("known for ever")
		}
	})
}

// TestRightPasswords: who takes attempts back again and again, as one who knows a password does, forgives themselves nothing.
func TestRightPasswords(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(Config{Clock: func() time.Time { return now }})
	a := Attempt{Account: "ann", Source: netip.MustParseAddr("192.0.2.7")}
	guesses := 0
	for end := now.Add(24 * time.Hour); now.Before(end); now = now.Add(time.Minute) {
		right, err := l.Begin(a)
		if err != nil {
			continue
		}
		right.Cancel() // the password
		if _, err := l.Begin(a); err == nil {
			guesses++ // at the second factor, wrong
		}
	}
	if guesses > 120 {
		t.Errorf("%d guesses in a day", guesses)
	}
}
