package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// An Event is one line of the audit trail, beside what it is looked for by.
type Event struct {
	Appliance string
	Seq       int64 // 1, 2, 3 … of its appliance
	Time      time.Time
	Event     string
	User      string
	Target    string
	Line      string // as it was signed
}

const eventColumns = "appliance, seq, happened, event, person, target, line"

func scanEvent(row scanner) (e Event, err error) {
	err = row.Scan(&e.Appliance, &e.Seq, stamp{&e.Time}, &e.Event, &e.User, &e.Target, &e.Line)
	return e, err
}

// MaxEvents is how many events go in, and come out, at once.
const MaxEvents = 1000

// AppendAudit adds events. One that is there already is left as it is, so that what was not acknowledged may be sent again;
// another line under its number is ErrConflict, and nothing is added.
func (s *Store) AppendAudit(ctx context.Context, events []Event) error {
	if len(events) > MaxEvents {
		return fmt.Errorf("append to the audit trail: %d events are more than %d", len(events), MaxEvents)
	}
	return s.change(ctx, "append to the audit trail", func(c *change) error {
		for part := range slices.Chunk(events, eventsAtOnce) {
			if err := c.appendEvents(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// eventsAtOnce is how many events one statement adds: a thousand make ten trips to the database, not a thousand.
const eventsAtOnce = 100

func (c *change) appendEvents(events []Event) error {
	var rows []string
	var args []any
	for _, e := range events {
		n := len(args)
		rows = append(rows, fmt.Sprintf("($%d, $%d, $%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5, n+6, n+7))
		args = append(args, e.Appliance, e.Seq, micros(e.Time), e.Event, e.User, e.Target, e.Line)
	}
	added, err := c.exec("INSERT INTO audit ("+eventColumns+") VALUES "+strings.Join(rows, ", ")+" ON CONFLICT (appliance, seq) DO NOTHING", args...)
	if err != nil || added == int64(len(events)) {
		return err
	}
	for _, e := range events { // some were there: as they are now?
		var there string
		if err := c.row("SELECT line FROM audit WHERE appliance = $1 AND seq = $2", e.Appliance, e.Seq).Scan(&there); err != nil {
			return err
		}
		if there != e.Line {
			return fmt.Errorf("event %d of %s is another one: %w", e.Seq, e.Appliance, ErrConflict)
		}
	}
	return nil
}

// LastAudit returns the number of an appliance's latest event, 0 if there is none.
func (s *Store) LastAudit(ctx context.Context, appliance string) (int64, error) {
	scan := func(row scanner) (seq int64, err error) {
		err = row.Scan(&seq)
		return seq, err
	}
	return one(ctx, s, "read the audit trail", scan, "SELECT COALESCE(MAX(seq), 0) FROM audit WHERE appliance = $1", appliance)
}

// A Query says which events are asked for. What is zero is not asked.
type Query struct {
	Since, Until time.Time
	User, Target string
	After        string // the cursor of the page before
	Limit        int    // default and at most MaxEvents
}

// cursor is where a page ended.
type cursor struct {
	Time      int64  `json:"t"`
	Appliance string `json:"a"`
	Seq       int64  `json:"s"`
}

func (c cursor) String() string {
	text, _ := json.Marshal(c) // numbers and a text have a form
	return base64.RawURLEncoding.EncodeToString(text)
}

// maxCursor bounds what is taken for a cursor before it is looked at.
const maxCursor = 1 << 10

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	if len(text) > maxCursor {
		return c, fmt.Errorf("a cursor of %d characters", len(text))
	}
	form, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(form, &c)
	}
	if err != nil {
		return cursor{}, fmt.Errorf("%.40q is no cursor", text)
	}
	return c, nil
}

// Audit returns a page of events by time, and the cursor of the next; an empty page is the last.
func (s *Store) Audit(ctx context.Context, q Query) (events []Event, next string, err error) {
	after, err := parseCursor(q.After)
	if err != nil {
		return nil, "", err
	}
	until := micros(q.Until)
	if q.Until.IsZero() {
		until = 1<<63 - 1
	}
	limit := q.Limit
	if limit <= 0 || limit > MaxEvents {
		limit = MaxEvents
	}
	query := "SELECT " + eventColumns + " FROM audit WHERE happened >= $1 AND happened < $2 AND (happened, appliance, seq) > ($3, $4, $5)"
	args := []any{micros(q.Since), until, after.Time, after.Appliance, after.Seq}
	for column, value := range map[string]string{"person": q.User, "target": q.Target} {
		if value != "" {
			args = append(args, value)
			query += fmt.Sprintf(" AND %s = $%d", column, len(args))
		}
	}
	query += fmt.Sprintf(" ORDER BY happened, appliance, seq LIMIT %d", limit)
	if events, err = list(ctx, s, "read the audit trail", scanEvent, query, args...); err != nil || len(events) == 0 {
		return nil, "", err
	}
	last := events[len(events)-1]
	return events, cursor{micros(last.Time), last.Appliance, last.Seq}.String(), nil
}

// RemoveAudit removes the events before a time, at most MaxEvents at once, and says how many those were.
func (s *Store) RemoveAudit(ctx context.Context, before time.Time) (n int64, err error) {
	err = s.change(ctx, "remove old events", func(c *change) error {
		n, err = c.exec("DELETE FROM audit WHERE (appliance, seq) IN (SELECT appliance, seq FROM audit WHERE happened < $1 ORDER BY happened LIMIT $2)",
			micros(before), MaxEvents)
		return err
	})
	return n, err
}
