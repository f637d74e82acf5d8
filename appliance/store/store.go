// Package store keeps what an appliance, or a fleet of them, must not forget: devices, accounts, sign-ins, locks,
// approvals, versions of the access files, keys and the audit trail.
//
//	s, err := store.Open(ctx, store.Config{Dir: "/var/lib/sallyport"})                   // SQLite, in this process
//	s, err := store.Open(ctx, store.Config{URL: "postgres://sallyport@db/sallyport"})    // PostgreSQL, for a fleet
//	err = s.Enrol(ctx, hash, device, time.Now())                                         // both or neither
//	if errors.Is(err, store.ErrConflict) { … }                                           // somebody was faster
//	err = s.Watch(ctx, func(c store.Change) error { … })                                 // what others changed
//
// # One text for two databases
//
// All SQL is written once. Placeholders are $1, times are microseconds since 1970 in a BIGINT, with 0 for none, and there
// are no other types than BIGINT, TEXT and BYTEA. Ids are made here, 128 random bits. What may be done once (a code is
// redeemed, a request decided, a counter moved on) is a conditional UPDATE that says whether it found its row as it must
// be, so that of a thousand at once one wins, on one appliance as on ten.
//
// # When the database does not answer
//
// Each call ends within Config.Timeout with ErrDown, and the next one tries again: nothing needs to be opened anew. A
// change that ends so may have been made all the same, if the answer was what was lost. No byte of a flow waits for a
// Store: who needs an answer at once keeps it in memory and has Watch tell what has changed.
//
// # What lies in it
//
// No secret does in the clear. Codes and one-time values are hashes; credentials, refresh tokens and private keys come
// sealed by the caller.
package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// File is the name of the embedded database in Config.Dir.
const File = "sallyport.db"

// The errors to ask for with errors.Is.
var (
	ErrDown     = errors.New("the database does not answer")           // wraps the cause
	ErrNotFound = errors.New("there is no such entry")                 // nothing has that name
	ErrConflict = errors.New("somebody else was faster")               // what had to hold does not, or not any more
	ErrSource   = errors.New("the account is an identity provider's")  // and not a local one
	ErrFull     = errors.New("there are too many of them")             // a bound is reached
	ErrBackup   = errors.New("this is not a sound backup")             // Restore has changed nothing
	ErrNotEmpty = errors.New("the database is not empty")              // Restore has changed nothing
	ErrEarlier  = errors.New("its tables are older than this program") // with Config.Existing
	ErrLater    = errors.New("it is of a later version")               // a newer program has written it
)

// Config says where the database is. The zero value is SQLite in the working directory.
type Config struct {
	URL      string                                                               // of a PostgreSQL database, without a password; default: SQLite in Dir
	Password func() (string, error)                                               // of PostgreSQL, asked at each connection; default none
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // to PostgreSQL; default the kernel's sockets
	Existing bool                                                                 // neither makes a database nor changes its tables: for who only reads it
	Trial    bool                                                                 // of SQLite: before the tables change, what there is is kept, for Back
	Dir      string                                                               // the folder of File; must be there
	Clock    func() time.Time                                                     // default time.Now
	Log      *slog.Logger                                                         // of what Watch goes through; default none
	Timeout  time.Duration                                                        // of one call; default 2 seconds
	Conns    int                                                                  // to PostgreSQL at once; default 8
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
	c.Conns = cmp.Or(c.Conns, 8)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Store is an open database. Its methods may be called by many goroutines.
type Store struct {
	cfg     Config
	dialect dialect
	write   *sql.DB // one connection with SQLite, which has one writer
	read    *sql.DB // the same as write with PostgreSQL
	health  health

	mu   sync.Mutex
	woke map[chan struct{}]bool // by the changes of this process, for its own watchers
}

// Open opens the database and brings its tables up to date.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	return openTo(ctx, cfg, latest)
}

// openTo is Open that stops at a version of the tables.
func openTo(ctx context.Context, cfg Config, version int64) (_ *Store, err error) {
	s := &Store{cfg: cfg.withDefaults(), woke: map[chan struct{}]bool{}, health: health{hurry: make(chan struct{}, 1)}}
	if s.cfg.URL == "" {
		err = s.openSQLite(filepath.Join(s.cfg.Dir, File))
	} else {
		err = s.openPostgres()
	}
	if err == nil {
		err = s.migrate(ctx, version)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), s.Close())
	}
	return s, nil
}

// Close ends all connections. Watches are ended by their contexts, before.
func (s *Store) Close() error {
	var err error
	if s.write != nil {
		err = s.write.Close()
	}
	if s.read != nil && s.read != s.write {
		err = errors.Join(s.read.Close(), err)
	}
	return err
}

// NewID returns 128 random bits in hexadecimal digits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it would end the process
	return hex.EncodeToString(b[:])
}
