package store

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// fill puts something into every table.
func fill(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	for i := range 3 {
		must(t, s.PutDevice(ctx, robot(i)))
	}
	must(t, s.AddCode(ctx, Code{Hash: []byte{0, 255}, User: "ann", Expires: start}, start, 10))
	must(t, s.AddAccount(ctx, Account{Name: "ann", Source: Local, Subject: "ann", Created: start}))
	must(t, s.AddCredential(ctx, Credential{ID: "k1", Account: "ann", Kind: Password, Data: []byte("sealed"), Created: start}))
	must(t, s.AddCredential(ctx, Credential{ID: "k2", Account: "ann", Kind: Recovery, Created: start}))
	must(t, s.AddSignIn(ctx, SignIn{ID: "s1", Account: "ann", Groups: []string{"<ops> & ü\u2028"}, Created: start, Expires: start.Add(time.Hour)}))
	must(t, s.Keep(ctx, OneTime{Kind: "k", Hash: []byte("h"), Data: []byte("d"), Expires: start.Add(time.Hour)}))
	must(t, s.SetLock(ctx, Lock{Kind: LockUser, Name: "ann", Why: "line\nbreak", Created: start}))
	must(t, s.Ask(ctx, Approval{ID: "a1", User: "ann", Asked: start, Expires: start.Add(time.Hour)}))
	must(t, s.AddGuestLink(ctx, guestLink("g1", 1), 1))
	_, err := s.OpenGuestLink(ctx, guestLink("g1", 1).Hash, device(9999, ""), "", start)
	must(t, err)
	_, err = s.AddAccess(ctx, 0, Access{Created: start, Files: make([]byte, partSize), Hash: []byte("h")})
	must(t, err)
	must(t, s.AddKey(ctx, Key{Name: "ssh-ca", Serial: 1, Created: start, Public: []byte("p"), Sealed: []byte("s")}))
	_, err = s.SeeHostKey(ctx, HostKey{Target: "db-1", Algorithm: "ssh-ed25519", Key: []byte("k"), Seen: start})
	must(t, err)
	var events []Event
	for i := range int64(400) {
		e := event("a", i+1, time.Duration(i)*time.Second, "ann", "db-1")
		e.Line = strings.Repeat("x", 4000)
		events = append(events, e)
	}
	must(t, s.AppendAudit(ctx, events))
}

// robot is a device that may do less than its person.
func robot(n int) Device {
	d := device(n, "ann")
	d.Scope, d.Expires = `{"targets":["db-1"]}`, start.Add(time.Hour)
	return d
}

// content is all that is in a store, as text.
func content(t *testing.T, s *Store) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, table := range tables {
		rows, err := s.read.QueryContext(t.Context(), "SELECT * FROM "+table+" ORDER BY 1, 2")
		must(t, err)
		columns, err := rows.Columns()
		must(t, err)
		for rows.Next() {
			values, pointers := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				pointers[i] = &values[i]
			}
			must(t, rows.Scan(pointers...))
			all[table] = append(all[table], fmt.Sprint(columns, values))
		}
		must(t, rows.Close())
	}
	return all
}

func backup(t *testing.T, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, s.Backup(t.Context(), &b))
	return b.Bytes()
}

// TestABackupIsRestored goes from each database into each.
func TestABackupIsRestored(t *testing.T) {
	onBoth(t, func(t *testing.T, from *Store, _ func() *Store) {
		fill(t, from)
		made := backup(t, from)
		want := content(t, from)
		if len(want) != len(tables) {
			t.Fatalf("%d of %d tables have something in them", len(want), len(tables))
		}
		onBoth(t, func(t *testing.T, into *Store, again func() *Store) {
			w := watch(t, again())
			w.want(t, Change{})
			must(t, into.Restore(t.Context(), bytes.NewReader(made)))
			w.want(t, Change{})
			if got := content(t, into); !reflect.DeepEqual(got, want) {
				for table := range want {
					if !reflect.DeepEqual(got[table], want[table]) {
						t.Errorf("%s: got %.500q\nwant %.500q", table, got[table], want[table])
					}
				}
			}
			if d, err := into.Device(t.Context(), "dev-1"); err != nil || !reflect.DeepEqual(d, robot(1)) {
				t.Errorf("%+v, %v", d, err)
			}
			is(t, "once more", into.Restore(t.Context(), bytes.NewReader(made)), ErrNotEmpty)
		})
	})
}

// reseal makes a backup anew with one file changed, and the manifest as it was unless that is the one.
func reseal(t *testing.T, made []byte, change func(name string, content []byte) (string, []byte)) []byte {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	in := tar.NewReader(bytes.NewReader(made))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(in)
		must(t, err)
		name, text := change(h.Name, text)
		if name == "" {
			continue
		}
		must(t, out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}))
		_, err = out.Write(text)
		must(t, err)
	}
	must(t, out.Close())
	return b.Bytes()
}

