package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/config"
	"sallyport/host"
	"sallyport/host/source"
)

const (
	setupCode     = 10 * time.Minute // that one code is good for
	setupPort     = 443
	setupBody     = 4 << 20 // bytes of a request: a document in a form grows to three times its size
	setupGuesses  = 10      // wrong codes that are heard from one place while one code is good
	setupPlaces   = 1024    // that are told apart; from further ones nothing is heard
	setupGoodbye  = time.Second
	setupSilence  = 5 * time.Second  // for the handshake, and then for the head of a request
	setupDeadline = 30 * time.Second // for a request, and for its answer
)

// setupCommand asks people for the configuration of a machine that has none, over a stack of its own on the NIC that the
// parent gives, and hands it to the parent. It is given the hash of the code and learns the code only from a person. With a
// NIC it is that parent.
func setupCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "setup", Hidden: true, Usage: "is started by init",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "code-hash", Usage: "the SHA-256 of the code, in hexadecimal"},
			&cli.StringFlag{Name: "interface", Usage: "as root, ask over `NIC` and print the document"},
			&cli.StringFlag{Name: "run-dir", Value: "/run/sallyport", Usage: "keep a namespace in `DIR` meanwhile"},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if nic := c.String("interface"); nic != "" {
				d, err := askPeople(c.Context, nic, c.String("run-dir"), nil, logger(e), func(code string) { fmt.Fprintln(e.stderr, "code:", code) })
				if err != nil {
					return err
				}
				_, err = e.stdout.Write(d.Config)
				return err
			}
			hash, err := hex.DecodeString(c.String("code-hash"))
			if err != nil || len(hash) != sha256.Size {
				return misused(c, "needs --code-hash")
			}
			n, err := joinErrand(logger(e), []uint16{setupPort}, fetchLease)
			if err != nil {
				return err
			}
			defer n.Close()
			text, err := askForDocument(c.Context, n, [sha256.Size]byte(hash), logger(e))
			if err != nil {
				return err
			}
			_, err = host.ErrandText().Write(text)
			return err
		},
	}
}

// askPeople sends a confined child over the NIC to wait for a document from people who know the code that show shows.
func askPeople(ctx context.Context, nic, runDir string, output *os.File, log *slog.Logger, show func(code string)) (source.Document, error) {
	code, hash := auth.RandomCode()
	show(code)
	text, err := host.Errand{Args: []string{"sallyportd", "setup", "--code-hash", hex.EncodeToString(hash[:])},
		Interface: nic, RunDir: runDir, Timeout: setupCode, Limit: source.MaxDocument, Output: output, Log: log}.Run(ctx)
	if err != nil {
		return source.Document{}, err
	}
	return source.Document{From: "setup", Config: text}, nil
}

// askForDocument serves until somebody has given a good document.
func askForDocument(ctx context.Context, n *vnet, hash [sha256.Size]byte, log *slog.Logger) ([]byte, error) {
	addrs, err := n.wait(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range addrs {
		names = append(names, a.Addr().String())
	}
	cert, err := auth.SelfSignedOnce(names, time.Now())
	if err != nil {
		return nil, err
	}
	listening, stop := context.WithCancel(ctx)
	l := &frontListener{front: front{vnet: n, address: fmt.Sprintf(":%d", setupPort), ctx: listening, stop: stop}}
	defer l.Close()
	s := newSetup(hash)
	web := &http.Server{Handler: s, ReadHeaderTimeout: setupSilence, ReadTimeout: setupDeadline, WriteTimeout: setupDeadline, MaxHeaderBytes: 16 << 10,
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), // what strangers do wrong
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}}
	ended := make(chan error, 1)
	go func() { ended <- web.ServeTLS(limit(l), "", "") }()
	for _, name := range names {
		log.Info("this machine waits for its configuration", "at", "https://"+net.JoinHostPort(name, fmt.Sprint(setupPort)), "fingerprint", auth.Fingerprint(cert.Leaf), "certificate", browserFingerprint(cert.Leaf))
	}
	select {
	case text := <-s.taken:
		goodbye, cancel := context.WithTimeout(ctx, setupGoodbye)
		defer cancel()
		web.Shutdown(goodbye) // whose answer may be on its way; if not, the document is what counts
		return text, nil
	case err := <-ended:
		return nil, err
	case <-ctx.Done():
		web.Close()
		return nil, context.Cause(ctx)
	}
}

