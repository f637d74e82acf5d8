// Package rdp holds what is tested about desktops with real RDP servers, a real browser, and the client that browsers get.
package rdp

import (
	"context"
	"embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"sallyport/appliance"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/desktop"
	"sallyport/appliance/hostkey"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/netstack"
	"sallyport/tests/chromium"
	"sallyport/tests/lab"
	"sallyport/tests/npm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

//go:embed package.json package-lock.json page.html page.js
var files embed.FS

// A bastion is a gateway with a VNet in which there is one target, and a page that has its desktop.
type bastion struct {
	*lab.Lab
	*appliance.Gateway
	t       *testing.T
	pins    *hostkey.Pins
	book    notebook
	browser *chromium.Browser
	server  *httptest.Server
	work    sync.WaitGroup
	idle    time.Duration // of the rule

	mu      sync.Mutex
	start   map[string]any // the first message of the next flow
	session []byte         // of the latest flow; the next one joins it
	heard   []message      // of the latest flow
	vanish  bool           // flows stay when their page is gone, as they do without a connection
	reset   frame.Reason   // why a flow ended that had another after it
}

// A message is a state or a notice.
type message struct {
	State, Certificate, CredSSP string
	First                       bool
	Code, Sentence, Hint        string
}

type namespaceVNet struct{ *lab.Namespace }

func (namespaceVNet) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, fmt.Errorf("there are no names")
}

func (namespaceVNet) Choose(addrs []netip.Addr) (netip.Addr, error) { return addrs[0], nil }

// A notebook is an audit log in memory.
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

// of are the events of a kind.
func (n *notebook) of(kind string) (events []audit.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

// noLocks and pinStore keep what they are given no longer than the test.
type noLocks struct{}

func (noLocks) Locks(context.Context) ([]auth.Lock, error)              { return nil, nil }
func (noLocks) PutLock(context.Context, auth.Lock) error                { return nil }
func (noLocks) DeleteLock(context.Context, auth.LockKind, string) error { return nil }

type pinStore struct{}

func (pinStore) HostKeys(context.Context) ([]hostkey.Key, error)           { return nil, nil }
func (pinStore) See(_ context.Context, k hostkey.Key) (hostkey.Key, error) { return k, nil }
func (pinStore) Put(context.Context, hostkey.Key) error                    { return nil }
func (pinStore) Forget(context.Context, string) error                      { return nil }

// newBastion makes one whose target has what is said in rdp, and whose policies are more.
func newBastion(t *testing.T, rdp, more string) *bastion {
	t.Helper()
	b := &bastion{Lab: lab.New(t), t: t, idle: time.Hour}
	registry, err := auth.Open(t.Context(), t.TempDir(), new(auth.Memory), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { registry.Close() })
	if b.pins, err = hostkey.Open(t.Context(), pinStore{}, false, time.Now); err != nil {
		t.Fatal(err)
	}
	b.Gateway = &appliance.Gateway{Name: "bastion", Audit: &b.book, VNets: map[string]appliance.VNet{"hub": namespaceVNet{b.VNet.Namespace}}, Devices: registry,
		Metrics: appliance.NewMetrics(), HostKeys: b.pins, Programs: map[string]appliance.Program{"desktop": &desktop.Program{}}, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if b.Locks, err = auth.OpenLocks(t.Context(), noLocks{}, time.Now, b.EndLocked); err != nil {
		t.Fatal(err)
	}
	b.policy(rdp, more)
	b.serve(npm.Install(t, "rdp", files))
	b.browser = chromium.New(t)
	b.browser.Call("Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
	t.Cleanup(func() {
		b.browser.Go("about:blank")
		b.browser.Run("1")
		b.server.CloseClientConnections()
		b.server.Close()
		b.Gateway.Close()
		b.work.Wait()
	})
	return b
}

func (b *bastion) policy(rdp, more string) {
	b.t.Helper()
	access := fmt.Sprintf("targets: [{name: desk-1, vnet: hub, address: %s, protocols: rdp, rdp: %s}]\nrules: [{name: all, who: [ann], targets: [desk-1], idle: %v}]\n", lab.TargetAddr4, rdp, b.idle)
	p, err := policy.Parse([]policy.File{{Name: "access.yaml", Data: []byte(access)}, {Name: "more.cedar", Data: []byte(more)}},
		policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: func(netip.Addr) error { return nil }})
	if err != nil {
		b.t.Fatal(err)
	}
	b.SetPolicy(p)
}

// pagePolicy is what the portal's pages have.
const pagePolicy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action 'self'"

// serve serves the page and the client, whose wasm is a file of its own as in the portal.
func (b *bastion) serve(dir string) {
	b.t.Helper()
	iron, err := os.ReadFile(filepath.Join(dir, "node_modules/@devolutions/iron-remote-desktop-rdp/iron-remote-desktop-rdp.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	const inline = `"data:application/wasm;base64,`
	before, rest, ok := strings.Cut(string(iron), inline)
	encoded, after, _ := strings.Cut(rest, `"`)
	wasm, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || strings.Contains(after, inline) {
		b.t.Fatalf("the client does not have one wasm in it: %v", err)
	}
	mux := http.NewServeMux()
	file := func(path, kind string, data []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Security-Policy", pagePolicy)
			w.Write(data)
		})
	}
	for name, kind := range map[string]string{"page.html": "text/html", "page.js": "text/javascript"} {
		data, _ := files.ReadFile(name)
		file("/"+name, kind, data)
	}
	file("/iron.js", "text/javascript", []byte(before+`"/iron.wasm"`+after))
	file("/iron.wasm", "application/wasm", wasm)
	mux.HandleFunc("GET /flow", b.flow)
	b.server = httptest.NewServer(mux)
}

// flow opens a flow to the desktop and moves messages between it and a WebSocket.
func (b *bastion) flow(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer socket.CloseNow()
	socket.SetReadLimit(16 << 20)
	b.mu.Lock()
	start, err := json.Marshal(b.start)
	session := b.session
	b.heard = nil
	b.mu.Unlock()
	if err != nil {
		b.t.Errorf("%v: %v", b.start, err)
		return
	}
	client, far := frametest.Pipe(0)
	peer := frame.Peer{Transport: "https", User: "ann", Device: "dev-1", Remote: netip.MustParseAddrPort("192.0.2.1:5")}
	b.work.Go(func() { b.Flow(context.Background(), far, peer) })
	stream, opened, err := frame.Open(context.Background(), client, frame.OpenRequest{Target: "desk-1", Protocol: "rdp", Program: "desktop", Session: session}, frame.Options{})
	if err != nil {
		reason, _ := frame.ReasonOf(err)
		b.hear(message{Code: string(reason.Code), Sentence: reason.Sentence, Hint: reason.Hint})
		return
	}
	b.mu.Lock()
	b.session = opened.Session
	b.mu.Unlock()
	send := func(kind byte, body []byte) error {
		_, err := stream.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), kind), body...))
		return err
	}
	send(0, start)
	b.work.Go(func() { b.down(stream, socket) })
	for {
		_, p, err := socket.Read(context.Background())
		if err != nil || send(1, p) != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.vanish {
				stream.CloseWrite()
			}
			return
		}
	}
}

