package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A receiver is a server of the tests: it can be stopped, which resets its connections, and started again on its port.
type receiver struct {
	t       *testing.T
	address string
	serve   func(net.Conn)
	mu      sync.Mutex
	l       net.Listener
	conns   map[net.Conn]bool
	tasks   sync.WaitGroup

	lines []string // what has been received
	read  int      // connections that were read to their end
}

func newReceiver(t *testing.T, serve func(*receiver, net.Conn)) *receiver {
	r := &receiver{t: t, address: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	r.serve = func(c net.Conn) { serve(r, c) }
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) start() {
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.address = l.Addr().String()
	r.mu.Lock()
	r.l = l
	r.mu.Unlock()
	r.tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			stopped := r.l != l
			r.conns[c] = true
			r.mu.Unlock()
			if stopped {
				c.Close()
				return
			}
			r.tasks.Go(func() {
				defer c.Close()
				r.serve(c)
			})
		}
	})
}

// stop ends the server as a kill would: what it has not read is lost, and the sender learns it by a reset.
func (r *receiver) stop() {
	r.mu.Lock()
	if r.l != nil {
		r.l.Close()
		r.l = nil
	}
	for c := range r.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	clear(r.conns)
	r.mu.Unlock()
	r.tasks.Wait()
}

func (r *receiver) add(lines ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, lines...)
}

func (r *receiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// outage writes while the receiver is stopped and started, and wants all lines there in order.
func outage(t *testing.T, r *receiver, sink Sink) {
	t.Helper()
	l := open(t, Config{
		Sync: time.Millisecond, HeadLines: 100, SegmentBytes: 32 << 10,
		pause: time.Millisecond, retryMin: time.Millisecond, retryMax: 20 * time.Millisecond,
	})
	exportTo(t, l, "siem", sink)
	for i := range 10 {
		writeMore(t, l, i*300, 300)
		had := len(r.received())
		soon(t, "some lines", func() bool { return len(r.received()) > had || isSent(l) })
		r.stop()
		writeMore(t, l, i*300+300, 20)
		soon(t, "an error", func() bool { return l.Exports()[0].Err != nil })
		r.start()
	}
	soon(t, "all lines", func() bool { return isSent(l) })
	closeLog(t, l)
	wantChain(t, l.cfg.Dir, r.received())
	if x := l.Exports()[0]; x.Lost != 0 {
		t.Errorf("got %+v", x)
	}
}

// A testCA signs certificates for loopback.
type testCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // in PEM
}

func newCA(t *testing.T) *testCA {
	ca := &testCA{key: newKey(t), file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, ca.file, "CERTIFICATE", der)
	return ca
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue returns a certificate for loopback, and the files that it is in.
func (ca *testCA) issue(t *testing.T) (cert tls.Certificate, certFile, keyFile string) {
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bastion-1"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", pkcs8)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certFile, keyFile
}

var syslogHeader = regexp.MustCompile(`^<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) bastion-1 sallyport - ([a-z.-]+) \[meta sequenceId="(\d+)"\] (\{.*\})$`)

