package system

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// An authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue makes a certificate for a name or an address.
func (a *authority) issue(name string, from, to time.Time) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: to}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// TestCertificates is rows 18 and 19: an appliance's certificate that is unknown, for another name, expired or not yet
// valid; and the daemon takes up a new certificate, but not a broken one. (TestClock has a person's computer whose clock
// is wrong.)
func TestCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	now := time.Now()
	cert, key := ca.issue(lab.ApplianceAddr4.String(), now.Add(-time.Hour), now.Add(time.Hour))
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, caFile, ca.pem)
	b := start(t, settings{tls: "cert: server.crt, key: server.key", prepare: func(b *bastion) { b.install(cert, key) }})
	b.enrol("ann", b.home, "--ca", caFile)
	trusting := filepath.Join(b.Dir, "trusting") // whose computer knows the authority
	if r := b.inClient(trusting, b.code("ann")+"\n", "env", "SSL_CERT_FILE="+caFile, b.bin+"/sallyport", "login", b.url, "--code-file", "-"); r.exit != 0 {
		t.Errorf("login by the system's roots: %v", r)
	}
	stranger := filepath.Join(b.Dir, "stranger")
	for _, transport := range transports {
		login := func(more ...string) run {
			return b.as(stranger, "1234\n", append([]string{"--transport", transport, "login", b.url, "--code-file", "-"}, more...)...)
		}
		b.wrong(mistake{"18 unknown", nil, 14, says("the certificate of 10.77.2.2:443 is not known; its fingerprint is sha256:"+b.pinned,
			"hint: compare it with the one that the appliance's administrator sees; only if they are equal, log in with --fingerprint and that value, or with --ca FILE")}, login())
		b.wrong(mistake{"18 another key", nil, 14, says("10.77.2.2:443 shows a certificate with another key than the pinned one: sha256:"+b.pinned,
			"hint: if the appliance has a new certificate, its administrator can tell you the new fingerprint; log in again with --fingerprint; if it has not, this network decrypts TLS")}, login("--fingerprint", strings.Repeat("ab", 32)))
	}
	for _, c := range []struct {
		mistake
		name     string
		from, to time.Time
	}{
		{mistake{"19 expired", nil, 14, says("the certificate of 10.77.2.2:443 expired at {date}; it is {date} now", "hint: an administrator must renew the appliance's certificate")},
			lab.ApplianceAddr4.String(), now.Add(-48 * time.Hour), now.Add(-24 * time.Hour)},
		{mistake{"19 not yet valid", nil, 14, says("the certificate of 10.77.2.2:443 is valid only from {date}; it is {date} now", "hint: an administrator must check the appliance's certificate and clock")},
			lab.ApplianceAddr4.String(), now.Add(24 * time.Hour), now.Add(48 * time.Hour)},
		{mistake{"18 another name", nil, 14, says("the certificate of 10.77.2.2:443 is for other names: other.example", "hint: check the URL; if it is right, an administrator must give the appliance a certificate for this name")},
			"other.example", now.Add(-time.Hour), now.Add(time.Hour)},
	} {
		t.Run(c.row, func(t *testing.T) {
			b := b.on(t)
			b.install(ca.issue(c.name, c.from, c.to))
			for _, transport := range transports {
				var r run
				b.eventually(5*time.Second, "the daemon shows the new certificate", func() error {
					if r = b.client("--transport", transport, "ls"); !c.says.MatchString(r.stderr) {
						return errors.New(r.String())
					}
					return nil
				})
				b.wrong(c.mistake, r)
			}
		})
	}
	b.install(cert, key)
	b.eventually(5*time.Second, "the good certificate is back", func() error {
		if r := b.client("ls"); r.exit != 0 {
			return errors.New(r.String())
		}
		return nil
	})
	b.install("this is no certificate\n", key)
	b.logged(`level=ERROR msg="the certificate is not taken, the old one stays"`)
	if r := b.client("ls"); r.exit != 0 {
		t.Errorf("with the old certificate: %v", r)
	}
}

// install replaces the appliance's certificate and key.
func (b *bastion) install(cert, key string) {
	b.t.Helper()
	b.write("server.key", key)
	b.write("server.crt", cert)
}

// logged waits until the daemon has said something.
func (b *bastion) logged(text string) {
	b.t.Helper()
	b.eventually(10*time.Second, "the log says "+text, func() error {
		if !strings.Contains(b.daemon.Output(), text) {
			return errors.New("it does not")
		}
		return nil
	})
}

