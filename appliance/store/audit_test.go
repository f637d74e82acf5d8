package store

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

func event(appliance string, seq int64, at time.Duration, user, target string) Event {
	return Event{Appliance: appliance, Seq: seq, Time: start.Add(at), Event: "open", User: user, Target: target, Line: fmt.Sprintf(`{"seq":%d}`, seq)}
}

func TestAuditIsAppendedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		one, two, three := event("a", 1, 0, "ann", "db-1"), event("a", 2, 0, "bob", "db-1"), event("a", 3, time.Second, "ann", "db-2")
		if seq, err := s.LastAudit(ctx, "a"); seq != 0 || err != nil {
			t.Errorf("%d, %v", seq, err)
		}
		must(t, s.AppendAudit(ctx, []Event{one, two}))
		must(t, s.AppendAudit(ctx, []Event{one, two, three}))
		forged := two
		forged.Line = "{}"
		is(t, "another line", s.AppendAudit(ctx, []Event{event("a", 4, 0, "ann", ""), forged}), ErrConflict)
		if seq, err := s.LastAudit(ctx, "a"); seq != 3 || err != nil {
			t.Errorf("%d, %v", seq, err)
		}
		if got, _, err := s.Audit(ctx, Query{}); err != nil || !reflect.DeepEqual(got, []Event{one, two, three}) {
			t.Errorf("%+v, %v", got, err)
		}
		var many []Event
		for i := range int64(MaxEvents) {
			many = append(many, event("b", i+1, 0, "ann", ""))
		}
		for _, part := range [][]Event{many[500:700], many, nil, many} {
			must(t, s.AppendAudit(ctx, part))
		}
		if seq, err := s.LastAudit(ctx, "b"); seq != MaxEvents || err != nil {
			t.Errorf("%d, %v", seq, err)
		}
		if err := s.AppendAudit(ctx, make([]Event, MaxEvents+1)); err == nil {
			t.Error("too many at once are taken")
		}
	})
}

func TestAuditIsReadInPages(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		var all []Event
		for i := range int64(40) { // two appliances, four events a moment
			all = append(all, event([]string{"a", "b"}[i%2], i/2+1, time.Duration(i/4)*time.Second, []string{"ann", "bob", "eve"}[i%3], []string{"db-1", "db-2"}[i/20]))
		}
		must(t, s.AppendAudit(ctx, all))
		read := func(q Query) (got []Event) {
			for range 100 {
				page, next, err := s.Audit(ctx, q)
				must(t, err)
				if len(page) == 0 {
					return got
				}
				got, q.After = append(got, page...), next
			}
			t.Fatal("the pages do not end")
			return nil
		}
		for what, tt := range map[string]struct {
			q    Query
			want func(Event) bool
		}{
			"all":       {Query{}, func(Event) bool { return true }},
			"by three":  {Query{Limit: 3}, func(Event) bool { return true }},
			"a person":  {Query{User: "ann", Limit: 3}, func(e Event) bool { return e.User == "ann" }},
			"a target":  {Query{Target: "db-2", Limit: 3}, func(e Event) bool { return e.Target == "db-2" }},
			"both":      {Query{User: "eve", Target: "db-1"}, func(e Event) bool { return e.User == "eve" && e.Target == "db-1" }},
			"from":      {Query{Since: start.Add(5 * time.Second), Limit: 7}, func(e Event) bool { return !e.Time.Before(start.Add(5 * time.Second)) }},
			"up to":     {Query{Until: start.Add(5 * time.Second)}, func(e Event) bool { return e.Time.Before(start.Add(5 * time.Second)) }},
			"from a to": {Query{Since: start.Add(time.Second), Until: start.Add(2 * time.Second), Limit: 1}, func(e Event) bool { return e.Time.Equal(start.Add(time.Second)) }},
		} {
			want := map[Event]bool{}
			for _, e := range all {
				if tt.want(e) {
					want[e] = true
				}
			}
			got := read(tt.q)
			for i, e := range got {
				if !want[e] {
					t.Errorf("%s: %+v is not asked for, or twice", what, e)
				}
				delete(want, e)
				if i > 0 && e.Time.Before(got[i-1].Time) {
					t.Errorf("%s: %v after %v", what, e.Time, got[i-1].Time)
				}
			}
			if len(want) > 0 {
				t.Errorf("%s: %d are missing", what, len(want))
			}
		}
		for _, bad := range []string{"!", "AAAA", string(make([]byte, maxCursor+1))} {
			if _, _, err := s.Audit(ctx, Query{After: bad}); err == nil {
				t.Errorf("%.10q is taken for a cursor", bad)
			}
		}
		if n, err := s.RemoveAudit(ctx, start.Add(5*time.Second)); n != 20 || err != nil {
			t.Errorf("%d removed, %v", n, err)
		}
		if left := read(Query{}); len(left) != 20 {
			t.Errorf("%d are left", len(left))
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{1, "a", 2}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		if err != nil {
			return
		}
		if again, err := parseCursor(c.String()); err != nil || again != c {
			t.Fatalf("%+v is read again as %+v, %v", c, again, err)
		}
	})
}
