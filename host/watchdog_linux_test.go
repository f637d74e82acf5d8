package host

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The device is fed while all is said to be well, not longer, and goes on waiting when it is handed over.
func TestWatchdogOfProcessOne(t *testing.T) {
	manage(t, 400*time.Millisecond) // which makes it hungry
	b := newBowl(t)
	w, err := OpenWatchdog(b.path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "fed at the start", func() bool { return len(b.eaten()) > 2 })
	w.Well(300 * time.Millisecond)
	time.Sleep(time.Second)
	before := len(b.eaten())
	time.Sleep(time.Second)
	if now := len(b.eaten()); now != before {
		t.Errorf("fed %d times while nobody said anything", now-before)
	}
	w.Well(time.Minute)
	eventually(t, "fed again", func() bool { return len(b.eaten()) > before+2 })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the bowl reads it
	before = len(b.eaten())
	time.Sleep(time.Second)
	if food := b.eaten(); len(food) != before || strings.Contains(food, "V") {
		t.Errorf("eaten: %q", food)
	}
	if _, err := OpenWatchdog(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a device that is not there was opened")
	}
	var none *Watchdog
	none.Well(time.Minute)
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
