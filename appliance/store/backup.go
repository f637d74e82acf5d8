package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A backup is a tar file that either database writes and reads:
//
//	backup.json             the version of the form, and of the tables
//	devices.000001.jsonl    rows, each an object of its columns: numbers, texts, and bytes in base64
//	…
//	manifest.json           the name, size, rows and SHA-256 of each file before it
//
// The manifest comes last, so that a file that was cut off has none.
const (
	headFile     = "backup.json"
	manifestFile = "manifest.json"
	backupForm   = 1
)

// partSize is how much is put into one file of a backup, and little more.
const partSize = 1 << 20

type backupHead struct {
	Form   int       `json:"form"`
	Tables int64     `json:"tables"` // their version
	Made   time.Time `json:"made"`
}

type manifest struct {
	Files []part `json:"files"`
}

type part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// tables are those of a backup, those first that others refer to. What has changed is not in it: nobody waits for that.
var tables = []string{"accounts", "credentials", "devices", "codes", "signins", "once", "locks", "approvals", "guest_links", "guest_uses", "access_versions",
	"keypairs", "hostkeys", "audit"}

// dropped are tables of earlier versions, whose rows are not put back.
var dropped = []string{"failures"}

// Backup writes all that is kept as it is at one moment, while others go on. What was sealed stays sealed.
func (s *Store) Backup(ctx context.Context, to io.Writer) error {
	version, err := s.schema(ctx)
	if err != nil {
		return err
	}
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{Isolation: s.snapshot(), ReadOnly: true})
	if err != nil {
		return s.fault(ctx, ctx, "back up", err)
	}
	defer tx.Rollback()
	out := &output{to: to}
	b := &backupWriter{tar: tar.NewWriter(out), made: s.cfg.Clock().UTC().Truncate(time.Second)}
	err = b.all(ctx, tx, version)
	if out.err != nil {
		return fmt.Errorf("write the backup: %w", out.err) // which is no fault of the database's
	}
	return s.fault(ctx, ctx, "back up", err)
}

// An output keeps the error of its writer.
type output struct {
	to  io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (n int, err error) {
	n, err = o.to.Write(b)
	o.err = errors.Join(o.err, err)
	return n, err
}

// snapshot is the isolation in which a transaction sees one moment. SQLite has no other.
func (s *Store) snapshot() sql.IsolationLevel {
	if s.dialect == postgresDialect {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}

type backupWriter struct {
	tar      *tar.Writer
	made     time.Time
	manifest manifest
}

func (b *backupWriter) all(ctx context.Context, tx *sql.Tx, version int64) error {
	if err := b.json(headFile, backupHead{backupForm, version, b.made}); err != nil {
		return err
	}
	for _, table := range tables {
		if err := b.table(ctx, tx, table); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	if err := b.json(manifestFile, b.manifest); err != nil {
		return err
	}
	return b.tar.Close()
}

func (b *backupWriter) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return b.file(name, append(text, '\n'), 0)
}

func (b *backupWriter) file(name string, content []byte, rows int64) error {
	if err := b.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: b.made, Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := b.tar.Write(content); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	b.manifest.Files = append(b.manifest.Files, part{name, int64(len(content)), rows, hex.EncodeToString(sum[:])})
	return nil
}

// table writes the rows of a table, in files of about partSize.
func (b *backupWriter) table(ctx context.Context, tx *sql.Tx, table string) error {
	rows, err := tx.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, pointers := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		pointers[i] = &values[i]
	}
	var text bytes.Buffer
	parts, count := 0, int64(0)
	flush := func() error {
		parts++
		err := b.file(partName(table, parts), text.Bytes(), count)
		text.Reset()
		count = 0
		return err
	}
	lines := json.NewEncoder(&text)
	for rows.Next() {
		if err := rows.Scan(pointers...); err != nil {
			return err
		}
		row := make(map[string]any, len(columns))
		for i, column := range columns {
			row[column] = values[i] // bytes become base64
		}
		if err := lines.Encode(row); err != nil {
			return err
		}
		count++
		if text.Len() >= partSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil || count == 0 {
		return err
	}
	return flush()
}

func partName(table string, n int) string { return fmt.Sprintf("%s.%06d.jsonl", table, n) }
