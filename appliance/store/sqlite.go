package store

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteReaders is how many may read at once beside the writer.
const sqliteReaders = 4

// openSQLite opens the embedded database: a log that is written ahead, so that readers do not wait for the writer, and
// synced at each commit, so that what was acknowledged survives the loss of power.
func (s *Store) openSQLite(path string) (err error) {
	s.dialect = sqliteDialect
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	// SQLite gives its other files the mode of this one.
	flags := os.O_RDWR | os.O_CREATE
	if s.cfg.Existing {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	options := url.Values{
		"_busy_timeout": {strconv.FormatInt(s.cfg.Timeout.Milliseconds(), 10)},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"1"},
		"_dqs":          {"0"},
	}
	open := func(key, value string, conns int) (*sql.DB, error) {
		options.Set(key, value)
		defer options.Del(key)
		c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}).String())
		if err != nil {
			return nil, err
		}
		db := sql.OpenDB(c)
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		return db, nil
	}
	if s.read, err = open("_query_only", "1", sqliteReaders); err != nil {
		return err
	}
	options.Set("_txlock", "immediate")
	s.write, err = open("_journal_mode", "WAL", 1)
	return err
}

// busy says that another process has SQLite's file to itself for a moment. The making of a new file does not wait for that,
// as all else does.
func busy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}

// sqliteFault sorts an error of SQLite's: ErrConflict, ErrDown, or nil where it is neither.
func sqliteFault(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return ErrConflict
	}
	switch e.Code() & 0xff { // the rest says more closely what
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL:
		return ErrDown
	}
	return nil
}
