package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A dialect is what differs between the databases.
type dialect int

const (
	sqliteDialect dialect = iota
	postgresDialect
)

// Bounds of one value that goes in.
const (
	maxText = 64 << 10
	maxData = 16 << 20
)

// A change is a transaction that writes. What it notes is told to all who watch, once it is committed.
type change struct {
	ctx   context.Context
	tx    *sql.Tx
	notes []Change
}

// change runs f in a transaction of its own: all of it happens, or nothing.
func (s *Store) change(ctx context.Context, what string, f func(c *change) error) error {
	if _, err := s.Health(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.heard(s.fault(ctx, limited, what, s.transact(limited, f)))
}

func (s *Store) transact(ctx context.Context, f func(c *change) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // of nothing, after a commit
	c := &change{ctx: ctx, tx: tx}
	if err := f(c); err != nil {
		return err
	}
	if err := s.tell(c); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if len(c.notes) > 0 {
		s.wake()
	}
	return nil
}

// exec runs a statement and returns how many rows it has changed.
func (c *change) exec(query string, args ...any) (int64, error) {
	if err := checkArgs(args); err != nil {
		return 0, err
	}
	result, err := c.tx.ExecContext(c.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// must runs a statement that changes a row, or else fails with err.
func (c *change) must(err error, query string, args ...any) error {
	n, fault := c.exec(query, args...)
	if fault == nil && n == 0 {
		return err
	}
	return fault
}

// row runs a query for one row.
func (c *change) row(query string, args ...any) scanner {
	if err := checkArgs(args); err != nil {
		return failed{err}
	}
	return c.tx.QueryRowContext(c.ctx, query, args...)
}

// noteEach makes a change that returns the ids of the entries that it has changed, and notes those.
func (c *change) noteEach(subject, query string, args ...any) error {
	rows, err := c.tx.QueryContext(c.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		c.note(subject, id)
	}
	return rows.Err()
}

// note has the watchers told.
func (c *change) note(subject, key string) {
	c.notes = append(c.notes, Change{Subject: subject, Key: key})
}

// A scanner is a row.
type scanner interface{ Scan(...any) error }

type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

// list reads all rows of a query.
func list[T any](ctx context.Context, s *Store, what string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	if _, err := s.Health(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	read := func() (all []T, err error) {
		if err := checkArgs(args); err != nil {
			return nil, err
		}
		rows, err := s.read.QueryContext(limited, query, args...)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			one, err := scan(rows)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, rows.Err()
	}
	all, err := read()
	return all, s.heard(s.fault(ctx, limited, what, err))
}

// one reads the first row of a query; ErrNotFound if there is none.
func one[T any](ctx context.Context, s *Store, what string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	var none T
	all, err := list(ctx, s, what, scan, query, args...)
	switch {
	case err != nil:
		return none, err
	case len(all) == 0:
		return none, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return all[0], nil
}

// checkArgs refuses what is too long, and text that one of the databases would not keep.
func checkArgs(args []any) error {
	for _, arg := range args {
		switch v := arg.(type) {
		case string:
			if len(v) > maxText {
				return fmt.Errorf("a text of %d bytes is longer than %d", len(v), maxText)
			}
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return fmt.Errorf("a text is not UTF-8 without NUL")
			}
		case []byte:
			if len(v) > maxData {
				return fmt.Errorf("data of %d bytes is longer than %d", len(v), maxData)
			}
		}
	}
	return nil
}

// fault says what was being done and sorts the cause. given is the caller's context, limited that of this call.
func (s *Store) fault(given, limited context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case given.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(given))
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case isOurs(err):
		return fmt.Errorf("%s: %w", what, err)
	case limited.Err() != nil:
		return fmt.Errorf("%s: %w within %v", what, ErrDown, s.cfg.Timeout)
	}
	sort := sqliteFault
	if s.dialect == postgresDialect {
		sort = postgresFault
	}
	switch kind := sort(err); kind {
	case nil:
		return fmt.Errorf("%s: %w", what, err)
	case ErrConflict:
		return fmt.Errorf("%s: %w", what, ErrConflict)
	default:
		return fmt.Errorf("%s: %w: %w", what, kind, err)
	}
}

// heard is err, taken down for Health.
func (s *Store) heard(err error) error {
	s.health.heard(err == nil, errors.Is(err, ErrDown))
	return err
}

// isOurs says whether err has been sorted already.
func isOurs(err error) bool {
	for _, kind := range []error{ErrDown, ErrConflict, ErrNotFound, ErrFull, ErrBackup, ErrNotEmpty, ErrLater} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// micros is a time as it is kept.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// stamp reads a time.
type stamp struct{ *time.Time }

// Scan implements sql.Scanner.
func (s stamp) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is kept as %T", v)
	}
	*s.Time = time.Time{}
	if n != 0 {
		*s.Time = time.UnixMicro(n).UTC()
	}
	return nil
}

// names is a list of texts as it is kept.
func names(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(list) // texts always have a form
	return string(text)
}

// nameList reads a list of texts.
type nameList struct{ list *[]string }

// Scan implements sql.Scanner.
func (l nameList) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("a list is kept as %T", v)
	}
	*l.list = nil
	return json.Unmarshal([]byte(text), l.list)
}

// data is bytes as they are kept: none are NULL.
func data(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}
