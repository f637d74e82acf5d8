package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// BeforeFile is the database as it was before a version on trial has changed its tables, in the folder of File. Who finds
// that version good removes it.
const BeforeFile = File + ".before"

// keep writes the database into BeforeFile, as it is now.
func (s *Store) keep(ctx context.Context) error {
	if s.dialect != sqliteDialect {
		return nil // appliances of several versions share it, and none of them may take it back
	}
	path := filepath.Join(s.cfg.Dir, BeforeFile)
	temporary := path + ".tmp"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := s.write.ExecContext(ctx, "VACUUM INTO ?", temporary); err != nil {
		return s.fault(ctx, ctx, "keep the tables as they are", err)
	}
	f, err := os.OpenFile(temporary, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close(), os.Rename(temporary, path)); err != nil {
		return fmt.Errorf("keep the tables as they are: %w", err)
	}
	return syncFolder(s.cfg.Dir)
}

// Back puts the database of BeforeFile in the place of one that a later version has changed, and says whether there was one.
// What has been written since is lost. The database must not be open.
func Back(dir string) (bool, error) {
	before := filepath.Join(dir, BeforeFile)
	if _, err := os.Stat(before); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	// The journal first: SQLite would apply it to whatever database lies beside it. After a cut here the later database
	// is there, and still too late.
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, File+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if err := syncFolder(dir); err != nil {
		return false, err
	}
	if err := os.Rename(before, filepath.Join(dir, File)); err != nil {
		return false, err
	}
	return true, syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
