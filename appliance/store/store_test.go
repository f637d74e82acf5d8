package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

const (
	slow = 30 * time.Second // of one call, where the machine may be busy
	soon = 60 * time.Second // for what happens by itself
)

var start = time.Date(2026, 3, 2, 12, 0, 0, 123456000, time.UTC)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerFolder); dir != "" {
		os.Exit(writeUntilKilled(dir))
	}
	code := m.Run()
	stopShared()
	os.Exit(code)
}

// onBoth runs a test on an empty database of each kind. again opens the same one once more, as another appliance does.
func onBoth(t *testing.T, f func(t *testing.T, s *Store, again func() *Store)) {
	run := func(t *testing.T, cfg Config) {
		cfg.Timeout, cfg.Clock = slow, func() time.Time { return start }
		open := func() *Store {
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		}
		f(t, open(), open)
	}
	t.Run("sqlite", func(t *testing.T) { run(t, Config{Dir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) {
		p := theServer(t)
		run(t, Config{URL: p.url(p.database(t))})
	})
}

// eventually repeats f until it succeeds.
func eventually(t *testing.T, f func() error) error {
	t.Helper()
	deadline := time.Now().Add(soon)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A told is what a Watch says.
type told struct{ changes chan Change }

func watch(t *testing.T, s *Store) told {
	w := told{make(chan Change, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(c Change) error {
			w.changes <- c
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	})
	return w
}

// want wants the next change to be this one.
func (w told) want(t *testing.T, want Change) {
	t.Helper()
	select {
	case got := <-w.changes:
		if got != want {
			t.Errorf("told of %+v, want %+v", got, want)
		}
	case <-time.After(soon):
		t.Fatalf("not told of %+v", want)
	}
}

// wantSoon wants this change, perhaps after others.
func (w told) wantSoon(t *testing.T, want Change) {
	t.Helper()
	timeout := time.After(soon)
	for {
		select {
		case got := <-w.changes:
			if got == want {
				return
			}
		case <-timeout:
			t.Fatalf("not told of %+v", want)
		}
	}
}

// must is for calls that return nothing but an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is wants an error of a kind; nil wants none.
func is(t *testing.T, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) || kind == nil && err != nil {
		t.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if len(id) != 32 || seen[id] {
			t.Fatal(id)
		}
		seen[id] = true
	}
}

func TestWhatGoesInIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		for what, l := range map[string]Lock{
			"a long text":   {Kind: LockUser, Name: string(make([]byte, maxText+1))},
			"no UTF-8":      {Kind: LockUser, Name: "\xff"},
			"a NUL":         {Kind: LockUser, Name: "a\x00b"},
			"a NUL, as why": {Kind: LockUser, Name: "ann", Why: "\x00"},
		} {
			if err := s.SetLock(t.Context(), l); err == nil {
				t.Errorf("%s is taken", what)
			}
		}
		if err := s.Keep(t.Context(), OneTime{Kind: "k", Hash: []byte{1}, Data: make([]byte, maxData+1)}); err == nil {
			t.Error("long data is taken")
		}
		if locks, err := s.Locks(t.Context(), start); len(locks) != 0 || err != nil {
			t.Errorf("%+v, %v", locks, err)
		}
	})
}

func TestACallersEndIsNoFaultOfTheDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		gone := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		is(t, "write", s.SetLock(ctx, Lock{Kind: LockUser, Name: "ann"}), gone)
		_, err := s.Locks(ctx, start)
		is(t, "read", err, gone)
		if errors.Is(err, ErrDown) {
			t.Error("it is taken for the database's")
		}
	})
}

func TestOpenSaysWhy(t *testing.T) {
	for what, cfg := range map[string]Config{
		"no folder":  {Dir: "/nonexistent/folder"},
		"no URL":     {URL: "postgres://%zz"},
		"no server":  {URL: "postgres://sallyport@127.0.0.1:1/sallyport?sslmode=disable"},
		"no such db": {},
	} {
		if what == "no such db" {
			cfg.URL = theServer(t).url("missing")
		}
		if s, err := Open(t.Context(), cfg); err == nil {
			s.Close()
			t.Errorf("%s: it is open", what)
		} else if down := what[:4] == "no s"; errors.Is(err, ErrDown) != down {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "store-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := Open(context.Background(), Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	s.Ask(context.Background(), Approval{ID: "a1", User: "ann", Target: "db-1", Asked: at, Expires: at.Add(time.Hour)})
	for _, by := range []string{"bob", "eve"} {
		_, err := s.Decide(context.Background(), "a1", Approved, by, "", at, at.Add(time.Hour))
		fmt.Println(by, errors.Is(err, ErrConflict))
	}
	// Output:
	// bob false
	// eve true
}
