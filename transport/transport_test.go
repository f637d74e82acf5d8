package transport_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/goleak"

	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is an appliance that admits one device and hands every flow's carrier to the test.
type bench struct {
	t        testing.TB
	address  string
	roots    *x509.CertPool
	key      ed25519.PrivateKey
	identity ed25519.PrivateKey
	carriers chan *handed
	sources  []netip.AddrPort // of those who were admitted

	balancers []netip.Prefix

	mu       sync.Mutex
	breaches []string // codes
}

func (b *bench) breach(p frame.Peer, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, _ := frame.ReasonOf(err)
	b.breaches = append(b.breaches, p.Transport+" "+string(r.Code))
}

// broken are the breaches that the server has told.
func (b *bench) broken(want string) string {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		got := strings.Join(b.breaches, ", ")
		b.mu.Unlock()
		if got == want || time.Now().After(end) {
			return got // the client may have heard before we have
		}
	}
}

// handed is a carrier lent to a test until it is closed.
type handed struct {
	frame.Carrier
	done chan struct{}
	once sync.Once
}

func (h *handed) Close() error {
	err := h.Carrier.Close()
	h.once.Do(func() { close(h.done) })
	return err
}

func (b *bench) Admit(_ context.Context, h *frame.Hello, p *frame.Peer) (*frame.Welcome, error) {
	if !b.key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(h.Device)) {
		return nil, frame.Refuse("E_REVOKED", "the device \"laptop\" was revoked", "enrol again")
	}
	p.User, p.Device = "ann", "dev-1"
	b.sources = append(b.sources, p.Remote)
	return &frame.Welcome{User: "ann", Name: "bench"}, nil
}

func (b *bench) Flow(ctx context.Context, c frame.Carrier, p frame.Peer) {
	h := &handed{Carrier: c, done: make(chan struct{})}
	select {
	case b.carriers <- h:
		select {
		case <-h.done:
		case <-ctx.Done():
			h.Close()
		}
	case <-ctx.Done():
		c.Close()
	}
}

// start serves QUIC and HTTPS on one port of loopback until the test ends.
func start(t testing.TB, balancers ...netip.Prefix) *bench {
	return startOn(t, func(pc net.PacketConn) net.PacketConn { return pc }, balancers...)
}

