// Package clienttest is an appliance for tests of the client: it enrols whoever knows the code, over QUIC and HTTPS on
// one port of loopback, and its targets do what their names say.
//
//	a := clienttest.Start(t, clienttest.Config{})
//	profile, err := client.Login(ctx, home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile})
package clienttest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
	"sallyport/transport"
)

// Code enrols a device for User; it can be used again.
const (
	Code = "correct-horse"
	User = "ann"

	// OnceCode can be used once, and over QUIC the answer to it comes late.
	OnceCode = "battery-staple"
)

// Config of an Appliance. The zero value is good.
type Config struct {
	NotBefore, NotAfter time.Time     // of the certificate; default: an hour either way
	Now                 time.Time     // what its clock says over HTTP; default: the real one
	Ahead               time.Duration // of ours, its clock says in WELCOME and of logins
	Names               []string      // in the certificate; default: 127.0.0.1 as an address
	Successors          [][]byte      // identity keys that follow
	Listen              string        // default 127.0.0.1:0
	HostKeys            []string      // pinned for the target "pinned"
	Old                 bool          // it is of a time before sallyport bench
	SignIn              bool          // people sign in: each login is confirmed when it has been asked about twice

	// After is an appliance that was stopped and starts again: same address, certificate, identity and devices.
	After *Appliance

	// Serve serves the targets of these names; default: they return what comes.
	Serve map[string]func(net.Conn)
}

// An Appliance serves until its test ends or Stop is called.
type Appliance struct {
	Address     string // host:port
	CAFile      string // its certificate
	Fingerprint string // sha256: and the digits
	Identity    ed25519.PrivateKey

	config Config
	cert   *tls.Certificate
	stop   func()

	mu      sync.Mutex
	devices map[string]*device // by public key
	opened  []frame.OpenRequest
	hellos  []frame.Hello
	once    bool // OnceCode was used
	logins  []*login
	upload  upload
}

type device struct {
	ID, Name string
	revoked  bool
}

// Start serves a new Appliance.
func Start(t testing.TB, c Config) *Appliance {
	t.Helper()
	a := &Appliance{devices: map[string]*device{}, config: c}
	cert := certificate(t, c)
	_, a.Identity, _ = ed25519.GenerateKey(rand.Reader)
	if was := c.After; was != nil {
		cert, a.Identity, a.devices, c.Listen = was.cert, was.Identity, was.devices, was.Address
	}
	a.cert = cert
	a.Fingerprint = "sha256:" + hex.EncodeToString(transport.SPKI(cert.Leaf))
	a.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw})
	if err := os.WriteFile(a.CAFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	server := &transport.Server{
		Handler:     a,
		Identity:    frame.PrivateKey(a.Identity),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Software:    "clienttest",
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !c.Now.IsZero() {
				w.Header().Set("Date", c.Now.UTC().Format(http.TimeFormat))
			}
			if !c.SignIn || !a.signIn(w, r) {
				http.NotFound(w, r)
			}
		}),
	}
	l, err := net.Listen("tcp", cmp.Or(c.Listen, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	a.Address = l.Addr().String()
	pc, err := net.ListenPacket("udp", a.Address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { server.ServeHTTPS(ctx, l) })
	wg.Go(func() {
		defer pc.Close()
		server.ServeQUIC(ctx, pc)
	})
	a.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(a.stop)
	return a
}

// Stop ends the appliance with all its connections.
func (a *Appliance) Stop() { a.stop() }

func certificate(t testing.TB, c Config) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clienttest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: c.Names, IsCA: true, BasicConstraintsValid: true,
	}
	if len(c.Names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if !c.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = c.NotBefore, c.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Opened are the requests for flows so far.
func (a *Appliance) Opened() []frame.OpenRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]frame.OpenRequest(nil), a.opened...)
}

// Hellos are the HELLOs so far.
func (a *Appliance) Hellos() []frame.Hello {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]frame.Hello(nil), a.hellos...)
}

// Admit implements transport.Handler.
func (a *Appliance) Admit(ctx context.Context, h *frame.Hello, p *frame.Peer) (*frame.Welcome, error) {
	w, err := a.admit(h, p)
	if h.Code == OnceCode && p.Transport == "quic" {
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
	}
	return w, err
}

