package audit

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
)

// childDir is the environment variable that names the folder in which this program, run again by a test, writes until it is killed.
const childDir = "SALLYPORT_AUDIT_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

var (
	testKey    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	testPublic = testKey.Public().(ed25519.PublicKey)
)

// writeForEver is the other process: it writes events from several goroutines and says on stdout which were taken.
func writeForEver(dir string) {
	l, err := Open(Config{Dir: dir, Key: testKey, Name: "bastion-1", SegmentBytes: 16 << 10, HeadLines: 20, HeadEvery: 5 * time.Millisecond})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	begin := l.Last()
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", begin, w, i)
				if err := l.Write(Event{Kind: FlowOpen, User: "ann", Target: strings.Repeat("x", rand.IntN(300)), Object: id}); err != nil {
					fmt.Println("error:", err)
					os.Exit(1)
				}
				os.Stdout.WriteString(id + "\n") // one write(2), which a kill does not cut
			}
		})
	}
	wg.Wait()
}

// open opens a log with what cfg leaves out, and closes it with the test.
func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Key == nil {
		cfg.Key = testKey
	}
	cfg.Name = "bastion-1"
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// write writes n events whose objects are from, from+1 …
func write(t testing.TB, l *Log, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if err := l.Write(numbered(i)); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

func numbered(i int) Event {
	return Event{Kind: FlowOpen, User: "ann", Device: "dev-35nb8n89hep7y", Target: "db-1", Protocol: "ssh", Object: fmt.Sprint(i)}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// verify wants a log that is whole.
func verify(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Verify(os.DirFS(dir), testPublic)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// events reads the whole log, heads too.
func events(t testing.TB, dir string) []Event {
	t.Helper()
	var list []Event
	for e, err := range Read(os.DirFS(dir), Filter{Heads: true}) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// ofKind are the events of one kind.
func ofKind(list []Event, kind string) []Event {
	var found []Event
	for _, e := range list {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// load takes a folder into memory, without what is no part of the log.
func load(t testing.TB, dir string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == "lock" || strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = &fstest.MapFile{Data: b}
	}
	return files
}

// soon wants cond to become true.
func soon(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in a minute", what)
		}
	}
}
