package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func openSQLite(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir, Timeout: slow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTheFilesAreTheOwnersOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder with ? and % and #")
	must(t, os.Mkdir(dir, 0o700))
	s := openSQLite(t, dir)
	must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
	files, err := os.ReadDir(dir)
	must(t, err)
	if len(files) < 2 {
		t.Errorf("only %v", files)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(f.Name(), File) {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestSQLiteIsSyncedAtEachCommit(t *testing.T) {
	s := openSQLite(t, t.TempDir())
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "30000"} {
		var got string
		if err := s.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s, %v", pragma, got, want, err)
		}
	}
	if _, err := s.read.ExecContext(t.Context(), "DELETE FROM locks"); err == nil {
		t.Error("a reader writes")
	}
}

func TestTwoProcessesWriteInTurn(t *testing.T) {
	dir := t.TempDir()
	s := openSQLite(t, dir)
	other, err := Open(t.Context(), Config{Dir: dir, Timeout: time.Second})
	must(t, err)
	defer other.Close()
	tx, err := s.write.BeginTx(t.Context(), nil)
	must(t, err)
	is(t, "while one writes", other.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}), ErrDown)
	if _, err := other.Locks(t.Context(), start); err != nil {
		t.Errorf("who reads waits for who writes: %v", err)
	}
	must(t, tx.Rollback())
	must(t, other.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
}

func TestABrokenFileIsSaid(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, File), []byte(strings.Repeat("this is no database ", 1000)), 0o600))
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "file is not a database") {
		t.Error(err)
	}
}

// TestAFullDisk fills the database's own bound, and where it may the disk it is on, and makes room again.
func TestAFullDisk(t *testing.T) {
	fill := func(t *testing.T, s *Store, makeRoom func()) {
		var full error
		kept := 0
		for i := range 10_000 {
			if full = s.Keep(t.Context(), OneTime{Kind: "k", Hash: []byte(strconv.Itoa(i)), Data: make([]byte, 10_000), Expires: start}); full != nil {
				break
			}
			kept++
		}
		if !errors.Is(full, ErrDown) || !strings.Contains(full.Error(), "full") && !strings.Contains(full.Error(), "I/O") {
			t.Fatalf("after %d rows: %v", kept, full)
		}
		if o, err := s.ActiveAccess(t.Context()); err != nil {
			t.Errorf("it cannot be read while it is full: %+v, %v", o, err)
		}
		makeRoom()
		must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
		var rows int
		if err := s.read.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM once").Scan(&rows); rows != kept || err != nil {
			t.Errorf("%d rows of %d are left, %v", rows, kept, err)
		}
		soundSQLite(t, s)
	}
	t.Run("bounded", func(t *testing.T) {
		s := openSQLite(t, t.TempDir())
		pages := func(n int) {
			if _, err := s.write.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
				t.Fatal(err)
			}
		}
		pages(500)
		fill(t, s, func() { pages(100_000) })
	})
	t.Run("disk", func(t *testing.T) {
		dir := smallDisk(t, 4<<20)
		ballast := filepath.Join(dir, "ballast")
		must(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
		fill(t, openSQLite(t, dir), func() { must(t, os.Remove(ballast)) })
	})
}

func soundSQLite(t *testing.T, s *Store) {
	t.Helper()
	var sound string
	if err := s.read.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&sound); sound != "ok" || err != nil {
		t.Errorf("the database is %q, %v", sound, err)
	}
}

// writerFolder tells the test program to be a process that writes until it is killed.
const writerFolder = "SALLYPORT_STORE_WRITER"

// writeUntilKilled appends events, and says the number of each once it is acknowledged.
func writeUntilKilled(dir string) int {
	s, err := Open(context.Background(), Config{Dir: dir, Timeout: slow})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	seq, err := s.LastAudit(context.Background(), "a")
	for err == nil {
		seq++
		e := event("a", seq, 0, "ann", strings.Repeat("x", int(seq%3000)))
		if err = s.AppendAudit(context.Background(), []Event{e}); err == nil {
			fmt.Println(seq)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKilledWhileItWrites kills a process that writes at random moments, and wants all that it acknowledged.
func TestKilledWhileItWrites(t *testing.T) {
	rounds := 15
	if os.Getenv("SALLYPORT_SOAK") != "" {
		rounds = 1000
	}
	dir := t.TempDir()
	acknowledged := int64(0)
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerFolder+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := rand.IntN(40); lines.Scan(); n-- {
			acknowledged, err = strconv.ParseInt(lines.Text(), 10, 64)
			must(t, err)
			if n == 0 {
				time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		io.Copy(io.Discard, out)
		if cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("round %d: the writer ended by itself: %v", round, cmd.ProcessState)
		}
		s := openSQLite(t, dir)
		soundSQLite(t, s)
		var rows int64
		must(t, s.read.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM audit").Scan(&rows))
		last, err := s.LastAudit(t.Context(), "a")
		// One more may have been written than was said.
		if err != nil || rows != last || last < acknowledged || last > acknowledged+1 {
			t.Fatalf("round %d: %d events up to %d, acknowledged up to %d, %v", round, rows, last, acknowledged, err)
		}
		must(t, s.Close())
	}
	t.Logf("%d events, %d kills", acknowledged, rounds)
}