func (a *Appliance) admit(h *frame.Hello, p *frame.Peer) (*frame.Welcome, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hellos = append(a.hellos, *h)
	d := a.devices[string(h.Device)]
	switch {
	case h.Code == "old-code":
		return nil, frame.Refuse("E_CODE_EXPIRED", "this enrolment code has expired", "ask an administrator for a new one")
	case h.Code == OnceCode && a.once:
		return nil, frame.Refuse("E_CODE_USED", "this enrolment code has been used", "ask an administrator for a new one")
	case h.Code != "" && h.Code != Code && h.Code != OnceCode:
		return nil, frame.Refuse("E_CODE_UNKNOWN", "this enrolment code is not known here", "check it for a slip of the finger")
	case h.Code != "":
		a.once = a.once || h.Code == OnceCode
		d = &device{ID: fmt.Sprintf("dev-%d", len(a.devices)+1), Name: h.Name}
		a.devices[string(h.Device)] = d
	case d == nil:
		return nil, frame.Refuse("E_DEVICE_UNKNOWN", "this device is not enrolled here", "run sallyport login with an enrolment code")
	case d.revoked:
		return nil, frame.Refuse("E_DEVICE_REVOKED", "this device has been revoked", "ask an administrator")
	}
	p.User, p.Device = User, d.ID
	w := &frame.Welcome{Name: "clienttest", User: User, Device: d.ID, Identity: a.config.Successors, Time: time.Now().Add(a.config.Ahead).UnixMilli()}
	if a.config.SignIn && len(h.Token) == 0 {
		w.Token = []byte("token of " + d.ID)
	}
	return w, nil
}

// Refusals are what targets of these names answer.
var Refusals = map[string]frame.Reason{
	"unknown": {Code: "E_TARGET_UNKNOWN", Sentence: `no target "unknown" that you may use`, Hint: "near: echo"},
	"denied":  {Code: "E_DENIED", Sentence: `denied:22 denied by rule "office hours"`, Hint: "the rule allows 08:00-18:00; ask for an exception"},
	"refused": {Code: "E_REFUSED", Sentence: "refused:22 refused the connection"},
	"busy":    {Code: "E_LIMIT", Sentence: "256 flows are open", Hint: "close one or ask"},
	"bug":     {Code: frame.Internal, Sentence: "the appliance met a bug", Hint: "report incident 1234"},
}

// Flow implements transport.Handler.
func (a *Appliance) Flow(ctx context.Context, carrier frame.Carrier, p frame.Peer) {
	c := &watched{Carrier: carrier, closed: make(chan struct{})}
	defer func() {
		select {
		case <-c.closed: // by the stream, which had more to send
		case <-ctx.Done():
			c.Close()
		}
	}()
	in, err := frame.Accept(ctx, c, frame.Options{})
	if err != nil {
		return
	}
	if in.Resume != nil {
		in.Refuse(frame.Refuse(frame.ResumeUnknown, "flows are not kept here", ""))
		return
	}
	a.mu.Lock()
	a.opened = append(a.opened, in.Open)
	a.mu.Unlock()
	if r, ok := Refusals[in.Open.Target]; ok {
		in.Refuse(&frame.StreamError{Reason: r})
		return
	}
	opened := frame.Opened{Flow: make([]byte, 16), Session: make([]byte, 16), Target: in.Open.Target, Port: in.Open.Port}
	if in.Open.Target == "noticed" {
		opened.Notice = "this target is recorded"
	}
	s := in.Accept(opened)
	defer s.Close()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-c.closed: // for which there is a better reason
		default:
			c.Close() // or else the end of what serves would be told as that of the flow
			s.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	serve := a.config.Serve[in.Open.Target]
	switch {
	case in.Open.Protocol == "api":
		a.serveAPI(s, p)
		return
	case serve != nil:
		serve(s)
		return
	case in.Open.Protocol == "bench" && in.Open.Target == "sink":
		io.Copy(io.Discard, s)
	case in.Open.Protocol == "bench" && in.Open.Target == "source":
		source(s)
	case in.Open.Target == "count": // says after the end how much came
		n, err := io.Copy(io.Discard, s)
		fmt.Fprintf(s, "%d bytes, %v\n", n, err)
	case in.Open.Target == "reset":
		io.WriteString(s, "so far ")
		io.ReadFull(s, make([]byte, 1))
		s.Reset(frame.Reason{Code: "E_TARGET_RESET", Sentence: "reset:22 reset the connection"})
		return
	default:
		io.Copy(s, s)
	}
	s.CloseWrite()
	io.Copy(io.Discard, s)
}

// source sends zeros until the client has ended its direction.
func source(s *frame.Stream) {
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() {
		io.Copy(io.Discard, s)
		s.SetWriteDeadline(time.Unix(1, 0))
	})
	for zeros := make([]byte, 64<<10); ; {
		if _, err := s.Write(zeros); err != nil {
			return
		}
	}
}