// startOn is start on a socket for QUIC that a test has wrapped.
func startOn(t testing.TB, wrap func(net.PacketConn) net.PacketConn, balancers ...netip.Prefix) *bench {
	b := &bench{t: t, carriers: make(chan *handed), balancers: balancers}
	_, b.key, _ = ed25519.GenerateKey(rand.Reader)
	_, b.identity, _ = ed25519.GenerateKey(rand.Reader)
	cert := transport.SelfSigned(t)
	b.roots = x509.NewCertPool()
	b.roots.AddCert(cert.Leaf)
	server := &transport.Server{
		Handler:     b,
		Identity:    frame.PrivateKey(b.identity),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Software:    "sallyportd test",
		Login:       time.Second,
		Silence:     500 * time.Millisecond,
		Balancers:   b.balancers,
		Breach:      b.breach,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = l.Addr().String()
	pc, err := net.ListenPacket("udp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	server.Origin, server.Browser = "https://"+b.address, browserOf
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.ServeHTTPS(ctx, l); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		defer pc.Close()
		if err := server.ServeQUIC(ctx, wrap(pc)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return b
}

func (b *bench) client(mode transport.Mode) *transport.Client {
	return &transport.Client{
		Address: b.address, Mode: mode,
		TLS:    &tls.Config{RootCAs: b.roots},
		Signer: frame.PrivateKey(b.key),
		Hello:  frame.Hello{Software: "test"},
	}
}

var modes = []transport.Mode{transport.QUIC, transport.HTTPS}

// TestCarriers runs the one conformance suite over both transports.
func TestCarriers(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			b := start(t)
			session, err := b.client(mode).Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if session.Transport != string(mode) || session.Welcome.User != "ann" {
				t.Errorf("session over %s for %q", session.Transport, session.Welcome.User)
			}
			frametest.TestCarrier(t, func(t testing.TB) (frame.Carrier, func() frame.Carrier) {
				c, err := session.Carrier(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return c, func() frame.Carrier { return <-b.carriers }
			})
		})
	}
}

func TestRefusedAtTheDoor(t *testing.T) {
	for _, mode := range append(modes, transport.Auto) {
		t.Run(string(mode), func(t *testing.T) {
			b := start(t)
			c := b.client(mode)
			_, other, _ := ed25519.GenerateKey(rand.Reader)
			c.Signer = frame.PrivateKey(other)
			_, err := c.Dial(t.Context())
			reason, ok := frame.ReasonOf(err)
			if !ok || reason.Code != "E_REVOKED" || reason.Hint != "enrol again" {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

func TestCertificateOfSomebodyElse(t *testing.T) {
	for _, mode := range append(modes, transport.Auto) {
		t.Run(string(mode), func(t *testing.T) {
			b := start(t)
			c := b.client(mode)
			c.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
			_, err := c.Dial(t.Context())
			var unknown x509.UnknownAuthorityError
			if !errors.As(err, &unknown) {
				t.Errorf("dial says %v", err)
			}
		})
	}
}

// TestUDPBlocked: nothing answers on UDP, HTTPS wins.
func TestUDPBlocked(t *testing.T) {
	b := start(t)
	c := b.client(transport.Auto)
	silent, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	proxy := tcpForwarder(t, silent.LocalAddr().String(), b.address)
	c.Address = proxy
	c.TLS = &tls.Config{RootCAs: b.roots, ServerName: "127.0.0.1"}
	begin := time.Now()
	s, err := c.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Transport != "https" {
		t.Errorf("over %s", s.Transport)
	}
	t.Logf("reached over https after %v", time.Since(begin))

	c.Mode = transport.QUIC
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := c.Dial(ctx); err == nil {
		t.Error("a pinned transport fell back")
	}
}

// tcpForwarder passes TCP on from the address at, and leaves UDP there alone.
func tcpForwarder(t *testing.T, at, to string) string {
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				wg.Go(func() { io.Copy(out, in); out.Close() })
				io.Copy(in, out)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return at
}

func TestNothingThere(t *testing.T) {
	b := start(t)
	c := b.client(transport.Auto)
	c.Address = "127.0.0.1:1"
	_, err := c.Dial(t.Context())
	var path *transport.PathError
	if !errors.As(err, &path) || len(path.Attempts) != 2 {
		t.Fatalf("dial says %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "quic to") || !strings.Contains(text, "https to") {
		t.Errorf("the text names not both: %s", text)
	}
}

func TestOrdinaryRequests(t *testing.T) {
	b := start(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots}}}
	defer client.CloseIdleConnections()
	for path, status := range map[string]int{"/": 404, "/v1/flow": http.StatusUpgradeRequired} {
		resp, err := client.Get("https://" + b.address + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("GET %s: %s, want %d", path, resp.Status, status)
		}
	}
}

// TestSilence: a connection that says nothing is ended, and one that speaks something else too.
func TestSilence(t *testing.T) {
	b := start(t)
	for name, say := range map[string]string{
		"nothing":  "",
		"garbage":  "GET /v1/flow HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: sallyport/1\r\n\r\n\x20\x00\x00\x05hello",
		"no body":  "POST /v1/flow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"dripping": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1",
		"again":    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"silence":  "GET /v1/flow HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: sallyport/1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", b.address, &tls.Config{RootCAs: b.roots, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, say)
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the appliance still waits: %v", err)
			}
		})
	}
}

func TestProxy(t *testing.T) {
	b := start(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := basic(r)
		if r.Method != http.MethodConnect || !ok || user != "ann" || password != "secret" {
			w.Header().Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer out.Close()
		in, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(out, buffered.Reader)
		io.Copy(in, out)
	}))
	defer proxy.Close()
	c := b.client(transport.HTTPS)
	with := func(user *url.Userinfo) {
		u, _ := url.Parse(proxy.URL)
		u.User = user
		c.Proxy = func(*url.URL) (*url.URL, error) { return u, nil }
	}
	with(nil)
	if reason, _ := frame.ReasonOf(second(c.Dial(t.Context()))); reason.Code != "E_PROXY_AUTH" {
		t.Errorf("without a password: %+v", reason)
	}
	with(url.UserPassword("ann", "secret"))
	s, err := c.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.Address = "127.0.0.1:1"
	if reason, _ := frame.ReasonOf(second(c.Dial(t.Context()))); reason.Code != "E_PROXY" {
		t.Errorf("to a closed port: %+v", reason)
	}
}

// TestBalancer: a configured balancer says where the client comes from, and must; nobody else is believed. Headers that
// are wrong are told, those from whom there should be none too.
func TestBalancer(t *testing.T) {
	const client = "203.0.113.7:4711"
	header := func(version byte) []byte {
		h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443})
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const bad = "https E_PROXY_HEADER"
	for name, c := range map[string]struct {
		trusted string
		say     []byte
		source  string // "": the connection ends
		breach  string
	}{
		"version 2":         {"127.0.0.0/8", header(2), client, ""},
		"version 1":         {"127.0.0.0/8", header(1), "", bad},
		"no header":         {"127.0.0.0/8", nil, "", bad},
		"malformed":         {"127.0.0.0/8", []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), "", bad},
		"untrusted":         {"198.51.100.0/24", header(2), "", bad},
		"untrusted, 1":      {"198.51.100.0/24", header(1), "", bad},
		"untrusted, silent": {"198.51.100.0/24", nil, "127.0.0.1", ""},
		"none is trusted":   {"", header(2), "", bad},
		"nonsense":          {"", []byte("PROPOSAL\r\n"), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var trusted []netip.Prefix
			if c.trusted != "" {
				trusted = append(trusted, netip.MustParsePrefix(c.trusted))
			}
			b := start(t, trusted...)
			cl := b.client(transport.HTTPS)
			cl.Address = prefixer(t, b.address, c.say)
			s, err := cl.Dial(t.Context())
			if (err == nil) != (c.source != "") {
				t.Fatalf("dial: %v", err)
			}
			if got := b.broken(c.breach); got != c.breach {
				t.Errorf("told %q, want %q", got, c.breach)
			}
			if err != nil {
				return
			}
			s.Close()
			if got := b.sources[0]; got.String() != c.source && got.Addr().String() != c.source {
				t.Errorf("the client comes from %v, not %s", got, c.source)
			}
		})
	}
}

