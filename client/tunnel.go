package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"sallyport/frame"
	"sallyport/relay"
)

// A Tunnel is a local port whose every connection becomes a flow of its own.
//
// On Linux a connection from this computer is accepted only from processes of the same user. Elsewhere the kernel
// does not say whose a connection is: whoever can run programs on this computer can use the port while it is open.
type Tunnel struct {
	Dialer  Dialer
	Request frame.OpenRequest
	Failed  func(error) // is told of each connection that came to nothing; may be nil

	// Linger ends Serve when connections have come and none has been left for so long; 0: only ctx ends it.
	Linger time.Duration
}

// ListenLocal opens a tunnel's port. Where no host is named it is 127.0.0.1, where no port is named any will do.
func ListenLocal(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = "", address // a port alone
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(cmp.Or(host, "127.0.0.1"), cmp.Or(port, "0")))
	if err != nil {
		return nil, frame.Refuse("E_USAGE", "the local port cannot be opened: "+err.Error(), "choose another with --listen")
	}
	return l, nil
}

// Serve accepts connections on l until ctx ends, and returns when the last of them is closed. It closes l.
func (t *Tunnel) Serve(ctx context.Context, l net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	gone := t.countdown(end)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // too many open files: others will be closed
			t.failed(fmt.Errorf("accept: %w", err))
			time.Sleep(100 * time.Millisecond)
			continue
		}
		left := gone()
		conns.Go(func() {
			defer left()
			t.conn(ctx, c)
		})
	}
}

// countdown returns what each connection calls when it comes; what that returns is called when it goes. Linger after
// the last has gone, end is called.
func (t *Tunnel) countdown(end func()) (come func() (left func())) {
	var mu sync.Mutex
	var timer *time.Timer
	open := 0
	return func() func() {
		mu.Lock()
		defer mu.Unlock()
		if open++; timer != nil {
			timer.Stop()
		}
		return func() {
			mu.Lock()
			defer mu.Unlock()
			if open--; open == 0 && t.Linger > 0 {
				timer = time.AfterFunc(t.Linger, func() {
					mu.Lock()
					defer mu.Unlock()
					if open == 0 {
						end()
					}
				})
			}
		}
	}
}

// conn serves one connection.
func (t *Tunnel) conn(ctx context.Context, c net.Conn) {
	defer c.Close()
	if err := checkPeer(c); err != nil {
		t.failed(err)
		return
	}
	first := &First{Conn: relay.Wrap(c)}
	flow, _, err := t.Dialer.Open(ctx, t.Request, first)
	if err != nil {
		t.failed(err)
		return
	}
	err = first.join(ctx, flow)
	if r, _ := frame.ReasonOf(err); err != nil && r.Code != frame.Closed { // the local program may leave when it likes
		t.failed(err)
	}
}

func (t *Tunnel) failed(err error) {
	if t.Failed != nil && !errors.Is(err, context.Canceled) {
		t.Failed(err)
	}
}

// checkPeer refuses a connection that another user of this computer made.
func checkPeer(c net.Conn) error {
	local, remote := endpoint(c.LocalAddr()), endpoint(c.RemoteAddr())
	if local.Addr() != remote.Addr() && !remote.Addr().IsLoopback() {
		return nil // from another computer: the person has opened the port to others
	}
	if mine, err := ownConnection(remote, local); err != nil || !mine {
		return frame.Refuse("E_DENIED", fmt.Sprintf("refused a connection from %s: it belongs to another user of this computer", remote), "")
	}
	return nil
}

func endpoint(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}