// readSyslog parses messages that are counted in octets, as RFC 5425 has them.
func readSyslog(r *receiver, c net.Conn) {
	in := bufio.NewReader(c)
	for {
		digits, err := in.ReadString(' ')
		if err == io.EOF && digits == "" {
			r.mu.Lock()
			r.read++
			r.mu.Unlock()
			return
		}
		var n int
		if _, scanErr := fmt.Sscanf(digits, "%d ", &n); err != nil || scanErr != nil || n > 2*maxLine {
			return // the receiver was stopped
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		match := syslogHeader.FindStringSubmatch(string(b))
		if match == nil {
			r.t.Errorf("not a syslog message: %q", b)
			return
		}
		e, err := parseLine([]byte(match[5]))
		if err != nil || e.Kind != match[3] || fmt.Sprint(e.Seq) != match[4] || e.Time.Format(timeForm) != match[2] {
			r.t.Errorf("header and line differ: %q", b)
		}
		r.add(match[5])
	}
}

func TestSyslogTLS(t *testing.T) {
	ca := newCA(t)
	server, _, _ := ca.issue(t)
	_, certFile, keyFile := ca.issue(t)
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	config := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	r := newReceiver(t, func(r *receiver, c net.Conn) {
		conn := tls.Server(c, config)
		defer conn.Close()
		readSyslog(r, conn)
	})
	sink, err := Syslog{Address: r.address, TLS: TLS{CA: ca.file, Cert: certFile, Key: keyFile}}.Open()
	if err != nil {
		t.Fatal(err)
	}
	outage(t, r, sink)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == 0 {
		t.Error("no connection was closed in order")
	}
}

func TestSyslogClear(t *testing.T) {
	r := newReceiver(t, readSyslog)
	sink, err := Syslog{Address: r.address, Clear: true}.Open()
	if err != nil {
		t.Fatal(err)
	}
	outage(t, r, sink)
}

// TestSyslogTrust: nothing is sent to a receiver whose certificate is not the expected one's, or that wants to know us.
func TestSyslogTrust(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	server, _, _ := ca.issue(t)
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	records := []Record{{Event{Seq: 1, Kind: FlowOpen, Appliance: "bastion-1", Time: someTime}, []byte("{}")}}
	for _, c := range []struct {
		what   string
		tls    TLS
		client tls.ClientAuthType
	}{
		{"another CA", TLS{CA: other.file}, tls.NoClientCert},
		{"the system's CAs", TLS{}, tls.NoClientCert},
		{"another name", TLS{CA: ca.file, ServerName: "log.example"}, tls.NoClientCert},
		{"no client certificate", TLS{CA: ca.file}, tls.RequireAndVerifyClientCert},
	} {
		config := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: c.client, ClientCAs: clients}
		r := newReceiver(t, func(r *receiver, c net.Conn) {
			conn := tls.Server(c, config)
			defer conn.Close()
			readSyslog(r, conn)
		})
		sink, err := Syslog{Address: r.address, TLS: c.tls}.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Send(t.Context(), records); err == nil || len(r.received()) > 0 {
			t.Errorf("%s: %d lines were received, %v", c.what, len(r.received()), err)
		}
	}
}

