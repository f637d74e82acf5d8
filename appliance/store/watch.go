package store

import (
	"context"
	"fmt"
	"time"
)

// The subjects of changes.
const (
	OfDevice   = "device"
	OfAccount  = "account"
	OfSignIn   = "signin"
	OfLock     = "lock"
	OfApproval = "approval"
	OfAccess   = "access"
	OfKey      = "key"
	OfHostKey  = "hostkey"
	OfGuest    = "guest"
)

// A Change says that something is not any more as it was. The zero Change says that anything may be so.
type Change struct {
	Subject string
	Key     string // the entry: an id or a name, of a lock "kind:name"; empty where there is one only
}

// keptChanges is how many changes are kept for those who watch. Who falls behind by more is told the zero Change.
const keptChanges = 10_000

// pollEvery is how long a change may go unnoticed where nothing tells of it.
const pollEvery = time.Second

// tell writes down what a transaction has changed, as the last thing it does. Changes are numbered without a gap in the
// order of their commits: who has seen one has seen all before it.
func (s *Store) tell(c *change) error {
	if len(c.notes) == 0 {
		return nil
	}
	if s.dialect == postgresDialect {
		if _, err := c.exec("SELECT pg_advisory_xact_lock($1)", int64(0x73616c6c79)); err != nil { // until the commit
			return err
		}
	}
	var last int64
	if err := c.row("SELECT COALESCE(MAX(id), 0) FROM changes").Scan(&last); err != nil {
		return err
	}
	for _, n := range c.notes {
		last++
		if _, err := c.exec("INSERT INTO changes (id, subject, name) VALUES ($1, $2, $3)", last, n.Subject, n.Key); err != nil {
			return err
		}
	}
	if _, err := c.exec("DELETE FROM changes WHERE id <= $1", last-keptChanges); err != nil {
		return err
	}
	if s.dialect == postgresDialect {
		_, err := c.exec("SELECT pg_notify($1, '')", channel)
		return err
	}
	return nil
}

// Watch calls f with every change, of this process too, until ctx ends: with the zero Change first, and again where it
// cannot say what was missed. An error of f's has it called with the same change again, a moment later. While the database
// does not answer Watch waits; it loses nothing.
func (s *Store) Watch(ctx context.Context, f func(Change) error) error {
	wake := s.awake()
	defer s.asleep(wake)
	w := &watcher{store: s, f: f, last: -1}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := w.catchUp(ctx); err != nil && ctx.Err() == nil && !w.failing {
			s.cfg.Log.Warn("changes are not heard of", "cause", err)
			w.failing = true
		} else if err == nil && w.failing {
			s.cfg.Log.Info("changes are heard of again")
			w.failing = false
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-wake:
		}
		if w.failing { // what wakes does not help
			select {
			case <-ctx.Done():
			case <-time.After(pollEvery / 4):
			}
		}
	}
}

// awake is where a watcher hears that something may have changed. The first has the store listen to the database, by one
// connection for all.
func (s *Store) awake() chan struct{} {
	wake := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.woke) == 0 && s.dialect == postgresDialect {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		s.quiet = func() { stop(); <-done }
		go func() {
			defer close(done)
			s.keepListening(ctx)
		}()
	}
	s.woke[wake] = true
	return wake
}

// asleep is the end of awake; the last ends the listening.
func (s *Store) asleep(wake chan struct{}) {
	s.mu.Lock()
	delete(s.woke, wake)
	quiet := func() {}
	if len(s.woke) == 0 && s.quiet != nil {
		quiet, s.quiet = s.quiet, nil
	}
	s.mu.Unlock()
	quiet()
}

// keepListening hears of changes in good time; polling makes up for what it misses.
func (s *Store) keepListening(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.listen(ctx, s.wake)
		s.cfg.Log.Debug("not listening to the database", "cause", err)
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
}

// wake has the watchers of this process look at once.
func (s *Store) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.woke {
		poke(c)
	}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// A watcher is how far a Watch has come.
type watcher struct {
	store   *Store
	f       func(Change) error
	last    int64 // the number of the latest change that f has taken; -1 before the first
	failing bool
}

type numbered struct {
	id int64
	Change
}

// catchUp has f take what has changed since.
func (w *watcher) catchUp(ctx context.Context) error {
	const page = 1000
	for {
		first, last, err := w.store.span(ctx)
		if err != nil {
			return err
		}
		switch {
		case w.last < 0, last < w.last, w.last < first-1: // the beginning, another database, or too far behind
			if err := w.f(Change{}); err != nil {
				return fmt.Errorf("take up all: %w", err)
			}
			w.last = last
		case w.last == last:
			return nil
		}
		scan := func(row scanner) (n numbered, err error) {
			err = row.Scan(&n.id, &n.Subject, &n.Key)
			return n, err
		}
		news, err := list(ctx, w.store, "read the changes", scan, "SELECT id, subject, name FROM changes WHERE id > $1 ORDER BY id LIMIT $2", w.last, page)
		if err != nil {
			return err
		}
		for _, n := range news {
			if n.id != w.last+1 {
				break // the first ones were forgotten meanwhile: begin again
			}
			if err := w.f(n.Change); err != nil {
				return fmt.Errorf("take up %s %s: %w", n.Subject, n.Key, err)
			}
			w.last = n.id
		}
	}
}

// span returns the numbers of the first and the last change that are kept; 0 and 0 where there is none.
func (s *Store) span(ctx context.Context) (first, last int64, err error) {
	type ends struct{ first, last int64 }
	scan := func(row scanner) (e ends, err error) {
		err = row.Scan(&e.first, &e.last)
		return e, err
	}
	e, err := one(ctx, s, "read the changes", scan, "SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) FROM changes")
	return e.first, e.last, err
}
