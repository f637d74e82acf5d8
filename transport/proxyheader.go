package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/pires/go-proxyproto"

	"sallyport/frame"
)

// behindBalancers believes what the configured balancers say of where a connection comes from: each of their
// connections must begin with a PROXY protocol header of version 2. Nobody else's is believed: it is no TLS, and its
// connection ends.
func (s *Server) behindBalancers(l net.Listener) net.Listener {
	if len(s.Balancers) == 0 {
		return l
	}
	return &proxyproto.Listener{
		Listener:          balancedListener{l},
		ReadHeaderTimeout: s.login(),
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			from := addrPort(o.Upstream).Addr()
			if slices.ContainsFunc(s.Balancers, func(p netip.Prefix) bool { return p.Contains(from) }) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
		ValidateHeader: func(h *proxyproto.Header) error {
			if h.Version != 2 {
				return errors.New("only version 2 of the PROXY protocol is understood")
			}
			return nil
		},
	}
}

// balancedListener accepts what may be a balancer's connections.
type balancedListener struct{ net.Listener }

func (l balancedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &balanced{Conn: c}, nil
}

// balanced is a connection below its PROXY header. A balancer that connects and says nothing looks whether somebody
// listens; one that says something must begin with a header.
type balanced struct {
	net.Conn
	said bool
}

func (b *balanced) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.said = b.said || n > 0
	return n, err
}

// begins looks at what a connection says first, or at why it says nothing, and reports whether that is enough to know if
// somebody sends a PROXY header who may not, or does not who must.
func (c *countedConn) begins(b []byte, err error) (enough bool) {
	if proxied, ok := c.Conn.(*proxyproto.Conn); ok {
		if below := proxied.Raw().(*balanced); err != nil && below.said && proxied.ProxyHeader() == nil {
			c.badHeader(below, "the balancer's connection does not begin with a PROXY header of version 2")
		}
		return true
	}
	length := len(proxyproto.SIGV1) // after so many bytes TLS has failed
	c.head = append(c.head, b[:min(len(b), length-len(c.head))]...)
	for _, s := range [][]byte{proxyproto.SIGV1, proxyproto.SIGV2[:length]} {
		switch {
		case bytes.Equal(c.head, s):
			c.badHeader(c.Conn, "a PROXY header came from somebody who is no balancer")
			return true
		case bytes.HasPrefix(s, c.head):
			return err != nil
		}
	}
	return true
}

func (c *countedConn) badHeader(from net.Conn, sentence string) {
	c.server.breach(frame.Peer{Transport: "https", Remote: addrPort(from.RemoteAddr())},
		&frame.SessionError{Reason: frame.Reason{Code: "E_PROXY_HEADER", Sentence: sentence}})
}
