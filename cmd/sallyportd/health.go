package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/host"
)

// errWrongAnswer is what the self-test says of an answer that is not /healthz's.
var errWrongAnswer = errors.New("the listener answers something else")

// selfTest says whether the appliance still does its work: its own listener makes a TLS connection and answers, and the stacks
// open sockets. It asks nothing of the world, so that nobody outside can make it fail, and leaves no trace in any log.
func (d *daemon) selfTest(ctx context.Context) error {
	if err := d.askListener(ctx); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	for _, n := range d.networks {
		touch(n)
	}
	if d.public != nil {
		touch(d.public)
	}
	return nil
}

// touch opens a socket in a network's stack, which takes the stack's locks; that it cannot be had, as on a link that has
// gone, is no fault of the stack's.
func touch(n network) {
	v, ok := n.(*vnet)
	if !ok {
		return
	}
	if s, err := v.now(); err == nil {
		s.Touch()
	}
}

// askListener makes a connection as a client would and asks for /healthz. The connection goes round the network: whether a
// stranger's flood, a load balancer's rule or a missing loopback lets it through says nothing about the worker.
func (d *daemon) askListener(ctx context.Context) error {
	hello := &tls.Config{NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} // it is in this process
	if d.acme != nil {
		if hello.ServerName = d.acme.domains[0]; !d.acme.has(hello.ServerName) {
			return nil // the authority has not made the certificate yet, and without it nobody can connect
		}
	}
	ours, theirs, err := connected()
	if err != nil {
		return err
	}
	defer ours.Close()
	if err := d.server.Load().Take(ctx, theirs); err != nil {
		theirs.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { ours.Close() })
	defer stop()
	c := tls.Client(ours, hello)
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: appliance\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errWrongAnswer, answer.Status)
	}
	return nil
}

// connected is a connection inside the process and its other end.
func connected() (ours, theirs net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "self-test")
		end, connErr := net.FileConn(f)
		f.Close()
		ends[i], err = end, errors.Join(err, connErr)
	}
	if err != nil {
		for _, end := range ends {
			if end != nil {
				end.Close()
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}

const (
	trailTimeout = time.Second // for the audit log to say how it is
	trailStuck   = time.Minute // a disk may stall for half of that and go on; longer, and another worker is to try
)

var errTrailStuck = errors.New("the audit log is stuck")

// A tester tests again and again, and says once why that fails, and once that it does not any more.
type tester struct {
	*daemon
	trouble func() error // what is wrong with the audit log

	answer chan error // of trouble, while it is asked
	since  time.Time  // when it was
	failed string
}

func newTester(d *daemon) *tester { return &tester{daemon: d, trouble: d.trail.Trouble} }

// test is called by one goroutine at a time. An error that wraps host.ErrTrouble is of what another worker would not mend.
func (t *tester) test(ctx context.Context) error {
	err := t.selfTest(ctx)
	if err == nil {
		err = t.askTrail()
	}
	switch {
	case ctx.Err() != nil && !t.ready.Load(): // it is about to end
	case err == nil && t.failed != "":
		t.log.Info("the self-test passes again")
		t.failed = ""
	case err != nil && err.Error() != t.failed:
		t.failed = err.Error()
		t.log.Error("the self-test fails", "cause", err)
	}
	return err
}

// askTrail asks how the audit log is. Who is asked may be stuck, with the disk; the next test waits for the same answer.
func (t *tester) askTrail() error {
	if t.answer == nil {
		t.answer, t.since = make(chan error, 1), time.Now()
		go func(answer chan<- error) { answer <- t.trouble() }(t.answer)
	}
	late := time.NewTimer(trailTimeout)
	defer late.Stop()
	select {
	case err := <-t.answer:
		if t.answer = nil; err != nil {
			return fmt.Errorf("audit log: %w: %w", host.ErrTrouble, err)
		}
		return nil
	case <-late.C:
		if time.Since(t.since) >= trailStuck {
			return errTrailStuck
		}
		return fmt.Errorf("%w: %w", host.ErrTrouble, errTrailStuck)
	}
}
