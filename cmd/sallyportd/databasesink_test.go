package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/store"
)

// twiceSink does not hear that its first batch has arrived.
type twiceSink struct {
	databaseSink
	deaf atomic.Bool
}

func (s *twiceSink) Send(ctx context.Context, records []audit.Record) error {
	err := s.databaseSink.Send(ctx, records)
	if s.deaf.Swap(false) && err == nil {
		return fmt.Errorf("the answer was lost")
	}
	return err
}

// TestDatabaseSink: what is passed on twice is in the database once, in order and without a gap.
func TestDatabaseSink(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log, err := audit.Open(audit.Config{Dir: t.TempDir(), Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	sink := &twiceSink{databaseSink: databaseSink{s, "a"}}
	sink.deaf.Store(true)
	if err := log.Export("fleet", sink); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := log.Write(audit.Event{Kind: audit.FlowOpen, User: "ann", Target: fmt.Sprint("db-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 600 {
		if e := log.Exports(); e[0].Lag == 0 && e[0].Sent >= 50 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	events, _, err := s.Audit(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	for i, e := range events {
		if e.Seq != int64(i+1) || e.Appliance != "a" || e.Line == "" {
			t.Fatalf("event %d is %+v", i, e)
		}
		if e.Event == audit.FlowOpen && e.User == "ann" && e.Target == fmt.Sprint("db-", opened) {
			opened++
		}
	}
	if opened != 50 {
		t.Errorf("%d of 50 events are there", opened)
	}
}
