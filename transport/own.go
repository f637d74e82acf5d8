package transport

import (
	"context"
	"net"
	"sync"
)

// Take has ServeHTTPS serve a connection of the appliance's own as it serves those that its listener accepts, and in turn
// with them: so the appliance sees whether it still answers. It counts as no stranger's. Take returns when the connection
// is taken; its error is that ctx has ended before, and c is the caller's then.
func (s *Server) Take(ctx context.Context, c net.Conn) error {
	select {
	case s.own.queue() <- ownConn{c}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ownConn is a connection that nobody from outside has made.
type ownConn struct{ net.Conn }

// own are connections that wait to be taken. Its zero value is ready.
type own struct {
	once sync.Once
	c    chan net.Conn
}

func (o *own) queue() chan net.Conn {
	o.once.Do(func() { o.c = make(chan net.Conn) })
	return o.c
}

// A joint accepts what a listener does and what is the appliance's own.
type joint struct {
	net.Listener
	own      <-chan net.Conn
	accepted chan accepted
	done     chan struct{}
	end      func()
}

type accepted struct {
	conn net.Conn
	err  error
}

func join(l net.Listener, own <-chan net.Conn) *joint {
	j := &joint{Listener: l, own: own, accepted: make(chan accepted), done: make(chan struct{})}
	j.end = sync.OnceFunc(func() { close(j.done) })
	return j
}

// listen accepts until the joint is closed.
func (j *joint) listen() {
	for {
		c, err := j.Listener.Accept()
		select {
		case j.accepted <- accepted{c, err}:
		case <-j.done:
			if err == nil {
				c.Close()
			}
			return
		}
	}
}

// Accept implements net.Listener.
func (j *joint) Accept() (net.Conn, error) {
	select {
	case a := <-j.accepted:
		return a.conn, a.err
	case c := <-j.own:
		return c, nil
	case <-j.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (j *joint) Close() error {
	j.end()
	return j.Listener.Close()
}
