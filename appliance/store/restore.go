package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Bounds of what Restore reads at once. A row has at most two values of maxData, in base64.
const (
	maxPart  = partSize + 4*maxData
	maxParts = 1 << 20
)

// Restore puts a backup into a database in which there is nothing yet: all of it, or, with ErrBackup or ErrNotEmpty, nothing.
func (s *Store) Restore(ctx context.Context, from io.Reader) error {
	version, err := s.schema(ctx)
	if err != nil {
		return err
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.fault(ctx, ctx, "restore", err)
	}
	defer tx.Rollback() // of nothing, after a commit
	c := &change{ctx: ctx, tx: tx}
	r := &restorer{change: c, version: version, kinds: map[string]map[string]string{}}
	if err := r.run(from); err != nil {
		return s.fault(ctx, ctx, "restore", err)
	}
	c.note("", "")
	if err := s.tell(c); err != nil {
		return s.fault(ctx, ctx, "restore", err)
	}
	return s.fault(ctx, ctx, "restore", tx.Commit())
}

type restorer struct {
	*change
	version int64                        // of our tables
	kinds   map[string]map[string]string // of the columns of each table: their types
}

func (r *restorer) run(from io.Reader) error {
	for _, table := range tables {
		var rows int64
		if err := r.row("SELECT COUNT(*) FROM " + table).Scan(&rows); err != nil {
			return err
		}
		if rows > 0 {
			return fmt.Errorf("%w: it has %d rows in %s", ErrNotEmpty, rows, table)
		}
	}
	return readBackup(from, r.version, r.insert)
}

// readBackup gives each row of a backup to put, and then says whether the backup was sound. version is that of the
// tables it is for.
func readBackup(from io.Reader, version int64, put func(table string, row map[string]json.RawMessage) error) error {
	archive := tar.NewReader(from)
	var seen manifest
	for {
		name, content, err := nextFile(archive)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: its end is missing", ErrBackup)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrBackup, err)
		case (name == headFile) != (len(seen.Files) == 0) || len(seen.Files) > maxParts:
			return fmt.Errorf("%w: %.80q is not where it belongs", ErrBackup, name)
		case name == manifestFile:
			return checkManifest(archive, content, seen)
		}
		rows := int64(0)
		if name == headFile {
			err = checkHead(content, version)
		} else {
			rows, err = readPart(name, content, put)
		}
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		seen.Files = append(seen.Files, part{name, int64(len(content)), rows, hex.EncodeToString(sum[:])})
	}
}

func nextFile(archive *tar.Reader) (string, []byte, error) {
	header, err := archive.Next()
	if err != nil {
		return "", nil, err
	}
	if header.Typeflag != tar.TypeReg || header.Size > maxPart {
		return "", nil, fmt.Errorf("%.80q is not a file of at most %d bytes", header.Name, maxPart)
	}
	var content bytes.Buffer // grows with what is there, whatever the header says
	if _, err := io.Copy(&content, io.LimitReader(archive, maxPart)); err != nil {
		return "", nil, err
	}
	return header.Name, content.Bytes(), nil
}

func checkHead(content []byte, version int64) error {
	var head backupHead
	if err := json.Unmarshal(content, &head); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBackup, headFile, err)
	}
	if head.Form != backupForm || head.Tables > version {
		return fmt.Errorf("%w: %w: form %d, tables %d; this program reads form %d, tables up to %d", ErrBackup, ErrLater, head.Form, head.Tables, backupForm, version)
	}
	return nil
}

// checkManifest compares what was read with what was written.
func checkManifest(archive *tar.Reader, content []byte, seen manifest) error {
	var written manifest
	if err := json.Unmarshal(content, &written); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBackup, manifestFile, err)
	}
	for i, file := range seen.Files {
		if i >= len(written.Files) || written.Files[i] != file {
			return fmt.Errorf("%w: %s is not as it was written", ErrBackup, file.Name)
		}
	}
	if len(written.Files) != len(seen.Files) {
		return fmt.Errorf("%w: %.80q is missing", ErrBackup, written.Files[len(seen.Files)].Name)
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", ErrBackup)
	}
	return nil
}

// readPart reads the rows of one file.
func readPart(name string, content []byte, put func(string, map[string]json.RawMessage) error) (rows int64, err error) {
	table, _, _ := strings.Cut(name, ".")
	if slices.Contains(dropped, table) {
		return int64(bytes.Count(content, []byte("\n"))), nil
	}
	if !slices.Contains(tables, table) || !strings.HasSuffix(name, ".jsonl") {
		return 0, fmt.Errorf("%w: %.80q belongs to no table", ErrBackup, name)
	}
	lines := json.NewDecoder(bytes.NewReader(content))
	for {
		var row map[string]json.RawMessage
		err := lines.Decode(&row)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, fmt.Errorf("%w: %s: %w", ErrBackup, name, err)
		}
		if err := put(table, row); err != nil {
			return rows, fmt.Errorf("%s, row %d: %w", name, rows+1, err)
		}
		rows++
	}
}

// insert puts a row into its table. Columns that it lacks, because the backup is older than they are, get their default.
func (r *restorer) insert(table string, row map[string]json.RawMessage) error {
	if r.kinds[table] == nil {
		kinds, err := r.columns(table)
		if err != nil {
			return err
		}
		r.kinds[table] = kinds
	}
	columns := slices.Sorted(maps.Keys(row))
	args, places := make([]any, 0, len(columns)), make([]string, 0, len(columns))
	for _, column := range columns {
		value, err := decodeValue(r.kinds[table][column], row[column])
		if err != nil {
			return fmt.Errorf("%w: column %.80q: %w", ErrBackup, column, err)
		}
		args = append(args, value)
		places = append(places, fmt.Sprintf("$%d", len(args)))
	}
	_, err := r.exec("INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES ("+strings.Join(places, ", ")+")", args...)
	return err
}

func (r *restorer) columns(table string) (map[string]string, error) {
	rows, err := r.tx.QueryContext(r.ctx, "SELECT * FROM "+table+" WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	kinds := make(map[string]string, len(types))
	for _, t := range types {
		kinds[t.Name()] = t.DatabaseTypeName()
	}
	return kinds, rows.Err()
}

// decodeValue reads a value of a column's type, by the name that either database has for it.
func decodeValue(kind string, text json.RawMessage) (any, error) {
	if kind != "" && string(text) == "null" {
		return nil, nil
	}
	switch kind {
	case "BIGINT", "INT8":
		var n int64
		err := json.Unmarshal(text, &n)
		return n, err
	case "TEXT":
		var s string
		err := json.Unmarshal(text, &s)
		return s, err
	case "BYTEA":
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, err
		}
		return base64.StdEncoding.DecodeString(s)
	}
	return nil, errors.New("the table has no such column")
}