// watched is a carrier that says when it is closed.
type watched struct {
	frame.Carrier
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Carrier.Close()
}

// serveAPI answers requests one after the other.
func (a *Appliance) serveAPI(s *frame.Stream, p frame.Peer) {
	r := bufio.NewReader(s)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		a.answer(w, req, p)
		resp := w.Result()
		resp.ContentLength = int64(w.Body.Len())
		var b bytes.Buffer
		resp.Write(&b)
		if _, err := s.Write(b.Bytes()); err != nil {
			return
		}
	}
}

type object map[string]any

func (a *Appliance) answer(w http.ResponseWriter, r *http.Request, p frame.Peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	reply := func(status int, v any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	since := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	id, isDevice := strings.CutPrefix(r.URL.Path, "/api/v1/devices/")
	switch {
	case r.Method == "GET" && r.URL.Path == "/api/v1/me":
		reply(200, object{"appliance": "clienttest", "user": p.User, "device": p.Device, "transport": p.Transport, "source": "127.0.0.1", "admin": true, "time": time.Now(),
			"groups": []string{"ops", "dev"}, "mfa": since, "signed_in_until": since,
			"scope": object{"targets": []string{"echo", "pinned"}, "protocols": []string{"ssh"}, "expires": since}})
	case r.Method == "GET" && r.URL.Path == "/api/v1/targets":
		reply(200, []object{
			{"name": "echo", "vnet": "hub", "protocols": object{"ssh": []int{22}, "rdp": []int{3389}}, "labels": object{"env": "prod", "os": "linux"}},
			{"name": "pinned", "vnet": "spoke", "protocols": object{"ssh": []int{22, 2222}}, "host_keys": a.config.HostKeys},
		})
	case r.Method == "GET" && r.URL.Path == "/api/v1/grant":
		q := r.URL.Query()
		if no, ok := Refusals[q.Get("target")]; ok && no.Code.Exit() == 11 { // the rest shows when a target is dialled
			reply(400, object{"code": no.Code, "error": no.Sentence, "hint": no.Hint})
			return
		}
		reply(200, object{"target": q.Get("target"), "vnet": "hub", "protocol": q.Get("protocol"), "port": 22, "rule": "everything"})
	case r.Method == "GET" && r.URL.Path == "/api/v1/bench" && !a.config.Old:
		reply(200, object{"bits_per_second": int64(1e12)})
	case r.Method == "GET" && r.URL.Path == "/api/v1/sessions":
		list := []object{{"session": "01020304050607080910111213141516", "user": User, "device": p.Device, "target": "echo", "protocol": "ssh", "port": 22, "transport": p.Transport,
			"source": "127.0.0.1", "since": since, "idle_ns": 90 * time.Second, "idle_limit_ns": 30 * time.Minute, "ends": since.Add(time.Hour)}}
		if r.URL.Query().Has("all") {
			list = append(list, object{"session": "a1a2a3a4a5a6a7a8a9b0b1b2b3b4b5b6", "user": "bob", "device": "dev-9", "target": "pinned", "protocol": "ssh", "port": 22, "transport": "quic",
				"source": "127.0.0.2", "since": since},
				object{"session": "b1a2a3a4a5a6a7a8a9b0b1b2b3b4b5b6", "user": "guest:7q2k9f4m-1", "guest_of": User, "link": "7q2k9f4m", "device": "dev-8", "target": "echo", "protocol": "ssh", "port": 22,
					"transport": "https", "source": "127.0.0.3", "since": since})
		}
		reply(200, list)
	case r.Method == "POST" && r.URL.Path == "/api/v1/sessions/end":
		var ask struct {
			Sessions                []string
			User, Target, Rule, Why string
		}
		json.NewDecoder(r.Body).Decode(&ask)
		switch {
		case slices.Equal(ask.Sessions, []string{"a1a2a3a4a5a6"}), ask.User == "bob" && ask.Why == "lost":
			reply(200, []object{{"session": "a1a2a3a4a5a6a7a8a9b0b1b2b3b4b5b6", "user": "bob", "target": "pinned"}})
		case ask.Rule != "":
			reply(200, []object{})
		default:
			reply(404, object{"code": "E_SESSION_UNKNOWN", "error": "no session \"x\" that you may end", "hint": "sallyport sessions lists them"})
		}
	case r.Method == "POST" && r.URL.Path == "/api/v1/sessions/message":
		var ask api.MessageSessions
		if json.NewDecoder(r.Body).Decode(&ask); slices.Equal(ask.Sessions, []string{"a1a2a3a4a5a6"}) && ask.Text == "restart at noon" {
			reply(200, []object{{"session": "a1a2a3a4a5a6a7a8a9b0b1b2b3b4b5b6", "user": "bob", "target": "pinned"}})
			return
		}
		reply(404, object{"code": "E_SESSION_UNKNOWN", "error": "no session \"x\" that you may end", "hint": "sallyport sessions lists them"})
	case r.Method == "GET" && r.URL.Path == "/api/v1/me/devices":
		reply(200, []object{{"device": "dev-1", "user": User, "name": "laptop", "platform": "linux/amd64", "enrolled": since, "last_seen": since, "source": "127.0.0.1"}})
	case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/api/v1/me/devices/"):
		if strings.HasSuffix(r.URL.Path, "/dev-1") {
			reply(200, object{})
			return
		}
		reply(404, object{"code": "E_DEVICE_UNKNOWN", "error": "this device is not enrolled here", "hint": "look at the list of devices"})
	case r.Method == "GET" && r.URL.Path == "/api/v1/devices":
		reply(200, []object{{"device": "dev-1", "user": User, "name": "laptop", "platform": "linux/amd64", "enrolled": since, "last_seen": since, "source": "127.0.0.1"},
			{"device": "dev-7", "user": "bot", "name": "ci", "enrolled": since, "scope": object{"targets": []string{"db-1", "web\x1b"}, "protocols": []string{"ssh"}, "expires": since}},
			{"device": "dev-8", "user": "bob", "name": "\x1b[31mred", "enrolled": since, "revoked": since}})
	case r.Method == "POST" && r.URL.Path == "/api/v1/codes":
		var ask struct {
			User    string
			Targets []string
		}
		if json.NewDecoder(r.Body).Decode(&ask); slices.Contains(ask.Targets, "nowhere") {
			reply(400, object{"code": "E_TARGET_UNKNOWN", "error": `there is no target "nowhere"`, "hint": "the access files name the targets"})
			return
		}
		reply(200, object{"code": "0123-4567-89AB-CDEF", "user": ask.User, "expires": since})
	case r.Method == "DELETE" && isDevice:
		if id == "dev-8" {
			reply(200, object{})
			return
		}
		reply(404, object{"code": "E_DEVICE_UNKNOWN", "error": "this device is not enrolled here", "hint": "sallyport admin devices lists them"})
	case r.Method == "GET" && r.URL.Path == "/api/v1/approvals":
		reply(200, []object{{"id": "0123456789abcdef0123456789abcdef", "user": "bob", "target": "echo:22", "protocol": "ssh", "group": "leads", "reason": "ticket\x1b 1", "asked": since, "expires": since, "may_decide": true},
			{"id": "1123456789abcdef0123456789abcdef", "user": User, "target": "pinned:22", "protocol": "ssh", "group": "leads", "asked": since, "expires": since, "decided": since, "approved": true, "by": "carol"}})
	case r.Method == "POST" && r.URL.Path == "/api/v1/approvals":
		reply(200, []object{{"id": "1123456789abcdef0123456789abcdef", "user": User, "target": "pinned:22", "protocol": "ssh", "group": "leads", "asked": since, "expires": since}})
	case r.Method == "POST" && r.URL.Path == "/api/v1/approvals/01234567":
		reply(200, object{"id": "0123456789abcdef0123456789abcdef", "user": "bob", "target": "echo:22", "expires": since})
	case r.Method == "POST" && strings.HasPrefix(r.URL.Path, "/api/v1/approvals/"):
		reply(404, object{"code": "E_APPROVAL_UNKNOWN", "error": "there is no such request", "hint": "sallyport approvals lists those that wait"})
	case r.Method == "GET" && r.URL.Path == "/api/v1/guests":
		reply(200, []object{{"id": "7q2k9f4m", "maker": User, "target": "echo", "protocol": "ssh", "created": since, "expires": since, "uses": 3, "used": 1, "sign_in": true, "approval": "leads"},
			{"id": "8q2k9f4m", "maker": "bob", "target": "pinned\x1b", "protocol": "ssh", "created": since, "expires": since, "uses": 1, "used": 1},
			{"id": "9q2k9f4m", "maker": User, "target": "echo", "protocol": "rdp", "created": since, "expires": since, "uses": 1, "revoked": since}})
	case r.Method == "POST" && r.URL.Path == "/api/v1/guests":
		var ask api.AskGuest
		if json.NewDecoder(r.Body).Decode(&ask); ask.Target != "echo" {
			reply(400, object{"code": "E_SHARE", "error": "no rule or policy lets you share pinned:22", "hint": "ask an administrator for share in access.yaml"})
			return
		}
		reply(200, object{"id": "7q2k9f4m", "link": "https://bastion.example/guest#" + strings.Repeat("A", 43), "maker": User, "target": ask.Target, "protocol": "ssh", "uses": max(1, ask.Uses), "expires": since})
	case r.Method == "DELETE" && r.URL.Path == "/api/v1/guests/7q2k9f4m":
		reply(200, object{})
	case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/api/v1/guests/"):
		reply(404, object{"code": "E_GUEST_UNKNOWN", "error": "there is no such guest link", "hint": "sallyport share ls lists yours"})
	case r.Method == "GET" && r.URL.Path == "/api/v1/policy/why":
		allowed := r.URL.Query().Get("user") == User
		reply(200, object{"allowed": allowed, "text": "ann → echo: allowed by \"all\"\n  permit\x1b \"all\"\n", "policies": []object{}})
	case r.Method == "POST" && r.URL.Path == "/api/v1/policy/check":
		var ask api.CheckPolicy
		if json.NewDecoder(r.Body).Decode(&ask) != nil || len(ask.Files) == 0 {
			reply(400, object{"code": "E_USAGE", "error": "there are no files"})
		} else if strings.Contains(string(ask.Files["access.yaml"]), "wrong") {
			reply(200, object{"faults": []string{"access.yaml:1:1: that is wrong"}, "tests": 0})
		} else {
			reply(200, object{"faults": []string{}, "tests": 2})
		}
	case r.Method == "GET" && r.URL.Path == "/api/v1/policy/test":
		reply(200, object{"ran": 3, "failures": []string{"access.yaml:9: test \"x\": got allowed, want denied"}})
	case r.Method == "GET" && r.URL.Path == "/api/v1/audit":
		events := []object{
			{"seq": 7, "time": since, "event": "decision.refused", "user": "bob", "source": "192.0.2.7:5", "target": "pinned", "port": 22, "protocol": "ssh",
				"policies": []string{"night"}, "code": "E_DENIED", "why": "denied \x1b[2J"},
			{"seq": 9, "time": since, "event": "flow.end", "user": User, "target": "echo", "port": 22, "protocol": "ssh", "up": 2048, "duration_ms": 61000}}
		if r.URL.Query().Get("user") == User {
			events = events[1:]
		}
		reply(200, object{"events": events, "next": 9})
	case r.Method == "GET" && r.URL.Path == "/api/v1/hostkeys":
		reply(200, []object{{"target": "db-1", "fingerprint": "SHA256:abc", "key": "ssh-ed25519 AAAA", "seen": since},
			{"target": "db-1", "fingerprint": "SHA256:def", "key": "ssh-ed25519 BBBB", "seen": since, "refused": true}})
	case r.Method == "POST" && (r.URL.Path == "/api/v1/hostkeys/confirm" || r.URL.Path == "/api/v1/hostkeys/forget"):
		var ask struct{ Target, Fingerprint string }
		if json.NewDecoder(r.Body).Decode(&ask); ask.Target != "db-1" {
			reply(404, object{"code": "E_HOST_KEY_UNKNOWN", "error": "there is no such host key", "hint": "sallyport admin hostkeys lists them"})
			return
		}
		reply(200, object{})
	case r.Method == "GET" && r.URL.Path == "/api/v1/locks":
		reply(200, []object{{"kind": "user", "name": "bob", "by": User, "since": since, "why": "left"}})
	case r.Method == "POST" && r.URL.Path == "/api/v1/locks", r.Method == "DELETE" && r.URL.Path == "/api/v1/locks/user/bob":
		reply(200, object{})
	case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/api/v1/locks/"):
		reply(404, object{"code": "E_LOCK_UNKNOWN", "error": "it is not locked", "hint": "sallyport admin locks lists what is"})
	case r.Method == "POST" && r.URL.Path == "/api/v1/logout":
		for _, d := range a.devices {
			if d.ID == p.Device {
				d.revoked = true
			}
		}
		reply(200, object{})
	default:
		if status, v, ok := a.answerAccess(r); ok {
			reply(status, v)
			return
		}
		if status, v, ok := a.answerUpdate(r); ok {
			reply(status, v)
			return
		}
		reply(404, "nothing here")
	}
}
