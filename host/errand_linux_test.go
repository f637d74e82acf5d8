package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testErrand is the child. how says what it is to do with its link.
func testErrand(how string) int {
	w, err := Join()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := w.Link(ErrandLink)
	if err != nil || l.DHCP == nil || len(l.Queues) != 1 {
		fmt.Fprintln(os.Stderr, l, err)
		return 1
	}
	out := ErrandText()
	switch how {
	case "text":
		status, _ := os.ReadFile("/proc/self/status")
		fmt.Fprintf(out, "mac %v uid %d\n%s", l.MAC, os.Getuid(), status)
	case "much":
		out.Write(make([]byte, 2<<20))
		syscall.Pause()
	case "fails":
		fmt.Fprintln(out, "half of it")
		return 3
	case "hangs":
		signal.Ignore(syscall.SIGTERM)
		syscall.Pause()
	}
	return 0
}

func TestErrand(t *testing.T) {
	c := newCable(t)
	dir := t.TempDir()
	send := func(how string, timeout time.Duration) ([]byte, error) {
		return Errand{Args: []string{"test", "errand", how}, Interface: c.nic, RunDir: dir, Timeout: timeout, Log: slog.New(slog.DiscardHandler)}.Run(t.Context())
	}
	text, err := send("text", 0)
	if err != nil || !bytes.HasPrefix(text, fmt.Appendf(nil, "mac %v uid %d\n", c.mac, stranger.uid)) ||
		!strings.Contains(string(text), "CapEff:\t0000000000000000\n") || !strings.Contains(string(text), "NoNewPrivs:\t1\n") {
		t.Errorf("%s, %v", text, err)
	}
	// The NIC is back, and another errand has it.
	if nic, err := net.InterfaceByName(c.nic); err != nil || nic.Flags&net.FlagUp != 0 {
		t.Fatalf("%v, %v", nic, err)
	}
	if addrs := run(t, "ip", "-br", "addr", "show", c.nic); strings.Contains(addrs, "192.0.2.1") {
		t.Error(addrs)
	}
	var exit *ExitError
	if text, err := send("fails", 0); !errors.As(err, &exit) || exit.Code != 3 || text != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := send("much", 0); err == nil || err.Error() != "its text has more than 1048576 bytes" || text != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if text, err := send("hangs", 500*time.Millisecond); err == nil || err.Error() != "not done in 500ms" || text != nil {
		t.Errorf("%q, %v", text, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := (Errand{Args: []string{"test", "errand", "hangs"}, Interface: c.nic, RunDir: dir, Log: slog.New(slog.DiscardHandler)}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := (Errand{Args: []string{"test", "errand", "text"}, Interface: "no-such-nic", RunDir: dir, Log: slog.New(slog.DiscardHandler)}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-nic") {
		t.Error(err)
	}
}
