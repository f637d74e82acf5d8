package pending

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTakenOnce(t *testing.T) {
	m := NewMemory(Config{})
	if err := m.Put(t.Context(), "k", []byte("v"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := m.Put(t.Context(), "k", []byte("w"), time.Minute); err == nil {
		t.Error("a key is used twice")
	}
	for range 2 {
		if value, err := m.Look(t.Context(), "k"); err != nil || string(value) != "v" {
			t.Errorf("%q, %v", value, err)
		}
	}
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			value, err := m.Take(t.Context(), "k")
			switch {
			case err == nil && string(value) == "v":
				got.Add(1)
			case !errors.Is(err, ErrUnknown):
				t.Errorf("%q, %v", value, err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("taken %d times", got.Load())
	}
	if m.bytes != 0 || m.order.Len() != 0 {
		t.Errorf("%d bytes of %d items are left", m.bytes, m.order.Len())
	}
}

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(Config{})
		for _, key := range []string{"in time", "late"} {
			if err := m.Put(t.Context(), key, []byte("v"), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute - 1)
		if _, err := m.Take(t.Context(), "in time"); err != nil {
			t.Error(err)
		}
		if _, err := m.Look(t.Context(), "late"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := m.Look(t.Context(), "late"); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		if _, err := m.Take(t.Context(), "late"); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}

func TestTheOldestIsForgotten(t *testing.T) {
	for what, c := range map[string]Config{"by number": {Max: 3}, "by size": {Bytes: 3 * 11}} {
		m := NewMemory(c)
		for i := range 5 {
			if err := m.Put(t.Context(), fmt.Sprint(i), make([]byte, 10), time.Minute); err != nil {
				t.Fatal(what, err)
			}
		}
		for i := range 5 {
			if _, err := m.Take(t.Context(), fmt.Sprint(i)); (err == nil) != (i >= 2) {
				t.Errorf("%s: %d: %v", what, i, err)
			}
		}
		if m.bytes != 0 {
			t.Errorf("%s: %d bytes are left", what, m.bytes)
		}
	}
	if err := NewMemory(Config{Bytes: 10}).Put(t.Context(), "k", make([]byte, 10), time.Minute); err == nil {
		t.Error("more than all fits")
	}
}
