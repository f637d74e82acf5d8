package signin

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/lockout"
)

func TestALoginFromBeginningToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		if len(started.ID) != 26 || started.Path != "/login#"+started.Code || started.Interval != 2*time.Second || time.Until(started.Expires) != 10*time.Minute {
			t.Errorf("%+v", started)
		}
		if e, err := h.poll(started.ID); e != nil || err != nil {
			t.Fatal(e, err)
		}
		view, err := h.Open(t.Context(), strings.ToLower(strings.ReplaceAll(started.Code, "-", " ")), desk)
		if err != nil {
			t.Fatal(err)
		}
		if view.Code != started.Code || view.Name != "ann's laptop" || view.Platform != "linux/amd64" || view.Source != cafe || view.State != Waiting {
			t.Errorf("%+v", view)
		}
		visit := h.signIn()
		if view, err = h.Confirm(t.Context(), visit.Secret, started.Code, desk); err != nil || view.State != Confirmed {
			t.Fatal(view, err)
		}
		time.Sleep(started.Interval)
		e, err := h.poll(started.ID)
		if err != nil || e == nil {
			t.Fatal(e, err)
		}
		if !e.Key.Equal(device.Public()) || e.Name != "ann's laptop" || e.Source != cafe || len(e.SignIn) != 26 || e.SignIn == started.ID ||
			e.Person.User != "ann" || !slices.Equal(e.Person.Groups, []string{"ops"}) || e.Person.Method != "password+totp" || e.Person.MFA.IsZero() {
			t.Errorf("%+v", e)
		}
		time.Sleep(started.Interval)
		if e, err := h.poll(started.ID); e != nil || !errors.Is(err, ErrTaken) {
			t.Error(e, err)
		}
	})
}

// A thousand polls at once, all good ones, yield one enrolment.
func TestAThousandPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		if _, err := h.Confirm(t.Context(), h.signIn().Secret, started.Code, desk); err != nil {
			t.Fatal(err)
		}
		var got, refused atomic.Int32
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() {
				e, err := h.Poll(t.Context(), signed(device, started.ID, uint64(n+1)))
				switch {
				case err == nil && e != nil:
					got.Add(1)
				case errors.Is(err, ErrReplayed), errors.Is(err, ErrSlow), errors.Is(err, ErrTaken):
					refused.Add(1)
				default:
					t.Errorf("%v, %v", e, err)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 || refused.Load() != 999 {
			t.Errorf("%d enrolments, %d refused", got.Load(), refused.Load())
		}
	})
}

func TestPollsThatAreNotTheDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started, other := h.start(), h.start()
		if _, err := h.Confirm(t.Context(), h.signIn().Secret, started.Code, desk); err != nil {
			t.Fatal(err)
		}
		good := signed(device, started.ID, 7)
		for what, c := range map[string]struct {
			poll Poll
			want error
		}{
			"another key":     {signed(thief, started.ID, 7), ErrProof},
			"no signature":    {Poll{ID: started.ID, Counter: 7}, ErrProof},
			"another counter": {Poll{ID: started.ID, Counter: 8, Signature: good.Signature}, ErrProof},
			"another login's": {Poll{ID: started.ID, Counter: 7, Signature: signed(device, other.ID, 7).Signature}, ErrProof},
			"counter zero":    {signed(device, started.ID, 0), ErrReplayed},
			"an unknown id":   {signed(device, "x", 7), ErrUnknownLogin},
			"the code as id":  {signed(device, started.Code, 7), ErrUnknownLogin},
		} {
			if e, err := h.Poll(t.Context(), c.poll); e != nil || !errors.Is(err, c.want) {
				t.Errorf("%s: %v, %v", what, e, err)
			}
		}
		if e, err := h.Poll(t.Context(), good); e == nil || err != nil {
			t.Error(e, err)
		}
		time.Sleep(time.Minute)
		if _, err := h.Poll(t.Context(), good); !errors.Is(err, ErrReplayed) {
			t.Errorf("the same again: %v", err)
		}
	})
}

func TestPollingTooFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		var errs []error
		for range 4 {
			_, err := h.poll(started.ID)
			errs = append(errs, err)
			time.Sleep(pollInterval / 2)
		}
		if errors.Join(errs...) != nil {
			t.Error(errs)
		}
		h.poll(started.ID)
		if _, err := h.poll(started.ID); !errors.Is(err, ErrSlow) {
			t.Error(err)
		}
	})
}

func TestALoginEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		visit := h.signIn()
		time.Sleep(loginTime)
		if _, err := h.poll(started.ID); !errors.Is(err, ErrUnknownLogin) {
			t.Error(err)
		}
		if _, err := h.Open(t.Context(), started.Code, desk); !errors.Is(err, ErrCode) {
			t.Error(err)
		}
		if _, err := h.Confirm(t.Context(), visit.Secret, h.start().Code, desk); !errors.Is(err, ErrVisit) {
			t.Errorf("the visit lives on: %v", err)
		}
	})
}

func TestDeny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		for range 2 {
			if view, err := h.Deny(t.Context(), started.Code, desk); err != nil || view.State != Denied {
				t.Error(view, err)
			}
		}
		visit := h.signIn()
		if _, err := h.Confirm(t.Context(), visit.Secret, started.Code, desk); !errors.Is(err, ErrDecided) {
			t.Error(err)
		}
		if _, err := h.poll(started.ID); !errors.Is(err, ErrDenied) {
			t.Error(err)
		}
		// The visit is still good for another device, and what is confirmed cannot be denied.
		next := h.start()
		if _, err := h.Confirm(t.Context(), visit.Secret, next.Code, desk); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Deny(t.Context(), next.Code, desk); !errors.Is(err, ErrDecided) {
			t.Error(err)
		}
	})
}

func TestOneSignInIsForOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		visit := h.signIn()
		if _, err := h.Confirm(t.Context(), visit.Secret, "BCDF-GHJK", desk); !errors.Is(err, ErrCode) {
			t.Error(err)
		}
		var confirmed atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			code := h.start().Code
			wg.Go(func() {
				_, err := h.Confirm(t.Context(), visit.Secret, code, desk)
				if err == nil {
					confirmed.Add(1)
				} else if !errors.Is(err, ErrVisit) && !errors.Is(err, lockout.ErrWait) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if confirmed.Load() != 1 {
			t.Errorf("%d devices", confirmed.Load())
		}
	})
}

// stale shows a login as it was a moment ago, which is what one of two people sees who confirm it at once.
type stale struct {
	Logins
	was Login
}

func (s stale) ByCode(context.Context, string) (Login, bool, error) { return s.was, true, nil }

func TestTwoPeopleConfirmOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		ann := h.signIn()
		carol, err := h.FinishProvider(t.Context(), "corp", "b", url.Values{"user": {"carol"}, "sub": {"1"}, "browser": {"b"}})
		if err != nil {
			t.Fatal(err)
		}
		read, _ := readCode(started.Code)
		was, _, err := h.Logins.ByCode(t.Context(), read)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Confirm(t.Context(), ann.Secret, started.Code, desk); err != nil {
			t.Fatal(err)
		}
		h.Logins = stale{h.Logins, was}
		if _, err := h.Confirm(t.Context(), carol.Secret, started.Code, desk); !errors.Is(err, ErrDecided) {
			t.Error(err)
		}
		if e, err := h.poll(started.ID); err != nil || e.Person.User != "ann" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestGuessingCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		started := h.start()
		var looked int
		for {
			_, err := h.Open(t.Context(), newCode(), desk)
			if errors.Is(err, lockout.ErrWait) {
				break
			}
			if looked++; !errors.Is(err, ErrCode) || looked > 10 {
				t.Fatal(looked, err)
			}
		}
		if looked != 5 {
			t.Errorf("%d guesses in a row", looked)
		}
		if _, err := h.Open(t.Context(), started.Code, desk); !errors.Is(err, lockout.ErrWait) {
			t.Error(err)
		}
		if _, err := h.Open(t.Context(), started.Code, cafe); err != nil {
			t.Errorf("another source has to wait: %v", err)
		}
		// Looking at one's own login does not buy guesses.
		time.Sleep(time.Second)
		if _, err := h.Open(t.Context(), started.Code, desk); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Open(t.Context(), newCode(), desk); !errors.Is(err, ErrCode) {
			t.Fatal(err)
		}
		if w, ok := errors.AsType[*lockout.Wait](second(h.Open(t.Context(), newCode(), desk))); !ok || w.For != 2*time.Second {
			t.Errorf("%v", w)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for range 20 {
			h.start()
		}
		_, err := h.Start(t.Context(), Start{Key: device.Public().(ed25519.PublicKey), Source: cafe})
		if !errors.Is(err, ErrManyLogins) {
			t.Error(err)
		}
		if _, err := h.Start(t.Context(), Start{Key: device.Public().(ed25519.PublicKey), Source: desk}); err != nil {
			t.Error(err)
		}
		time.Sleep(loginTime)
		h.start()
		for what, in := range map[string]Start{
			"a short key":     {Key: make([]byte, 31), Source: cafe},
			"a long name":     {Key: make([]byte, 32), Name: strings.Repeat("x", 65), Source: cafe},
			"a turned name":   {Key: make([]byte, 32), Name: "a\u202eb", Source: cafe},
			"a platform of 2": {Key: make([]byte, 32), Platform: "a\nb", Source: cafe},
		} {
			if _, err := h.Start(t.Context(), in); err == nil {
				t.Errorf("%s is taken", what)
			}
		}
	})
}

func TestTheMemoryOfLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{Max: 10, PerSource: 3})
		add := func(n int) error {
			return m.Add(t.Context(), Login{
				ID: fmt.Sprint(n), Code: fmt.Sprint("code", n), Source: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Expires: time.Now().Add(loginTime),
			})
		}
		for n := range 15 {
			if err := add(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Add(t.Context(), Login{ID: "x", Code: "code14", Expires: time.Now().Add(loginTime)}); !errors.Is(err, ErrCodeInUse) {
			t.Error(err)
		}
		if _, known, _ := m.ByCode(t.Context(), "code4"); known {
			t.Error("more than ten are kept")
		}
		if _, known, _ := m.ByCode(t.Context(), "code5"); !known {
			t.Error("fewer than ten are kept")
		}
		no := errors.New("no")
		if _, err := m.Update(t.Context(), "5", func(l *Login) error { l.State = Denied; return no }); !errors.Is(err, no) {
			t.Error(err)
		}
		if l, _, _ := m.ByCode(t.Context(), "code5"); l.State != Waiting {
			t.Error("an error changes something")
		}
		time.Sleep(loginTime)
		if _, err := m.Update(t.Context(), "14", func(*Login) error { return nil }); !errors.Is(err, ErrUnknownLogin) {
			t.Error(err)
		}
		if m.order.Len()+len(m.byID)+len(m.byCode)+len(m.bySource) != 0 {
			t.Errorf("%d %d %d %d are left", m.order.Len(), len(m.byID), len(m.byCode), len(m.bySource))
		}
	})
}

func TestCodes(t *testing.T) {
	seen := make(map[rune]int)
	for range 10_000 {
		code := newCode()
		if read, ok := readCode(showCode(code)); !ok || read != code {
			t.Fatalf("%q is read as %q", showCode(code), read)
		}
		for _, r := range code {
			seen[r]++
		}
	}
	for _, r := range letters { // 4,000 of each; 400 are six standard deviations
		if seen[r] < 3600 || seen[r] > 4400 {
			t.Errorf("%d of %c", seen[r], r)
		}
	}
	for _, typed := range []string{"", "BCDF", "BCDF-GHJA", "BCDF-GHJ1", "BCDF-GHJK-L", "BCDF-GHJĶ", strings.Repeat("B", 1000)} {
		if code, ok := readCode(typed); ok {
			t.Errorf("%q is read as %q", typed, code)
		}
	}
	if e, ok := errors.AsType[*auth.Error](error(ErrCode)); !ok || e.Hint == "" {
		t.Error("a person gets no hint")
	}
}

func FuzzReadCode(f *testing.F) {
	f.Add("bcdf-ghjk")
	f.Add("BCDFGHJ\u212a") // a Kelvin sign
	f.Add(" - - ")
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := readCode(typed)
		if again, okAgain := readCode(code); ok && (!okAgain || again != code || len(code) != codeLength) {
			t.Errorf("%q is %q", typed, code)
		}
	})
}