func TestAnUnsoundBackupChangesNothing(t *testing.T) {
	source := openSQLite(t, t.TempDir())
	fill(t, source)
	made := backup(t, source)
	only := func(file string, f func([]byte) (string, []byte)) []byte {
		return reseal(t, made, func(name string, content []byte) (string, []byte) {
			if name == file {
				return f(content)
			}
			return name, content
		})
	}
	replace := func(file, old, new string) []byte {
		return only(file, func(content []byte) (string, []byte) {
			if !bytes.Contains(content, []byte(old)) {
				t.Fatalf("%s has no %q", file, old)
			}
			return file, bytes.Replace(content, []byte(old), []byte(new), 1)
		})
	}
	const devices = "devices.000001.jsonl"
	versions := tableVersions(t)
	last := versions[len(versions)-1]
	bad := map[string][]byte{
		"empty":                 nil,
		"no tar":                bytes.Repeat([]byte("x"), 4096),
		"cut in the middle":     made[:len(made)/2],
		"without its manifest":  only(manifestFile, func([]byte) (string, []byte) { return "", nil }),
		"without its head":      only(headFile, func([]byte) (string, []byte) { return "", nil }),
		"without a file":        only(devices, func([]byte) (string, []byte) { return "", nil }),
		"another user":          replace(devices, `"ann"`, `"eve"`),
		"an unknown column":     replace(devices, `"person"`, `"human"`),
		"SQL for a column":      replace(devices, `"person"`, `"person) VALUES (1); DROP TABLE devices; --"`),
		"text for a number":     replace(devices, `"revoked":0`, `"revoked":"0"`),
		"a table of nobody's":   only(devices, func(c []byte) (string, []byte) { return "versions.000001.jsonl", c }),
		"a file outside":        only(devices, func(c []byte) (string, []byte) { return "../devices.jsonl", c }),
		"of a later form":       replace(headFile, `"form": 1`, `"form": 2`),
		"of later tables":       replace(headFile, fmt.Sprintf(`"tables": %d`, last), fmt.Sprintf(`"tables": %d`, last+1)),
		"a row twice":           only(devices, func(c []byte) (string, []byte) { return devices, append(c, c...) }),
		"a manifest of nothing": only(manifestFile, func([]byte) (string, []byte) { return manifestFile, []byte(`{"files":[]}`) }),
		"followed by more":      append(bytes.Clone(made[:len(made)-1024]), made...),
	}
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		for what, data := range bad {
			if err := s.Restore(t.Context(), bytes.NewReader(data)); !errors.Is(err, ErrBackup) && !(what == "a row twice" && errors.Is(err, ErrConflict)) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got := content(t, s); len(got) != 0 {
			t.Errorf("something was left: %.300q", fmt.Sprint(got))
		}
		must(t, s.Restore(t.Context(), bytes.NewReader(made)))
	})
}

// TestABackupOfAnOlderProgramIsRestored has a backup of two versions ago, without the tables that came later.
func TestABackupOfAnOlderProgramIsRestored(t *testing.T) {
	var b bytes.Buffer
	w := &backupWriter{tar: tar.NewWriter(&b)}
	must(t, w.json(headFile, backupHead{backupForm, 1, start}))
	must(t, w.file(partName("accounts", 1), []byte(`{"name":"ann","source":"local","subject":"ann","created":1,"disabled":0,"last_login":0}`+"\n"), 1))
	must(t, w.json(manifestFile, w.manifest))
	must(t, w.tar.Close())
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		must(t, s.Restore(t.Context(), bytes.NewReader(b.Bytes())))
		if a, err := s.Account(t.Context(), "ann"); err != nil || !a.Created.Equal(time.UnixMicro(1)) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

func TestABackupWhileOthersWrite(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		other := again()
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := int64(1); ; i += 2 { // two events at once, or none
				if err := other.AppendAudit(t.Context(), []Event{event("a", i, 0, "ann", ""), event("a", i+1, 0, "ann", "")}); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		for range 5 {
			rows := 0
			must(t, readBackup(bytes.NewReader(backup(t, s)), 99, func(string, map[string]json.RawMessage) error { rows++; return nil }))
			if rows%2 != 0 {
				t.Errorf("%d rows: a transaction is there by half", rows)
			}
		}
		close(stop)
		<-done
	})
}

func TestAFullDiskOfTheBackupIsNotTheDatabases(t *testing.T) {
	s := openSQLite(t, t.TempDir())
	f, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	must(t, err)
	must(t, f.Close())
	if err := s.Backup(t.Context(), f); !errors.Is(err, os.ErrClosed) || errors.Is(err, ErrDown) {
		t.Error(err)
	}
}

func FuzzReadBackup(f *testing.F) {
	var b bytes.Buffer
	w := &backupWriter{tar: tar.NewWriter(&b)}
	w.json(headFile, backupHead{backupForm, 1, start})
	w.file(partName("locks", 1), []byte(`{"kind":"user","name":"ann","ends":0}`+"\n"), 1)
	w.json(manifestFile, w.manifest)
	w.tar.Close()
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readBackup(bytes.NewReader(data), 1, func(table string, row map[string]json.RawMessage) error {
			for _, column := range slices.Sorted(maps.Keys(row)) {
				text := row[column]
				for _, kind := range []string{"BIGINT", "TEXT", "BYTEA", ""} {
					decodeValue(kind, text)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrBackup) {
			t.Fatalf("%v is not said to be the backup's fault", err)
		}
	})
}
