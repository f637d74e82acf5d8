package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestDiskFull fills a small file system, by events and by others. Refused events are refused, taken ones are there, the
// chain stays whole, and the log goes on when there is room again.
func TestDiskFull(t *testing.T) {
	disk := mount(t, "256k")
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "audit")
	l := open(t, Config{Dir: dir, HeadEvery: 10 * time.Millisecond, SegmentBytes: 64 << 10})
	taken, refused := 0, 0
	for refused < 20 {
		switch err := l.Write(numbered(taken)); {
		case err == nil && refused > 0:
			// A smaller line than the one that had no room.
			taken, refused = taken+1, 0
		case err == nil:
			taken++
		case errors.Is(err, syscall.ENOSPC):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if err := l.Trouble(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("trouble: %v", err)
	}
	l.mu.Lock() // heads are tried meanwhile
	if r := verify(t, dir); r.Last != l.seq {
		t.Errorf("got %+v", r)
	}
	l.mu.Unlock()

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	write(t, l, taken, 10)
	taken += 10
	soon(t, "no trouble", func() bool { return l.Trouble() == nil })
	closeLog(t, l)
	r := verify(t, dir)
	list := events(t, dir)
	for i, e := range ofKind(list, FlowOpen) {
		if e.Object != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, e.Object)
		}
	}
	trouble := ofKind(list, Trouble)
	if got := len(ofKind(list, FlowOpen)); got != taken || len(trouble) == 0 || trouble[len(trouble)-1].Detail["refused"] != "20" {
		t.Errorf("%d of %d events, %+v, %+v", got, taken, trouble, r)
	}
}

// mount returns a file system of its own, which needs root.
func mount(t *testing.T, size string) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no file system of our own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// TestFileFull: where the file of an exporter has no room, no half line is left in it.
func TestFileFull(t *testing.T) {
	path := filepath.Join(mount(t, "64k"), "audit.log")
	sink, err := File{path}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	records := []Record{{Line: make([]byte, 999)}, {Line: make([]byte, 8999)}}
	for sent := int64(0); ; sent += 10_000 {
		err := sink.Send(t.Context(), records)
		info, statErr := os.Stat(path)
		if statErr != nil {
			t.Fatal(statErr)
		}
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) || info.Size() != sent || sent == 0 {
				t.Errorf("%d bytes are there instead of %d: %v", info.Size(), sent, err)
			}
			return
		}
	}
}