// TestSyslogEnd: a receiver that does not close has the lines; one that resets has not.
func TestSyslogEnd(t *testing.T) {
	records := []Record{{Event{Seq: 1, Kind: FlowOpen, Appliance: "bastion-1", Time: someTime}, []byte("{}")}}
	for _, resets := range []bool{false, true} {
		ended := make(chan struct{})
		r := newReceiver(t, func(r *receiver, c net.Conn) {
			if resets {
				c.(*net.TCPConn).SetLinger(0)
				return
			}
			io.Copy(io.Discard, c)
			<-ended
		})
		sink, err := Syslog{Address: r.address, Clear: true}.Open()
		if err != nil {
			t.Fatal(err)
		}
		if !resets {
			sink.(*syslogSink).closeTime = 10 * time.Millisecond
		}
		if err := sink.Send(t.Context(), records); (err != nil) != resets {
			t.Errorf("resets %v: %v", resets, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := sink.Send(ctx, records); err == nil {
			t.Error("lines were sent after the end of the context")
		}
		close(ended)
	}
	for _, c := range []Syslog{{Address: "log.example"}, {Address: "log.example:514", Facility: 24}, {Address: "log.example:514", TLS: TLS{CA: "/no"}}} {
		if _, err := c.Open(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestSyslogMessage(t *testing.T) {
	e := Event{Seq: 1 << 40, Time: someTime, Kind: Torn, Appliance: "two words"}
	got := string(syslogMessage(Record{e, []byte("{}")}, 13))
	if want := `<107>1 2026-11-26T19:53:25.120000Z - sallyport - audit.torn [meta sequenceId="512"] {}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for kind, want := range map[string]string{FlowOpen: "<110>1", FlowEnd: "<110>1", DecisionRefused: "<108>1", Retention: "<110>1"} {
		if got, _, _ := strings.Cut(string(syslogMessage(Record{Event{Seq: 1, Kind: kind}, nil}, 13)), " "); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

// serveHTTP serves one connection of a receiver.
func serveHTTP(handler http.HandlerFunc) func(*receiver, net.Conn) {
	return func(_ *receiver, c net.Conn) {
		l := &oneConn{c: c, done: make(chan struct{})}
		s := &http.Server{Handler: handler, ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(l.done)
			}
		}}
		s.Serve(l)
	}
}

// oneConn is a listener of one connection, until that is closed.
type oneConn struct {
	c    net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.c; c != nil {
		l.c = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return new(net.TCPAddr) }

// TestWebhook: a receiver that dies, is busy, breaks off before or after it has taken the lines, and wants a token.
func TestWebhook(t *testing.T) {
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var r *receiver
	var mu sync.Mutex
	requests := 0
	r = newReceiver(t, serveHTTP(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		requests++
		n := requests
		mu.Unlock()
		if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/x-ndjson" || req.Header.Get("Authorization") != "Bearer s3cret" || req.URL.RequestURI() != "/audit?x=1" {
			t.Errorf("got %s %s %v", req.Method, req.URL, req.Header)
		}
		switch n % 7 {
		case 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case 3:
			panic(http.ErrAbortHandler)
		}
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return // the receiver was stopped
		}
		r.add(strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		if n%7 == 5 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	sink, err := Webhook{URL: "http://" + r.address + "/audit?x=1", TokenFile: tokenFile}.Open()
	if err != nil {
		t.Fatal(err)
	}
	outage(t, r, sink)
}

// TestOTLP: lines arrive as log records whose bodies are the lines.
func TestOTLP(t *testing.T) {
	var r *receiver
	r = newReceiver(t, serveHTTP(func(w http.ResponseWriter, req *http.Request) {
		var body otlpRequest
		d := json.NewDecoder(req.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil {
			return // the receiver was stopped
		}
		if req.URL.Path != "/v1/logs" || req.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %v", req.URL, req.Header)
		}
		for _, record := range body.ResourceLogs[0].ScopeLogs[0].LogRecords {
			r.add(*record.Body.String)
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"partialSuccess":{}}`)
	}))
	sink, err := OTLP{URL: "http://" + r.address + "/v1/logs"}.Open()
	if err != nil {
		t.Fatal(err)
	}
	outage(t, r, sink)
}

// TestOTLPRejected: lines that the receiver rejects for good are not sent again, and that is told.
func TestOTLPRejected(t *testing.T) {
	r := newReceiver(t, serveHTTP(func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, `{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"no"}}`)
	}))
	var told bytes.Buffer
	sink, err := OTLP{URL: "http://" + r.address, Log: slog.New(slog.NewTextHandler(&told, nil))}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := sink.Send(t.Context(), []Record{{Event{Seq: 9}, []byte("{}")}}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(told.String(), "level=ERROR") || !strings.Contains(told.String(), "lines=3 of=1 from=9") {
		t.Errorf("told %q", told.String())
	}
}

