package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// The tables, in steps that both databases understand: SQLite takes any word for a type, and keeps what it is given in
// a column of type BYTEA as it is. A step that has landed is never changed. A column that a later step adds has a
// DEFAULT, so that older backups can be restored.
//
//go:embed migrations/*.sql
var migrations embed.FS

// latest asks for all steps.
const latest = math.MaxInt64

// migrate takes the steps that the database lacks, up to a version. Of appliances that start at once, one does.
func (s *Store) migrate(ctx context.Context, version int64) error {
	p, err := s.provider()
	if err != nil {
		return err
	}
	for begin := time.Now(); ; {
		have, known, err := p.GetVersions(ctx)
		switch {
		case busy(err) && time.Since(begin) < s.cfg.Timeout && ctx.Err() == nil:
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return s.fault(ctx, ctx, "read the version of the tables", err)
		case have > known:
			return fmt.Errorf("%w: its tables are of version %d, this program knows %d", ErrLater, have, known)
		case have < known && s.cfg.Existing:
			return fmt.Errorf("%w: of version %d, not %d", ErrEarlier, have, known)
		case have >= min(version, known):
			return nil
		}
		if have > 0 && s.cfg.Trial {
			if err := s.keep(ctx); err != nil {
				return err
			}
		}
		if _, err = p.UpTo(ctx, min(version, known)); err == nil {
			return nil
		}
		// Another process may have been faster: SQLite has no lock around a step and its number.
		now, _, fault := p.GetVersions(ctx)
		again := busy(errors.Join(err, fault)) && time.Since(begin) < s.cfg.Timeout
		if !again && (fault != nil || now == have) {
			return s.fault(ctx, ctx, "bring the tables up to date", err)
		}
	}
}

func (s *Store) provider() (*goose.Provider, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithTableName("versions"), goose.WithDisableGlobalRegistry(true)}
	if s.dialect == sqliteDialect {
		return goose.NewProvider(goose.DialectSQLite3, s.write, steps, options...)
	}
	one, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 30))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, s.write, steps, append(options, goose.WithSessionLocker(one))...)
}

// schema returns the version of the tables.
func (s *Store) schema(ctx context.Context) (int64, error) {
	p, err := s.provider()
	if err != nil {
		return 0, err
	}
	version, err := p.GetDBVersion(ctx)
	return version, s.fault(ctx, ctx, "read the version of the tables", err)
}
