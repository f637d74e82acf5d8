package dhcp

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The end of one call's context does not end the next call. On one processor the deadline of the first comes as late as
// it can: when the second waits.
func TestReadAfterCancel(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close()
	defer far.Close()
	conn := File(near)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b := make([]byte, 10)
	for range 100 {
		far.WriteString("lost")
		if _, err := conn.ReadFrame(ended, b); !errors.Is(err, context.Canceled) {
			t.Fatalf("after its context: %v", err)
		}
		time.AfterFunc(2*time.Millisecond, func() { far.WriteString("next") })
		for frame := ""; frame != "next"; { // the lost one may still be there
			n, err := conn.ReadFrame(t.Context(), b)
			if err != nil {
				t.Fatalf("the call after it: %v", err)
			}
			frame = string(b[:n])
		}
	}
}
