// Package flow_test looks at flows of browsers as a whole: the portal's own TypeScript, in Node and in Chromium, against a
// gateway and its transport, over a link that breaks.
package flow_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/appliance"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/netstack"
	"sallyport/tests/chaoslink/chaos"
	"sallyport/tests/npm"
	"sallyport/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

//go:embed package.json package-lock.json build.mjs
var files embed.FS

// script makes one script of a file of this folder, and returns its path.
func script(t *testing.T, name string) string {
	t.Helper()
	dir := npm.Install(t, "flow", files)
	source, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(name, ".ts")+".mjs")
	build := exec.CommandContext(t.Context(), "node", "build.mjs", source, out)
	build.Dir = dir
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, said)
	}
	return out
}

// noLocks are locks that are not kept.
type noLocks struct{}

func (noLocks) Locks(context.Context) ([]auth.Lock, error)              { return nil, nil }
func (noLocks) PutLock(context.Context, auth.Lock) error                { return nil }
func (noLocks) DeleteLock(context.Context, auth.LockKind, string) error { return nil }

// notebook is an audit log in memory.
type notebook struct {
	mu     sync.Mutex
	events []audit.Event
}

func (n *notebook) Write(e audit.Event) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	return nil
}

func (n *notebook) Read(audit.Filter) iter.Seq2[audit.Event, error] {
	return func(func(audit.Event, error) bool) {}
}

// count is how many events there are of a kind, by the transport of browsers.
func (n *notebook) count(kind string) (found int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == kind && e.Transport == "websocket" {
			found++
		}
	}
	return found
}

// loopback is a VNet of this machine's own addresses.
type loopback struct{ net.Dialer }

func (*loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("no names")
}

func (*loopback) Choose(addrs []netip.Addr) (netip.Addr, error) { return addrs[0], nil }

// A site is an appliance for browsers, behind a link.
type site struct {
	t       *testing.T
	gateway *appliance.Gateway
	book    *notebook
	devices *auth.Registry
	server  *transport.Server
	link    *chaos.Link
	origin  string // of its pages, through the link
	ca      string // a file
	address string
	page    string // the script of its page

	echo, counter int // ports of targets

	mu      sync.Mutex
	cookies map[string]string // devices by cookie

	stop func() // of serving
	wg   sync.WaitGroup
}

func newSite(t *testing.T) *site {
	s := &site{t: t, book: new(notebook), cookies: map[string]string{}}
	s.echo = s.target(func(c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
	s.counter = s.target(count)
	var err error
	if s.devices, err = auth.Open(t.Context(), t.TempDir(), new(auth.Memory), time.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.devices.Close() })
	s.gateway = &appliance.Gateway{Name: "site", Audit: s.book, VNets: map[string]appliance.VNet{"hub": new(loopback)}, Devices: s.devices,
		Metrics: appliance.NewMetrics(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if s.gateway.Locks, err = auth.OpenLocks(t.Context(), noLocks{}, time.Now, s.gateway.EndLocked); err != nil {
		t.Fatal(err)
	}
	access := fmt.Sprintf("admins: []\ntargets:\n  - {name: echo, vnet: hub, address: 127.0.0.1, protocols: {tcp: [%d, %d]}}\nrules:\n  - {name: all, who: [ann], targets: [echo], protocols: [tcp]}\n", s.echo, s.counter)
	rules, err := policy.Parse([]policy.File{{Name: "access.yaml", Data: []byte(access)}},
		policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: func(netip.Addr) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s.gateway.SetPolicy(rules)
	s.serve()
	return s
}

// target serves connections on a port of loopback.
func (s *site) target(serve func(*net.TCPConn)) (port int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	s.t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// count says the sequence of bytes.ts, 4 KiB every 10 ms, until the client hangs up.
func count(c *net.TCPConn) {
	for at := 0; ; at += 4 << 10 {
		b := make([]byte, 4<<10)
		for i := 0; i < len(b); i += 4 {
			binary.LittleEndian.PutUint32(b[i:], uint32(at+i)>>2*2654435761)
		}
		if _, err := c.Write(b); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// certificate is for localhost, signed by itself.
func certificate(t *testing.T) (*tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// serve puts the transport and the link before the gateway.
func (s *site) serve() {
	t := s.t
	cert, text := certificate(t)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.link = &chaos.Link{To: s.address}
	at, err := s.link.ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.origin = fmt.Sprintf("https://localhost:%d", at.(*net.TCPAddr).Port)
	_, identity, _ := ed25519.GenerateKey(rand.Reader)
	s.server = &transport.Server{Handler: s.gateway, Identity: frame.PrivateKey(identity), Software: "sallyportd test", Breach: s.gateway.Breach,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }, HTTP: s.pages(), Browser: s.browser, Origin: s.origin}
	s.start(l)
	t.Cleanup(func() {
		s.link.Close()
		s.gateway.Close()
		s.stop()
	})
}

// restart ends the transport, with all its connections, and begins another on the same port.
func (s *site) restart() {
	s.stop()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.start(l)
}

func (s *site) start(l net.Listener) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.wg.Go(func() {
		if err := s.server.ServeHTTPS(ctx, l); err != nil {
			s.t.Error(err)
		}
	})
	s.stop = func() {
		cancel(errors.New("the transport starts again"))
		s.wg.Wait()
	}
}

// browser is whose device a cookie stands for.
func (s *site) browser(r *http.Request) (string, error) {
	c, err := r.Cookie("__Host-device")
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if device := s.cookies[c.Value]; device != "" {
		return device, nil
	}
	return "", errors.New("not known")
}

// pages are a page with the script, and what makes a device of a browser, without asking who sits there.
func (s *site) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'")
		io.WriteString(w, `<!doctype html><title>flows</title><script type="module" src="/page.js"></script>`)
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		http.ServeFile(w, r, s.page)
	})
	mux.HandleFunc("POST /enrol", func(w http.ResponseWriter, r *http.Request) {
		key, err := io.ReadAll(io.LimitReader(r.Body, 64))
		var code string
		if err == nil {
			code, err = s.devices.NewCode("ann", 0, auth.Scope{})
		}
		var device auth.Device
		if err == nil {
			device, err = s.devices.Enrol(auth.Enrolment{Code: code, Key: key, Name: "browser"})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		cookie := rand.Text()
		s.mu.Lock()
		s.cookies[cookie] = device.ID
		s.mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: "__Host-device", Value: cookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	})
	return mux
}