// TestBalancerLooks: a balancer that connects to see whether somebody listens has done nothing wrong.
func TestBalancerLooks(t *testing.T) {
	b := start(t, netip.MustParsePrefix("127.0.0.0/8"))
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c) // until the server has hung up too
	c.Close()
	if got := b.broken(""); got != "" {
		t.Errorf("told %q", got)
	}
}

// TestBreach: what breaks the protocol where there is no flow is told.
func TestBreach(t *testing.T) {
	for _, mode := range []transport.Mode{transport.QUIC, transport.HTTPS} {
		b := start(t)
		c := b.client(mode)
		c.Signer = badSigner{c.Signer}
		if _, err := c.Dial(t.Context()); err == nil {
			t.Errorf("%s: a HELLO without a signature is welcome", mode)
		}
		want := string(mode) + " E_FRAME"
		if got := b.broken(want); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

// badSigner signs with too few bytes.
type badSigner struct{ frame.Signer }

func (badSigner) Sign([]byte) ([]byte, error) { return []byte("x"), nil }

// prefixer is a balancer: it says something before what its clients say.
func prefixer(t *testing.T, to string, say []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		out.Write(say)
		wg.Go(func() { io.Copy(out, in); out.Close() })
		io.Copy(in, out)
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func basic(r *http.Request) (user, password string, ok bool) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	return r.BasicAuth()
}

func second[T any](_ T, err error) error { return err }