// browserFingerprint is what browsers show of a certificate, in the form in which most of them do: of the whole of it, where
// auth.Fingerprint is of its key.
func browserFingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// wait waits for the addresses of a VNet that has them by DHCP.
func (v *vnet) wait(ctx context.Context) ([]netip.Prefix, error) {
	for {
		if s, err := v.now(); err == nil {
			if addrs := s.Addresses(); len(addrs) > 0 {
				return addrs, nil
			}
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

const (
	setupConns = 32 // at once
	setupShare = 4  // of them from one place: who opens more and says nothing keeps nobody else out
)

// limited accepts no more connections than it has places for, and from each address no more than its share: those beyond
// that are closed, and whoever comes when all places are taken waits.
type limited struct {
	net.Listener
	places chan struct{}

	mu    sync.Mutex
	taken map[netip.Prefix]int
}

func limit(l net.Listener) *limited {
	return &limited{Listener: l, places: make(chan struct{}, setupConns), taken: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		from := place(c.RemoteAddr().String())
		if l.enter(from) {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		c.Close()
	}
}

func (l *limited) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[from] >= setupShare {
		return false
	}
	l.taken[from]++
	return true
}

func (l *limited) leave(from netip.Prefix) {
	l.mu.Lock()
	if l.taken[from]--; l.taken[from] == 0 {
		delete(l.taken, from)
	}
	l.mu.Unlock()
	<-l.places
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

//go:embed setup.html
var setupHTML string

var setupPage = template.Must(template.New("setup").Parse(setupHTML))

const setupStyle = `body{max-width:48rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;color-scheme:light dark}
label{display:block;margin:1rem 0}input,textarea{display:block;width:100%;box-sizing:border-box;font:.9rem monospace;padding:.5rem}
button{font:inherit;padding:.5rem 1rem}[role=alert]{border-left:4px solid #a3141d;padding-left:1rem}`

// setupPolicy lets the page have its own style, send its form back, and nothing else.
var setupPolicy = func() string {
	sum := sha256.Sum256([]byte(setupStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// A setup is the page and the API of a machine without a configuration.
type setup struct {
	hash  [sha256.Size]byte
	until time.Time
	taken chan []byte // has room for the one that is taken

	mu      sync.Mutex
	done    bool
	guesses map[netip.Prefix]int // wrong codes, by where they came from
}

func newSetup(hash [sha256.Size]byte) *setup {
	return &setup{hash: hash, until: time.Now().Add(setupCode), taken: make(chan []byte, 1), guesses: map[netip.Prefix]int{}}
}

// ServeHTTP implements http.Handler.
func (s *setup) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", setupPolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	r.Body = http.MaxBytesReader(w, r.Body, setupBody)
	switch {
	case r.URL.Path == "/healthz" && r.Method == http.MethodGet:
		fmt.Fprintln(w, "ok")
	case r.URL.Path == "/readyz" && r.Method == http.MethodGet:
		http.Error(w, "no configuration", http.StatusServiceUnavailable)
	case r.URL.Path == "/" && r.Method == http.MethodGet:
		s.show(w, http.StatusOK, setupView{})
	case r.URL.Path == "/" && r.Method == http.MethodPost:
		if err := r.ParseForm(); err != nil {
			s.show(w, http.StatusBadRequest, setupView{Configured: api.Configured{Error: "the form is too long, or is none"}})
			return
		}
		status, answer := s.take(r.RemoteAddr, r.PostForm.Get("code"), r.PostForm.Get("document"))
		s.show(w, status, setupView{Configured: answer, Done: status == http.StatusOK, Document: r.PostForm.Get("document")})
	case r.URL.Path == api.ConfigurePath && r.Method == http.MethodPost:
		var ask api.Configure
		status, answer := http.StatusBadRequest, api.Configured{Error: "the request is too long, or is no JSON of code and document"}
		if json.NewDecoder(r.Body).Decode(&ask) == nil {
			status, answer = s.take(r.RemoteAddr, ask.Code, ask.Document)
		}
		h.Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	default:
		http.NotFound(w, r)
	}
}

// A setupView is what the page shows.
type setupView struct {
	api.Configured
	Done     bool
	Document string
	Style    template.CSS
}

func (s *setup) show(w http.ResponseWriter, status int, v setupView) {
	v.Style = setupStyle
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	setupPage.Execute(w, v) // an error is that nobody reads it
}

// take takes the document from whoever knows the code, if it is sound. The first is the only one.
func (s *setup) take(from, code, document string) (int, api.Configured) {
	if status, refusal := s.knows(place(from), code); status != http.StatusOK {
		return status, refusal
	}
	d, err := source.Read(strings.NewReader(strings.ReplaceAll(document, "\r\n", "\n")), "the document")
	if err == nil {
		err = checkDocument(d)
	}
	if err != nil {
		return http.StatusUnprocessableEntity, api.Configured{Error: "the document is not taken", Faults: faultLines(err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return http.StatusConflict, api.Configured{Error: "this machine has been given a configuration"}
	}
	s.done = true
	s.taken <- d.Config
	return http.StatusOK, api.Configured{}
}

// faultLines is what is wrong, one line a fault.
func faultLines(err error) []string {
	var faults config.Faults
	if !errors.As(err, &faults) {
		return []string{err.Error()}
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Error()
	}
	return lines
}

// place is where a guess comes from: an address, or the network of IPv6 that one machine may have all addresses of.
func place(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a, bits := at.Addr().Unmap().WithZone(""), 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // which fits
	return p
}

// knows says whether somebody knows the code.
func (s *setup) knows(from netip.Prefix, code string) (int, api.Configured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, known := s.guesses[from]; {
	case s.done:
		return http.StatusConflict, api.Configured{Error: "this machine has been given a configuration"}
	case time.Now().After(s.until):
		return http.StatusForbidden, api.Configured{Error: "the code has expired", Hint: "the console shows another"}
	case s.guesses[from] >= setupGuesses, !known && len(s.guesses) >= setupPlaces:
		return http.StatusTooManyRequests, api.Configured{Error: "too many wrong codes", Hint: "wait for the next code on the console"}
	}
	if hash, ok := auth.HashCode(code); !ok || subtle.ConstantTimeCompare(hash[:], s.hash[:]) == 0 {
		s.guesses[from]++
		return http.StatusForbidden, api.Configured{Error: "that is not the code", Hint: "the machine's console shows it"}
	}
	return http.StatusOK, api.Configured{}
}
