package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	channelFD      = 3               // the worker's end: the first descriptor after stderr
	sendTimeout    = 5 * time.Second // a worker that has not emptied its socket for so long is stuck
	maxDescriptors = MaxQueues + 1   // with one message: a link and its DHCP socket
)

// A channel is one end of the socket pair.
type channel struct{ *net.UnixConn }

// newChannel makes a pair: one end for this process, one for the worker.
func newChannel() (channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return channel{}, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "worker")
	ours, err := openChannel(fds[0])
	if err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// openChannel takes over a descriptor.
func openChannel(fd int) (channel, error) {
	// Asked before anything is done with it: a descriptor that is not ours may be the runtime's.
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return channel{}, errors.Join(errors.New("no message socket"), err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "channel")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return channel{}, fmt.Errorf("message socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return channel{}, errors.New("message socket: not a Unix one")
	}
	return channel{u}, nil
}

// send sends one message with descriptors, which stay the caller's.
func (c channel) send(m any, fds ...int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes", len(b))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, _, err = c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one message into buf, with at most max descriptors. The kernel closes descriptors beyond that; they, and
// a message that does not fit, are an error.
func (c channel) receive(buf []byte, max int) ([]byte, []int, error) {
	var oob []byte
	if max > 0 {
		oob = make([]byte, unix.CmsgSpace(4*max))
	}
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, err
	}
	fds, err := rights(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("message or its descriptors too long")
	}
	if err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	return buf[:n], fds, nil
}

func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
