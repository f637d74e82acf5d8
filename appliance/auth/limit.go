package auth

import (
	"container/list"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// Wrong codes that are let through. One source is a person with a slip of the finger, or an office of them; all
// sources together are bounded too, but a source without a failure always has its first try, so that a flood of wrong
// codes from elsewhere keeps nobody out.
const (
	sourceEvery = 10 * time.Second
	sourceBurst = 10
	globalRate  = 10 // a second
	globalBurst = 100
	maxSources  = 65536 // remembered at once, about 20 MB; the one that failed longest ago is forgotten first
)

// A limiter counts failures. It is not safe for use by several goroutines: the Registry's lock guards it.
type limiter struct {
	global  *rate.Limiter
	sources map[netip.Prefix]*list.Element
	recent  *list.List // of *failures, the latest in front
}

type failures struct {
	source netip.Prefix
	rate   *rate.Limiter
}

func newLimiter() *limiter {
	return &limiter{
		global:  rate.NewLimiter(globalRate, globalBurst),
		sources: make(map[netip.Prefix]*list.Element),
		recent:  list.New(),
	}
}

// allow reports whether source may try now.
func (l *limiter) allow(source netip.Addr, now time.Time) bool {
	e, known := l.sources[Network(source)]
	if !known {
		return true
	}
	return e.Value.(*failures).rate.TokensAt(now) >= 1 && l.global.TokensAt(now) >= 1
}

// fail notes a wrong code from source.
func (l *limiter) fail(source netip.Addr, now time.Time) {
	l.global.AllowN(now, 1)
	key := Network(source)
	e, known := l.sources[key]
	if !known {
		if l.recent.Len() == maxSources {
			oldest := l.recent.Back()
			delete(l.sources, oldest.Value.(*failures).source)
			l.recent.Remove(oldest)
		}
		e = l.recent.PushFront(&failures{key, rate.NewLimiter(rate.Every(sourceEvery), sourceBurst)})
		l.sources[key] = e
	}
	e.Value.(*failures).rate.AllowN(now, 1)
	l.recent.MoveToFront(e)
}

// Network is what counts as one source: an IPv4 address, or the /64 that an IPv6 host picks its addresses from.
func Network(source netip.Addr) netip.Prefix {
	source = source.Unmap().WithZone("")
	bits := 64
	if source.Is4() {
		bits = 32
	}
	p, _ := source.Prefix(bits) // the zero address has the zero prefix, one source like any other
	return p
}
