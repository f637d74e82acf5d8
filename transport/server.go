package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"sallyport/frame"
)

// A Handler is what the transports bring clients to.
type Handler interface {
	// Admit decides about a HELLO whose proof is good, and names p's user and device. Its error is told to the client.
	// The context ends with the connection; it may be called again to renew.
	Admit(ctx context.Context, h *frame.Hello, p *frame.Peer) (*frame.Welcome, error)

	// Flow serves one stream of an admitted client. It may return before that is over; when it is, it is closed, and not
	// before. The context ends with the connection.
	Flow(ctx context.Context, c frame.Carrier, p frame.Peer)
}

// A Server accepts clients.
type Server struct {
	Handler  Handler
	Identity frame.Signer

	// Certificate is shown to clients.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// Protocols are ALPN names that Certificate may be asked for by HTTPS clients besides our own, such as those of a
	// certificate authority's challenge.
	Protocols []string

	// Balancers are those whose PROXY protocol header says where an HTTPS client comes from; none by default.
	Balancers []netip.Prefix

	// Breach is told of connections that broke the protocol where no flow was open: what the client did is a
	// *frame.SessionError. Flows' own errors are the Handler's. It may be nil, and gets other errors too.
	Breach func(p frame.Peer, err error)

	// Browser names the device of a browser by the cookie that a request shows, or says why it is none's; nil: browsers
	// open no flows. Origin is that of the pages from which they may, as browsers write it: https://bastion.example.
	Browser func(*http.Request) (device string, err error)
	Origin  string

	Software   string        // told to clients
	HTTP       http.Handler  // answers HTTPS requests that ask for no flow; nil: 404
	MaxPending int           // connections that have not said who they are; default 64
	Login      time.Duration // that they may take to say it; default 5 seconds
	Silence    time.Duration // of a browser, after which it is asked, and gone after as long again; default 15 seconds

	door  door
	own   own
	shown shownKeys
}

func (s *Server) login() time.Duration { return cmp.Or(s.Login, loginTimeout) }

// wait counts a stranger in; see door.
func (s *Server) wait(from netip.Addr) (leave func(), ok bool) {
	return s.door.wait(from, cmp.Or(s.MaxPending, 64))
}

// Disconnect ends the connections of a device, with all that they carry.
func (s *Server) Disconnect(device string, why error) { s.door.showOut(device, why) }

func (s *Server) breach(p frame.Peer, err error) {
	if s.Breach != nil {
		s.Breach(p, err)
	}
}

// contain keeps a panic in a connection's own goroutine from being anybody else's.
func contain() {
	if v := recover(); v != nil {
		slog.Error("panic", "in", "a connection that was not admitted yet", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}

func (s *Server) tlsConfig(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := s.Certificate(hello)
			if err == nil {
				err = s.shown.note(cert)
			}
			return cert, err
		},
		DynamicRecordSizingDisabled: true,
	}
}

// greeter answers HELLOs of peer, whose user and device it sets; enter is asked about the first one that is admitted. A
// HELLO that renews must come from the same two.
func (s *Server) greeter(ctx context.Context, peer *frame.Peer, enter func(*frame.Peer) error) *frame.Greeter {
	return &frame.Greeter{
		Identity: s.Identity,
		Software: s.Software,
		Admit: func(h *frame.Hello) (*frame.Welcome, error) {
			next := *peer
			next.Software = frame.Clip(h.Software, 64)
			w, err := s.Handler.Admit(ctx, h, &next)
			if err != nil {
				return nil, err
			}
			switch {
			case peer.Device == "":
				if err := enter(&next); err != nil {
					return nil, err
				}
			case next.Device != peer.Device || next.User != peer.User:
				return nil, &frame.SessionError{Reason: frame.Reason{Code: frame.Auth,
					Sentence: "a connection belongs to one person and one device"}}
			}
			*peer = next
			return w, nil
		},
	}
}

// channel is the appliance's view of a TLS connection.
func (s *Server) channel(state *tls.ConnectionState) (frame.Channel, error) {
	exporter, err := state.ExportKeyingMaterial(frame.ExporterLabel, nil, 32)
	return frame.Channel{Exporter: exporter, Secret: secretOf(state), ServerKeys: s.shown.all()}, err
}

// shownKeys are SPKI of the certificates that were shown last: a connection that was made before a certificate changed
// says HELLO after it.
type shownKeys struct {
	mu   sync.Mutex
	keys [][]byte // the latest first
	last []byte   // the certificate that the latest belongs to
}

const maxShown = 64

func (k *shownKeys) note(cert *tls.Certificate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if bytes.Equal(k.last, cert.Certificate[0]) {
		return nil
	}
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return err
		}
	}
	key := SPKI(leaf)
	keys := slices.DeleteFunc(slices.Clone(k.keys), func(old []byte) bool { return bytes.Equal(old, key) })
	k.keys = append([][]byte{key}, keys[:min(len(keys), maxShown-1)]...)
	k.last = cert.Certificate[0]
	return nil
}

func (k *shownKeys) all() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return unmap(ap)
}

func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// ended hides the error of a server that was asked to stop.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