func TestOTLPBody(t *testing.T) {
	e := Event{
		Seq: 7, Time: someTime, Kind: FlowEnd, Appliance: "bastion-1", User: "ann", Policies: []string{"a", "b"}, Up: 1 << 60,
		Detail: map[string]string{"k": "v"}, Prev: "00",
	}
	b, err := line(e)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:len(b)-1]
	got, err := otlpBody([]Record{{e, b}})
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(string(b))
	want := `{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"sallyport"}},` +
		`{"key":"service.instance.id","value":{"stringValue":"bastion-1"}}]},"scopeLogs":[{"scope":{"name":"sallyport/audit"},"logRecords":[` +
		`{"timeUnixNano":"1795722805120000000","observedTimeUnixNano":"1795722805120000000","severityNumber":9,"severityText":"INFO",` +
		`"eventName":"flow.end","body":{"stringValue":` + string(quoted) + `},"attributes":[` +
		`{"key":"sallyport.appliance","value":{"stringValue":"bastion-1"}},` +
		`{"key":"sallyport.detail","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}},` +
		`{"key":"sallyport.policies","value":{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":"b"}]}}},` +
		`{"key":"sallyport.prev","value":{"stringValue":"00"}},{"key":"sallyport.seq","value":{"intValue":"7"}},` +
		`{"key":"sallyport.up","value":{"intValue":"1152921504606846976"}},{"key":"sallyport.user","value":{"stringValue":"ann"}}]}]}]}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for kind, want := range map[string]string{FlowOpen: "9 INFO", DecisionRefused: "13 WARN", Trouble: "17 ERROR"} {
		if n, text := otlpSeverity(level(Event{Kind: kind})); fmt.Sprint(n, " ", text) != want {
			t.Errorf("%s: %d %s", kind, n, text)
		}
	}
}

// TestPosterRefuses: addresses, tokens and answers that will not do; no error holds the address.
func TestPosterRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, token := filepath.Join(dir, "empty"), filepath.Join(dir, "token")
	for path, text := range map[string]string{empty: "\n", token: "s3cret"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []Webhook{
		{URL: ""}, {URL: "log.example/s3cret"}, {URL: "ftp://log.example/s3cret"}, {URL: "https://s3cret@log.example"}, {URL: "http://\x00s3cret"},
		{URL: "http://log.example/s3cret", TokenFile: token}, {URL: "https://log.example/s3cret", TokenFile: empty},
		{URL: "https://log.example/s3cret", TokenFile: filepath.Join(dir, "no")}, {URL: "https://log.example/s3cret", TLS: TLS{CA: token}},
		{URL: "https://log.example/s3cret", TLS: TLS{Cert: token}},
	} {
		_, err := c.Open()
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := (Webhook{URL: "http://[::1]:4318", TokenFile: token}).Open(); err != nil {
		t.Error(err)
	}

	var status atomic.Int32
	r := newReceiver(t, serveHTTP(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
	}))
	sink, err := Webhook{URL: "http://" + r.address + "/s3cret"}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	records := []Record{{Event{Seq: 1}, []byte("{}")}}
	for _, code := range []int32{302, 400, 401, 404, 413, 429, 500} {
		status.Store(code)
		if err := sink.Send(t.Context(), records); err == nil || !strings.Contains(err.Error(), fmt.Sprint(code)) {
			t.Errorf("%d: %v", code, err)
		}
	}
	r.stop()
	if err := sink.Send(t.Context(), records); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	r.start()
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "99999": time.Hour, "-1": 0, "soon": 0,
		"Thu, 26 Nov 2026 12:00:30 GMT": 30 * time.Second, "Thu, 26 Nov 2026 11:00:30 GMT": 0, "Fri, 27 Nov 2026 12:00:30 GMT": time.Hour,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// TestFile: a file that is rotated away, or removed, is made again.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	sink, err := File{path}.Open()
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Sync: time.Millisecond, pause: time.Millisecond, HeadEvery: time.Hour})
	exportTo(t, l, "file", sink)
	var all []string
	take := func(path string) {
		t.Helper()
		soon(t, "all lines", func() bool { return isSent(l) })
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
	}
	write(t, l, 0, 20)
	take(path)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, l, 20, 20)
	take(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, l, 40, 20)
	take(path)
	closeLog(t, l)
	wantChain(t, l.cfg.Dir, all)
	if _, err := (File{filepath.Join(path, "no")}).Open(); err == nil {
		t.Error("a file was made in a file")
	}
}
