package auth

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A faultyStore is one that does not answer to some calls, or late.
type faultyStore struct {
	Memory
	mu    sync.Mutex
	down  map[string]bool
	calls map[string]int
	wait  chan struct{} // AddCode waits for it
}

var errDown = fmt.Errorf("%w (the cable is out)", ErrControlDown)

// fail has these calls fail from now on, and all others not.
func (s *faultyStore) fail(calls ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = make(map[string]bool)
	for _, c := range calls {
		s.down[c] = true
	}
}

func (s *faultyStore) called(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = make(map[string]int)
	}
	s.calls[name]++
	if s.down[name] {
		return errDown
	}
	return nil
}

func (s *faultyStore) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

func (s *faultyStore) Devices(ctx context.Context) ([]Device, error) {
	if err := s.called("Devices"); err != nil {
		return nil, err
	}
	return s.Memory.Devices(ctx)
}

func (s *faultyStore) Revoke(ctx context.Context, id string, at time.Time) error {
	if err := s.called("Revoke"); err != nil {
		return err
	}
	return s.Memory.Revoke(ctx, id, at)
}

func (s *faultyStore) Seen(ctx context.Context, seen []Device) error {
	if err := s.called("Seen"); err != nil {
		return err
	}
	return s.Memory.Seen(ctx, seen)
}

func (s *faultyStore) AddCode(ctx context.Context, c Code, forget time.Time, most int) error {
	if s.wait != nil {
		<-s.wait
	}
	if err := s.called("AddCode"); err != nil {
		return err
	}
	return s.Memory.AddCode(ctx, c, forget, most)
}

func (s *faultyStore) Code(ctx context.Context, hash []byte) (Code, error) {
	if err := s.called("Code"); err != nil {
		return Code{}, err
	}
	return s.Memory.Code(ctx, hash)
}

func (s *faultyStore) Enrol(ctx context.Context, hash []byte, d Device, now time.Time) error {
	if err := s.called("Enrol"); err != nil {
		return err
	}
	return s.Memory.Enrol(ctx, hash, d, now)
}