// TestProxies is rows 21 and 22: a network that lets people out only by a proxy, which wants credentials or looks into
// TLS.
func TestProxies(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	b.Block("udp", 443)
	proxy := b.HTTPProxy(b.Router, "ann", "pass word")
	through := func(home, stdin, proxy string, args ...string) run {
		return b.inClient(home, stdin, "env", append([]string{"HTTPS_PROXY=" + proxy, b.bin + "/sallyport"}, args...)...)
	}
	b.wrong(mistake{"21 no credentials", nil, 14, says("the proxy 10.77.1.1:3128 wants a user name and a password",
		"https to 10.77.2.2:443: the proxy 10.77.1.1:3128 wants a user name and a password after {took}", "quic to 10.77.2.2:443: no answer after {took}",
		"hint: put them into HTTPS_PROXY, as http://user:password@10.77.1.1:3128")}, through(b.home, "", "http://10.77.1.1:3128", "ls"))
	b.wrong(mistake{"21 nobody there", nil, 14, says("the proxy 10.77.1.1:9999 was not reached: connection refused",
		"https to 10.77.2.2:443: the proxy 10.77.1.1:9999 was not reached: connection refused after {took}",
		"hint: check HTTPS_PROXY and NO_PROXY")}, through(b.home, "", "http://10.77.1.1:9999", "--transport", "https", "ls"))
	if r := through(b.home, "", "http://ann:pass%20word@10.77.1.1:3128", "proxy", "db-1"); r.exit != 0 || !strings.HasPrefix(r.stdout, "SSH-2.0-") {
		t.Errorf("with credentials: %v", r)
	}
	if asked := proxy.Asked(); len(asked) != 1 || asked[0] != b.address {
		t.Errorf("the proxy was asked for %q", asked)
	}

	// A middlebox that decrypts. A person who pins the appliance's key does not talk to it at all; for one who trusts its
	// authority, as people are told to, the appliance notices.
	ca := newAuthority(t)
	b.inspector(ca, "10.77.1.1:3129")
	caFile, home := filepath.Join(b.Dir, "inspector.pem"), filepath.Join(b.Dir, "inspected")
	writeFile(t, caFile, ca.pem)
	r := through(b.home, "", "http://10.77.1.1:3129", "--transport", "https", "ls")
	b.wrong(mistake{"22 pinned", nil, 14, says("10.77.2.2:443 shows a certificate with another key than the pinned one: sha256:{hex}",
		"hint: if the appliance has a new certificate, its administrator can tell you the new fingerprint; log in again with --fingerprint; if it has not, this network decrypts TLS")}, r)
	code := b.code("ann")
	b.wrong(mistake{"22 inspected", nil, 14, says("TLS does not end at this appliance: the client saw another certificate",
		"hint: this network decrypts TLS; ask for an exception, or use another network")},
		through(home, code+"\n", "http://10.77.1.1:3129", "login", b.url, "--ca", caFile, "--code-file", "-"))
	if r := b.as(home, code+"\n", "login", b.url, "--fingerprint", b.pinned, "--code-file", "-"); r.exit != 0 {
		t.Errorf("the inspected sign-in has used up the code: %v", r)
	}
}

// inspector is a proxy in the router that decrypts TLS and encrypts it again with certificates of its own.
func (b *bastion) inspector(ca *authority, address string) {
	b.t.Helper()
	l, err := b.Router.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				if err := b.inspect(ctx, ca, c); err != nil && ctx.Err() == nil {
					b.t.Logf("inspector: %v", err)
				}
			})
		}
	})
}

func (b *bastion) inspect(ctx context.Context, ca *authority, near net.Conn) error {
	defer near.Close()
	stop := context.AfterFunc(ctx, func() { near.Close() })
	defer stop()
	request, err := http.ReadRequest(bufio.NewReader(near))
	if err != nil {
		return err
	}
	far, err := b.Router.DialContext(ctx, "tcp", request.Host)
	if err != nil {
		return err
	}
	defer far.Close()
	io.WriteString(near, "HTTP/1.1 200 Connected\r\n\r\n")
	host, _, _ := net.SplitHostPort(request.Host)
	pair, err := tls.X509KeyPair(pemPair(ca.issue(host, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))))
	if err != nil {
		return err
	}
	inner := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	outer := tls.Client(far, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	copied := make(chan error, 2)
	go func() { _, err := io.Copy(outer, inner); far.Close(); copied <- err }()
	go func() { _, err := io.Copy(inner, outer); inner.CloseWrite(); copied <- err }()
	return errors.Join(<-copied, <-copied)
}

