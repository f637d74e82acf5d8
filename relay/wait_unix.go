//go:build unix

package relay

import (
	"errors"

	"golang.org/x/sys/unix"
)

// canWait says that a socket can be asked whether it has bytes without reading them.
const canWait = true

func waitReadable(fd uintptr) bool { return poll(fd, unix.POLLIN) }

func waitWritable(fd uintptr) bool { return poll(fd, unix.POLLOUT) }

// poll asks without waiting; the runtime's poller waits when the answer is no.
func poll(fd uintptr, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return n != 0 || err != nil
		}
	}
}

// writeNow writes what the socket takes at once.
func writeNow(fd uintptr, p []byte) (int, error) {
	for {
		n, err := unix.Write(int(fd), p)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case err != nil:
			return 0, err
		default:
			return n, nil
		}
	}
}
