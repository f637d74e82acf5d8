package main

import (
	"context"
	"errors"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/store"
)

// A databaseSink passes the audit log on into the database, so that a fleet's lies in one place. A line has its place there
// by its appliance and number: one that is passed on twice is there once.
type databaseSink struct {
	store     *store.Store
	appliance string
}

// Send implements audit.Sink.
func (s databaseSink) Send(ctx context.Context, records []audit.Record) error {
	events := make([]store.Event, 0, len(records))
	for _, r := range records {
		e := r.Event
		events = append(events, store.Event{Appliance: s.appliance, Seq: int64(e.Seq), Time: e.Time, Event: e.Kind, User: e.User,
			Target: e.Target, Line: string(r.Line)})
	}
	for {
		err := s.store.AppendAudit(ctx, events)
		if !errors.Is(err, store.ErrDown) {
			return err
		}
		select { // the log's own pauses grow, and the database may be back in a moment
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// Close implements audit.Sink; the database is not the sink's.
func (databaseSink) Close() error { return nil }
