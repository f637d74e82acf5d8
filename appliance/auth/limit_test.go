package auth

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestWrongCodesAreLimitedBySource(t *testing.T) {
	clock := newClock()
	r := mustOpen(t, new(Memory), clock.time)
	good := mustCode(t, r, "ann")
	try := func(code, source string) error {
		_, err := r.Enrol(Enrolment{Code: code, Key: key(1), Source: netip.MustParseAddr(source)})
		return err
	}
	const wrong = "0000-0000-0000-0000"
	for range sourceBurst {
		if err := try(wrong, "2001:db8::1"); !errors.Is(err, ErrCodeUnknown) {
			t.Fatal(err)
		}
	}
	for what, source := range map[string]string{"the same host": "2001:db8::1", "another address of its /64": "2001:db8::ffff:2"} {
		if err := try(good, source); !errors.Is(err, ErrTooManyTries) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := try(wrong, "192.0.2.1"); !errors.Is(err, ErrCodeUnknown) {
		t.Errorf("another source: %v", err)
	}
	clock.now = clock.now.Add(sourceEvery)
	if err := try(good, "2001:db8::1"); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestGoodCodesAreNotLimited(t *testing.T) {
	r := mustOpen(t, new(Memory), newClock().time)
	for i := range 3 * sourceBurst {
		mustEnrol(t, r, "ann", byte(i))
	}
}

func TestAFloodElsewhereKeepsNobodyOut(t *testing.T) {
	l, now := newLimiter(), newClock().now
	for i := range 2 * globalBurst {
		l.fail(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), now)
	}
	if l.allow(netip.MustParseAddr("10.0.0.1"), now) {
		t.Error("a source of the flood may go on")
	}
	if !l.allow(home, now) {
		t.Error("a source without a failure is kept out")
	}
}

func TestSourcesAreBounded(t *testing.T) {
	l, now := newLimiter(), newClock().now
	for i := range maxSources + 100 {
		l.fail(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now.Add(time.Duration(i)))
	}
	if len(l.sources) != maxSources || l.recent.Len() != maxSources {
		t.Errorf("%d and %d sources are remembered", len(l.sources), l.recent.Len())
	}
	if _, known := l.sources[Network(netip.MustParseAddr("10.0.0.0"))]; known {
		t.Error("the oldest is remembered")
	}
	if l.fail(netip.Addr{}, now); len(l.sources) != maxSources {
		t.Error("an unknown source is not counted")
	}
}
