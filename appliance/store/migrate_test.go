package store

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// tableVersions are the numbers of the steps, which may have gaps.
func tableVersions(t *testing.T) (versions []int64) {
	steps, err := migrations.ReadDir("migrations")
	must(t, err)
	for _, step := range steps {
		version, err := strconv.ParseInt(step.Name()[:5], 10, 64)
		must(t, err)
		versions = append(versions, version)
	}
	return versions
}

// TestFromEveryVersion brings a database from each older version to the latest, with what was in it.
func TestFromEveryVersion(t *testing.T) {
	versions := tableVersions(t)
	last := versions[len(versions)-1]
	from := func(t *testing.T, cfg Config, version int64) {
		cfg.Timeout = slow
		old, err := openTo(t.Context(), cfg, version)
		must(t, err)
		_, err = old.write.ExecContext(t.Context(), "INSERT INTO devices (id, person, name, platform, public, enrolled, last_seen, last_source, version, revoked, signin)"+
			" VALUES ('dev-1', 'ann', '', '', $1, 0, 0, '', '', 0, '')", []byte("k")) // as the first version has it
		must(t, err)
		must(t, old.Close())
		for range 2 { // the second time there is nothing to do
			s, err := Open(t.Context(), cfg)
			must(t, err)
			if got, err := s.schema(t.Context()); got != last || err != nil {
				t.Errorf("version %d, %v", got, err)
			}
			if d, err := s.Device(t.Context(), "dev-1"); err != nil || d.User != "ann" || d.Scope != "" || !d.Expires.IsZero() {
				t.Errorf("%+v, %v", d, err)
			}
			must(t, s.AppendAudit(t.Context(), []Event{event("a", 1, 0, "ann", "")}))
			must(t, s.Close())
		}
	}
	for _, version := range versions[:len(versions)-1] {
		t.Run("sqlite", func(t *testing.T) { from(t, Config{Dir: t.TempDir()}, version) })
		t.Run("postgres", func(t *testing.T) {
			p := theServer(t)
			from(t, Config{URL: p.url(p.database(t))}, version)
		})
	}
}

func TestStepsGoBackToo(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		p, err := s.provider()
		must(t, err)
		_, err = p.DownTo(t.Context(), 0)
		must(t, err)
		again()
		must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
	})
}

func TestALaterVersionIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		if _, err := s.write.ExecContext(t.Context(), "INSERT INTO versions (version_id, is_applied) VALUES (999, $1)", true); err != nil {
			t.Fatal(err)
		}
		is(t, "open", s.migrate(t.Context(), latest), ErrLater)
	})
}

// TestManyStartAtOnce opens an empty database ten times at once.
func TestManyStartAtOnce(t *testing.T) {
	p := theServer(t)
	for what, cfg := range map[string]Config{"sqlite": {Dir: t.TempDir()}, "postgres": {URL: p.url(p.database(t)), Conns: 3}} {
		t.Run(what, func(t *testing.T) {
			cfg.Timeout = slow
			opened := make(chan error)
			for range 10 {
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					s, err := Open(ctx, cfg)
					if err == nil {
						err = s.Close()
					}
					opened <- err
				}()
			}
			for range 10 {
				if err := <-opened; err != nil {
					t.Error(err)
				}
			}
		})
	}
}
