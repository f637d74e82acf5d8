package auth

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Scope narrows what a device may do to less than its person may. It allows nothing by itself. The zero value narrows
// nothing.
type Scope struct {
	Targets   []string  // names; none: all
	Protocols []string  // none: all
	Until     time.Time // the device's end; zero: it has none
	Link      string    // the guest link that it came by, whose maker's rights are narrowed; empty: its person's are
}

// The bounds of a scope.
const (
	maxScopeTargets = 64
	maxScopeTarget  = 253
	maxScopeLife    = 10 * 366 * 24 * time.Hour
)

// scopeProtocols are those of targets.
var scopeProtocols = []string{"ssh", "rdp", "tcp"}

// IsZero says whether the scope narrows nothing.
func (s Scope) IsZero() bool {
	return len(s.Targets)+len(s.Protocols) == 0 && s.Until.IsZero() && s.Link == ""
}

// Equal says whether both narrow alike.
func (s Scope) Equal(other Scope) bool {
	return slices.Equal(s.Targets, other.Targets) && slices.Equal(s.Protocols, other.Protocols) && s.Until.Equal(other.Until) && s.Link == other.Link
}

// Over says whether the device has come to its end.
func (s Scope) Over(now time.Time) bool { return !s.Until.IsZero() && !now.Before(s.Until) }

// Has says whether a device may reach a target by a protocol, as far as the scope goes.
func (s Scope) Has(target, protocol string) bool {
	return s.HasTarget(target) && s.HasProtocol(protocol)
}

// HasTarget says whether a target is within the scope.
func (s Scope) HasTarget(name string) bool {
	return len(s.Targets) == 0 || slices.Contains(s.Targets, name)
}

// HasProtocol says whether a protocol is within the scope.
func (s Scope) HasProtocol(name string) bool {
	return len(s.Protocols) == 0 || slices.Contains(s.Protocols, name)
}

// String is the scope for people, empty if it narrows nothing.
func (s Scope) String() string {
	var words []string
	if len(s.Targets) > 0 {
		words = append(words, strings.Join(s.Targets, ", "))
	}
	if len(s.Protocols) > 0 {
		words = append(words, "by "+strings.Join(s.Protocols, ", "))
	}
	if !s.Until.IsZero() {
		words = append(words, "until "+s.Until.UTC().Format("2006-01-02 15:04 MST"))
	}
	if s.Link != "" {
		words = append(words, "as a guest by link "+s.Link)
	}
	return strings.Join(words, " ")
}

// Check returns nil for a scope that a code made now may have. Whether there are such targets is for others to say.
func (s Scope) Check(now time.Time) error {
	if len(s.Targets) > maxScopeTargets {
		return &Error{ErrName.Code, fmt.Sprintf("a code is for at most %d targets", maxScopeTargets), "leave targets out to mean all that its person may reach"}
	}
	for _, name := range s.Targets {
		if name == "" || len(name) > maxScopeTarget {
			return &Error{ErrName.Code, "not a target's name", fmt.Sprintf("%.80q is not one", name)}
		}
	}
	for _, name := range s.Protocols {
		if !slices.Contains(scopeProtocols, name) {
			return &Error{ErrName.Code, fmt.Sprintf("%.16q is no protocol", name), "there are " + strings.Join(scopeProtocols, ", ")}
		}
	}
	if !s.Until.IsZero() && (!s.Until.After(now) || s.Until.Sub(now) > maxScopeLife) {
		return &Error{ErrName.Code, "a device can end within the next ten years only", "give a time to come, or none"}
	}
	return nil
}

// sorted is the scope without repetitions.
func (s Scope) sorted() Scope {
	tidy := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	return Scope{Targets: tidy(s.Targets), Protocols: tidy(s.Protocols), Until: s.Until.Truncate(time.Microsecond), Link: s.Link}
}

// barred says why a device may not go on at a time, or nil.
func (d Device) barred(now time.Time) error {
	switch {
	case !d.Revoked.IsZero():
		return ErrRevoked
	case d.Scope.Over(now):
		no := *ErrDeviceExpired
		no.Sentence += " at " + d.Scope.Until.UTC().Format("2006-01-02 15:04 MST")
		return &no
	}
	return nil
}

// ScopeOf is what narrows a device, or why it may not go on.
func (r *Registry) ScopeOf(id string) (Scope, error) {
	d, _ := r.device(id)
	return d.Scope, d.barred(r.clock())
}

// expire tells the watchers of devices that come to their ends, until ctx ends.
func (r *Registry) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, d := range r.over(told) {
			told[d.ID] = d.Scope.Until
			r.tell(d, d.barred(r.clock()))
		}
	}
}

// over are the devices that have come to their ends since they were told of.
func (r *Registry) over(told map[string]time.Time) (over []Device) {
	now := r.clock()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for id, d := range r.devices {
		if d.Revoked.IsZero() && d.Scope.Over(now) && !told[id].Equal(d.Scope.Until) {
			over = append(over, d)
		}
	}
	slices.SortFunc(over, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	return over
}

// tell tells the watchers what is different about a device. The caller does not hold mu.
func (r *Registry) tell(d Device, why error) {
	r.mu.RLock()
	watchers := slices.Collect(maps.Values(r.watch))
	r.mu.RUnlock()
	for _, f := range watchers {
		f(d, why)
	}
}