// down moves what the program says.
func (b *bastion) down(stream *frame.Stream, socket *websocket.Conn) {
	defer stream.Close()
	for {
		var head [5]byte
		_, err := io.ReadFull(stream, head[:])
		body := []byte(nil)
		if err == nil {
			body = make([]byte, binary.BigEndian.Uint32(head[:])-1)
			_, err = io.ReadFull(stream, body)
		}
		if err != nil {
			if reason, ok := frame.ReasonOf(err); ok {
				b.mu.Lock()
				b.reset = reason
				b.mu.Unlock()
			}
			socket.CloseNow()
			return
		}
		if head[4] == 1 {
			socket.Write(context.Background(), websocket.MessageBinary, body)
			continue
		}
		var m message
		if err := json.Unmarshal(body, &m); err != nil {
			b.t.Errorf("%s: %v", body, err)
		}
		b.hear(m)
	}
}

func (b *bastion) hear(m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, m)
}

// notice is what the person was told, once they were.
func (b *bastion) notice() (m message) {
	b.t.Helper()
	b.until("a notice", 40*time.Second, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, m = range b.heard {
			if m.Code != "" {
				return true
			}
		}
		return false
	})
	return m
}

// shown is what the person was told of the target's certificate.
func (b *bastion) shown() (m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m = range b.heard {
		if m.Certificate != "" {
			return m
		}
	}
	return message{}
}

// opened is the state that came with the desktop.
func (b *bastion) opened() (m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m = range b.heard {
		if m.State == "open" {
			return m
		}
	}
	return message{}
}

func (b *bastion) until(what string, limit time.Duration, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("no %s in %v; the page is %q, and heard %+v", what, limit, b.browser.Run("window.desk?.state"), b.heard)
		}
	}
}

// A login is how a page connects.
type login struct {
	User, Password string
	Again          bool // without the password, in the session that there is
	Browser        bool // the browser does CredSSP
	Width, Height  int
}

// connect loads the page anew and has it connect.
func (b *bastion) connect(l login) {
	b.t.Helper()
	if l.Width == 0 {
		l.Width, l.Height = 1024, 768
	}
	b.mu.Lock()
	b.start = map[string]any{"width": l.Width, "height": l.Height}
	user, password := "nobody", "nothing"
	switch {
	case l.Browser:
		b.start["credssp"] = "browser"
		user, password = l.User, l.Password
	case !l.Again:
		b.start["user"], b.start["password"] = l.User, l.Password
	}
	if !l.Again {
		b.session = nil
	}
	b.heard = nil
	b.mu.Unlock()
	b.browser.Go(b.server.URL + "/page.html")
	b.until("page", time.Minute, func() bool {
		ready, err := b.browser.TryRun("window.desk?.ready")
		return err == nil && ready == "true"
	})
	b.browser.Run(fmt.Sprintf("desk.begin(%d, %d, %q, %q, %v) && 0", l.Width, l.Height, user, password, l.Browser))
}

// sees waits until the desktop shows the text.
func (b *bastion) sees(text string) {
	b.t.Helper()
	var seen string
	b.until(fmt.Sprintf("%q on the desktop", text), 2*time.Minute, func() bool {
		switch state := b.browser.Run("desk.state"); state {
		case "open":
		case "connecting":
			return false
		default:
			b.t.Fatalf("there is no desktop: %s; heard %+v", state, b.heard)
		}
		seen = lab.OCR(b.t, b.picture())
		return strings.Contains(seen, text)
	})
}

// picture is a file with what the desktop shows.
func (b *bastion) picture() string {
	b.t.Helper()
	data, err := base64.StdEncoding.DecodeString(b.browser.Run("desk.picture()"))
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.Dir, "picture.png")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// file waits until a file has the text.
func (b *bastion) file(path, want string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%q in %s", want, path), time.Minute, func() bool {
		got, _ := os.ReadFile(path)
		return strings.TrimSpace(string(got)) == want
	})
}

// sound says that the page has not broken its policy.
func (b *bastion) sound() {
	b.t.Helper()
	if broken := b.browser.Run("JSON.stringify(desk.broken)"); broken != "[]" {
		b.t.Errorf("the page breaks its policy: %s", broken)
	}
}
