package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// openPostgres prepares connections; none is made yet.
func (s *Store) openPostgres() error {
	s.dialect = postgresDialect
	config, err := s.postgresConfig()
	if err != nil {
		return err
	}
	s.write = stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(s.setPassword))
	s.write.SetMaxOpenConns(s.cfg.Conns)
	s.write.SetMaxIdleConns(s.cfg.Conns)
	s.write.SetConnMaxIdleTime(5 * time.Minute)
	s.read = s.write
	return nil
}

func (s *Store) postgresConfig() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(s.cfg.URL) // its errors show no password
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = s.cfg.Timeout
	config.RuntimeParams["application_name"] = "sallyport"
	if s.cfg.Dial != nil {
		config.DialFunc = s.cfg.Dial
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // Dial does it
	}
	return config, nil
}

// setPassword puts the password of now into a connection to come, so that a new one needs no restart.
func (s *Store) setPassword(_ context.Context, config *pgx.ConnConfig) (err error) {
	if s.cfg.Password == nil {
		return nil
	}
	if config.Password, err = s.cfg.Password(); err != nil {
		return fmt.Errorf("%w: its password: %w", ErrDown, err)
	}
	return nil
}

// channel is where PostgreSQL tells the fleet that something has changed.
const channel = "sallyport"

// listen hears what other appliances change, over a connection of its own, until that breaks.
func (s *Store) listen(ctx context.Context, wake func()) error {
	config, err := s.postgresConfig()
	if err != nil {
		return err
	}
	if err := s.setPassword(ctx, config); err != nil {
		return err
	}
	dialling, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(dialling, config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(dialling, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		wake() // at first too: nothing was heard before
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// postgresFault sorts an error of PostgreSQL's: ErrConflict, ErrDown, or nil where it is neither.
func postgresFault(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch {
		case e.Code == "23505": // unique_violation
			return ErrConflict
		case e.Code == "25006", // read_only_sql_transaction: a standby
			e.Code == "40001", e.Code == "40P01", // serialization_failure, deadlock_detected
			e.Code == "3D000", // there is no such database
			// Connections, authorisation, resources, an administrator's stop, the system's own errors.
			hasClass(e.Code, "08", "28", "53", "57", "58", "XX"):
			return ErrDown
		}
		return nil
	}
	var connecting *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connecting) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err) {
		return ErrDown
	}
	return nil
}

func hasClass(code string, classes ...string) bool {
	for _, class := range classes {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
