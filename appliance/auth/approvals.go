package auth

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// An Approval is a request that somebody of a group must say yes to, and what they have said.
type Approval struct {
	ID       string
	User     string // who asks
	Device   string
	Target   string // with its port
	VNet     string
	Protocol string
	Group    string // whose members may decide
	Reason   string // that the person gives; may be empty
	Asked    time.Time
	Expires  time.Time // of the request while it waits, of what it allows afterwards

	Decided  time.Time // zero while it waits
	Approved bool
	By       string
	Why      string // that the approver gives; may be empty
}

// about says whether two are about the same.
func (a Approval) about(b Approval) bool {
	return a.User == b.User && a.Target == b.Target && a.VNet == b.VNet && a.Protocol == b.Protocol && a.Group == b.Group
}

// ErrDecided is the answer to a decision that comes too late.
var ErrDecided = &Error{"E_APPROVAL_DECIDED", "this request is decided already, or has expired", "sallyport approvals lists those that wait"}

// ErrApprovalUnknown is the answer to an id of no request.
var ErrApprovalUnknown = &Error{"E_APPROVAL_UNKNOWN", "there is no such request", "sallyport approvals lists those that wait"}

// ErrManyApprovals is the answer to a person who asks for too much at once.
var ErrManyApprovals = &Error{"E_LIMIT", "too many of your requests wait for approval", "wait until some are decided"}

// maxAsked is how many requests of one person may wait.
const maxAsked = 16

// An ApprovalStore is what Approvals need of a database. A fleet shares one.
type ApprovalStore interface {
	// Approvals are those asked for since a time, the latest first.
	Approvals(ctx context.Context, since time.Time) ([]Approval, error)
	Ask(context.Context, Approval) error
	// Decide decides a request once: ErrDecided for all who come later.
	Decide(ctx context.Context, a Approval) error
	// Withdraw ends what a request allows, at its Expires.
	Withdraw(ctx context.Context, a Approval) error
	// Watch calls f whenever any may have changed, until ctx ends.
	Watch(ctx context.Context, f func() error) error
}

// remembered is how far back requests are looked at: none allows anything for longer.
const remembered = 48 * time.Hour

// Approvals are the requests of an appliance, in memory. Its methods may be called by many goroutines.
type Approvals struct {
	store  ApprovalStore
	clock  func() time.Time
	told   func()
	stop   context.CancelFunc
	follow sync.WaitGroup
	asking sync.Mutex // one at a time, so that the same is not asked for twice

	mu      sync.Mutex
	all     []Approval // the latest first
	changed chan struct{}
}

// OpenApprovals reads the requests of a database and follows what becomes of them; told is called when any has changed. The
// clock is time.Now outside tests.
func OpenApprovals(ctx context.Context, store ApprovalStore, clock func() time.Time, told func()) (*Approvals, error) {
	a := &Approvals{store: store, clock: clock, told: told, changed: make(chan struct{})}
	if err := a.reload(ctx); err != nil {
		return nil, err
	}
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.follow.Go(func() { store.Watch(ctx, func() error { return a.again(ctx) }) })
	return a, nil
}

// Close stops following.
func (a *Approvals) Close() {
	a.stop()
	a.follow.Wait()
}

func (a *Approvals) reload(ctx context.Context) error {
	all, err := a.store.Approvals(ctx, a.clock().Add(-remembered))
	if err != nil {
		return fmt.Errorf("read the approvals: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = all
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

// again reads what has changed, and tells of it.
func (a *Approvals) again(ctx context.Context) error {
	err := a.reload(ctx)
	if err == nil {
		a.told()
	}
	return err
}

// Withdraw ends what a request allows, at its Expires.
func (a *Approvals) Withdraw(ctx context.Context, one Approval) error {
	if err := a.store.Withdraw(ctx, one); err != nil {
		return err
	}
	return a.again(ctx)
}

// Changed is closed when any request may be other than now. Take it before looking.
func (a *Approvals) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Find returns the latest request that is about the same as like and has not expired at a time; false if there is none.
func (a *Approvals) Find(like Approval, at time.Time) (Approval, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if one.about(like) && at.Before(one.Expires) {
			return one, true
		}
	}
	return Approval{}, false
}

// List are the requests that have not expired, the oldest first.
func (a *Approvals) List() []Approval {
	now := a.clock()
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(a.all), func(one Approval) bool { return !now.Before(one.Expires) })
	slices.SortFunc(list, func(x, y Approval) int { return cmp.Or(x.Asked.Compare(y.Asked), strings.Compare(x.ID, y.ID)) })
	return list
}

// Get returns the request whose id begins so, at least eight characters of it.
func (a *Approvals) Get(prefix string) (Approval, error) {
	var found []Approval
	for _, one := range a.List() {
		if len(prefix) >= 8 && strings.HasPrefix(one.ID, prefix) {
			found = append(found, one)
		}
	}
	if len(found) != 1 {
		return Approval{}, ErrApprovalUnknown
	}
	return found[0], nil
}

// Ask adds a request, which lasts until its Expires. Where the same waits already, that is returned.
func (a *Approvals) Ask(ctx context.Context, one Approval) (Approval, error) {
	a.asking.Lock()
	defer a.asking.Unlock()
	if was, there := a.Find(one, a.clock()); there && was.Decided.IsZero() {
		return was, nil
	}
	waiting := 0
	for _, other := range a.List() {
		if other.User == one.User && other.Decided.IsZero() {
			waiting++
		}
	}
	if waiting >= maxAsked {
		return Approval{}, ErrManyApprovals
	}
	one.Asked = a.clock().Truncate(time.Microsecond)
	if err := a.store.Ask(ctx, one); err != nil {
		return Approval{}, err
	}
	return one, a.reload(ctx)
}

// Decide says yes or no to a request, for one and all: who comes later gets ErrDecided. Whether the person may is the
// caller's to know.
func (a *Approvals) Decide(ctx context.Context, one Approval) error {
	one.Decided = a.clock().Truncate(time.Microsecond)
	if err := a.store.Decide(ctx, one); err != nil {
		return err
	}
	return a.reload(ctx)
}
