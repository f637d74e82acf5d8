package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestThePasswordOfEachConnectionIsAsked(t *testing.T) {
	p := theServer(t)
	password, asked := "wrong", 0
	cfg := Config{URL: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", p.port, p.database(t)), Timeout: slow,
		Password: func() (string, error) { asked++; return password, nil }}
	_, err := Open(t.Context(), cfg)
	if !errors.Is(err, ErrDown) || strings.Contains(err.Error(), password) {
		t.Fatalf("with a wrong password: %v", err)
	}
	password = serverPassword
	s, err := Open(t.Context(), cfg)
	if err != nil || asked < 2 {
		t.Fatalf("asked %d times, %v", asked, err)
	}
	defer s.Close()
	if strings.Contains(cfg.URL, serverPassword) {
		t.Fatal("the test is of no use")
	}
}

func TestPostgresIsDialledAsToldTo(t *testing.T) {
	p := theServer(t)
	var dialled atomic.Value
	s, err := Open(t.Context(), Config{URL: "postgres://postgres@db.example:1/" + p.database(t) + "?sslmode=disable", Timeout: slow,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled.Store(network + " " + address)
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, ".s.PGSQL."+strconv.Itoa(p.port)))
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := dialled.Load(); got != "tcp db.example:1" {
		t.Errorf("dialled %v", got)
	}
}

// TestPostgresGoesAndComes crashes the server under a store that is in use, stops it in its tracks, and has it come back.
func TestPostgresGoesAndComes(t *testing.T) {
	p := ownServer(t)
	s, err := Open(t.Context(), Config{URL: p.url(p.database(t)), Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := watch(t, s)
	w.want(t, Change{})
	lock := func(name string) error {
		return s.SetLock(t.Context(), Lock{Kind: LockUser, Name: name, Created: start})
	}
	if err := lock("before"); err != nil {
		t.Fatal(err)
	}
	w.want(t, Change{OfLock, "user:before"})

	for _, way := range []struct {
		what     string
		down, up func()
	}{
		{"crashed", func() { p.signal(syscall.SIGQUIT); <-p.gone }, func() {
			if err := p.start(); err != nil {
				t.Fatal(err)
			}
		}},
		{"stopped in its tracks", p.freeze, p.thaw},
	} {
		way.down()
		for range 3 {
			begin := time.Now()
			err := lock("never")
			if took := time.Since(begin); !errors.Is(err, ErrDown) || took > 10*time.Second {
				t.Errorf("%s: %v after %v", way.what, err, took)
			}
			if _, err := s.Locks(t.Context(), start); !errors.Is(err, ErrDown) {
				t.Errorf("%s: read: %v", way.what, err)
			}
		}
		way.up()
		if err := eventually(t, func() error { return lock(way.what) }); err != nil {
			t.Fatalf("%s, and back again: %v", way.what, err)
		}
		w.wantSoon(t, Change{OfLock, "user:" + way.what})
	}
}

// TestWatchAcrossRestarts has one store make changes while another, that watches, loses its server again and again.
func TestWatchAcrossRestarts(t *testing.T) {
	p := ownServer(t)
	database := p.database(t)
	writer, reader := p.open(t, database), p.open(t, database)
	w := watch(t, reader)
	w.want(t, Change{})
	for round := range 3 {
		for i := range 20 {
			name := fmt.Sprintf("%d-%d", round, i)
			if err := eventually(t, func() error { return writer.SetLock(t.Context(), Lock{Kind: LockUser, Name: name, Created: start}) }); err != nil {
				t.Fatal(err)
			}
			if i == 10 { // with changes on their way
				p.stop()
				if err := p.start(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range 20 {
			w.wantSoon(t, Change{OfLock, fmt.Sprintf("user:%d-%d", round, i)})
		}
	}
}

// TestPollingMakesUpForSilence takes the notifications away.
func TestPollingMakesUpForSilence(t *testing.T) {
	p := theServer(t)
	database := p.database(t)
	writer, reader := p.open(t, database), p.open(t, database)
	w := watch(t, reader)
	w.want(t, Change{})
	// Nobody is notified of what is written behind the store's back.
	if _, err := writer.write.ExecContext(t.Context(), "INSERT INTO changes (id, subject, name) VALUES (1, $1, 'x')", OfLock); err != nil {
		t.Fatal(err)
	}
	w.want(t, Change{OfLock, "x"})
}

// open opens a store on a database of the server.
func (p *server) open(t *testing.T, database string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: p.url(database), Timeout: slow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestWatchersShareAListener: however many watch, one connection listens, and none when nobody watches any more.
func TestWatchersShareAListener(t *testing.T) {
	p := theServer(t)
	s, err := Open(t.Context(), Config{URL: p.url(p.database(t)), Timeout: slow})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	listeners := func(want int) {
		t.Helper()
		n := -1
		for end := time.Now().Add(slow); n != want && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			must(t, s.read.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'").Scan(&n))
		}
		if n != want {
			t.Errorf("%d connections listen, want %d", n, want)
		}
	}
	for range 2 {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		told := make(chan Change, 100)
		for range 5 {
			wg.Go(func() { s.Watch(ctx, func(c Change) error { told <- c; return nil }) })
		}
		for range 5 {
			<-told
		}
		listeners(1)
		stop()
		wg.Wait()
		listeners(0)
	}
}
