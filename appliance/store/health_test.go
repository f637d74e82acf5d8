package store

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestHealth: a server that crashes, and one that is frozen, are known to be away soon, and known to be back.
func TestHealth(t *testing.T) {
	p := ownServer(t)
	s, err := Open(t.Context(), Config{URL: p.url(p.database(t))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Tend(ctx) })
	defer wg.Wait()
	defer cancel()
	until := func(what string, down bool) {
		t.Helper()
		for range 600 {
			since, err := s.Health()
			if errors.Is(err, ErrDown) == down && since.IsZero() != down {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("%s, and nobody knows it", what)
	}
	until("it is there", false)
	p.freeze()
	until("it is frozen", true)
	p.thaw()
	until("it is thawed", false)
	p.signal(syscall.SIGQUIT)
	<-p.gone
	until("it has crashed", true)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	until("it is started again", false)
}

// TestHealthOfSQLite: the embedded database is asked the same way, and answers.
func TestHealthOfSQLite(t *testing.T) {
	s, err := Open(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.probe(t.Context())
	if since, err := s.Health(); err != nil || !since.IsZero() {
		t.Errorf("down since %v: %v", since, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.probe(t.Context())
	if since, err := s.Health(); !errors.Is(err, ErrDown) || since.IsZero() {
		t.Errorf("it is closed, and down since %v: %v", since, err)
	}
}
