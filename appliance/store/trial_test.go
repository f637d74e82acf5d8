package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTrial: the tables as they were before a version on trial has changed them can be put back, whatever was written since.
func TestTrial(t *testing.T) {
	versions := tableVersions(t)
	last, before := versions[len(versions)-1], versions[len(versions)-2]
	cfg := Config{Dir: t.TempDir(), Timeout: slow, Trial: true}
	s, err := openTo(t.Context(), cfg, before) // as the version before has made it
	must(t, err)
	must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
	must(t, s.Close())
	path := filepath.Join(cfg.Dir, BeforeFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a new database has one before it: %v", err)
	}

	for range 2 { // it is tried twice, and only the first time changes tables
		s, err = Open(t.Context(), cfg)
		must(t, err)
		must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "bob"}))
		must(t, s.Close())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	// A worker that was killed leaves its journal.
	must(t, os.WriteFile(filepath.Join(cfg.Dir, File+"-wal"), []byte("not of this database"), 0o600))
	for _, want := range []bool{true, false} {
		if back, err := Back(cfg.Dir); err != nil || back != want {
			t.Fatalf("%v, %v", back, err)
		}
	}
	s, err = openTo(t.Context(), Config{Dir: cfg.Dir, Timeout: slow}, before)
	must(t, err)
	defer s.Close()
	if got, err := s.schema(t.Context()); err != nil || got != before || got == last {
		t.Errorf("version %d, %v", got, err)
	}
	locks, err := s.Locks(t.Context(), time.Now())
	if err != nil || len(locks) != 1 || locks[0].Name != "ann" {
		t.Errorf("%+v, %v", locks, err)
	}
}