func pemPair(cert, key string) ([]byte, []byte) { return []byte(cert), []byte(key) }

// TestStrangers is rows 24 and 58: what speaks something else on the public port learns nothing, and PROXY headers that
// should not be there, or not like this, are counted. The router is the one balancer that is believed.
func TestStrangers(t *testing.T) {
	t.Parallel()
	b := start(t, settings{listen: `address: ":443", proxy_protocol: [10.77.2.1/32]`, extra: "metrics: {listen: \"127.0.0.1:9090\"}\n"})
	for path, want := range map[string]string{
		"/":        "404 page not found\n404",
		"/v1/flow": "this path carries flows of the sallyport command\n426",
		"/healthz": "ok\n200",
		"/readyz":  "ready\n200",
	} {
		if r := b.inClient(b.home, "", "curl", "-sk", "-w", "%{http_code}", "https://10.77.2.2"+path); r.exit != 0 || r.stdout != want {
			t.Errorf("GET %s: %v", path, r)
		}
	}
	if r := b.inClient(b.home, "", "curl", "-sk", "--tls-max", "1.2", "https://10.77.2.2/"); r.exit != 35 {
		t.Errorf("TLS 1.2: %v", r)
	}
	header := "-H X-Large:" + strings.Repeat("x", 20000)
	if r := b.inClient(b.home, "", "curl", "-sk", header, "-w", "%{http_code}", "https://10.77.2.2/"); !strings.HasSuffix(r.stdout, "431") {
		t.Errorf("a large header: %v", r)
	}
	const (
		proxy1 = "PROXY TCP4 198.51.100.7 10.77.2.2 1000 443\r\n"
		proxy2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\x0a\x4d\x02\x02\x03\xe8\x01\xbb"
	)
	for name, stranger := range map[string]struct {
		from    *lab.Namespace
		hello   string
		counted int // as E_PROXY_HEADER
	}{
		"58 PROXY 1":                       {b.Client, proxy1, 1},
		"58 PROXY 2":                       {b.Client, proxy2, 1},
		"58 PROXY 1 from the balancer":     {b.Router, proxy1, 1},
		"58 malformed, from the balancer":  {b.Router, proxy2[:13] + "\x11\xff\xff", 1},
		"58 no header, from the balancer":  {b.Router, "SSH-2.0-OpenSSH_9.2\r\n", 1},
		"24 SSH":                           {b.Client, "SSH-2.0-OpenSSH_9.2\r\n", 0},
		"24 SSH, said to be from a client": {b.Router, proxy2 + "SSH-2.0-OpenSSH_9.2\r\n", 0},
		"24 plain":                         {b.Client, "GET / HTTP/1.1\r\nHost: 10.77.2.2\r\n\r\n", 0},
		"24 nonsense":                      {b.Client, strings.Repeat("\x00", 100), 0},
		"24 half done":                     {b.Client, "\x16\x03\x01", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.on(t)
			before := b.counted(`sallyport_protocol_errors_total{code="E_PROXY_HEADER"`)
			c, err := stranger.from.DialContext(t.Context(), "tcp", b.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			begin := time.Now()
			c.SetDeadline(begin.Add(10 * time.Second))
			io.WriteString(c, stranger.hello)
			said, err := io.ReadAll(c)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("the connection stays: %v", err)
			}
			if name != "24 plain" && len(said) > 7 { // a TLS alert
				t.Errorf("a stranger hears %q", said)
			}
			if n := b.counted(`sallyport_protocol_errors_total{code="E_PROXY_HEADER"`) - before; n != stranger.counted {
				t.Errorf("%d bad PROXY headers are counted, want %d", n, stranger.counted)
			}
			t.Logf("%q after %v", said, time.Since(begin).Round(time.Millisecond))
		})
	}
	b.logged(`msg="protocol broken" user="" device="" source=10.77.1.2 transport=https cause=E_PROXY_HEADER`)
	b.logged(`msg="protocol broken" user="" device="" source=10.77.2.1 transport=https cause=E_PROXY_HEADER`)
	if r := b.client("ls"); r.exit != 0 {
		t.Errorf("afterwards: %v", r)
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
