package terminal

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"sallyport/appliance"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/hostkey"
	"sallyport/appliance/message"
	"sallyport/appliance/policy"
	"sallyport/appliance/sshca"
	"sallyport/appliance/sshlogin"
	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/netstack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const access = `
targets: [{name: db-1, vnet: hub, address: 10.0.0.5, protocols: {ssh: 22}%s}]
rules: [{name: ops, who: [ann], targets: [db-1], protocols: [ssh], principals: [root]}]
`

// site is a gateway whose one target is a real sshd.
type site struct {
	*appliance.Gateway
	t    *testing.T
	dir  string
	port int
	pins memoryPins
	book book
	wg   sync.WaitGroup
	keys string // lines of the target in access.yaml
}

// VNet: all addresses are the sshd's.
func (s *site) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("no names")
}
func (s *site) Choose(a []netip.Addr) (netip.Addr, error) { return a[0], nil }
func (s *site) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, fmt.Sprint("127.0.0.1:", s.port))
}

type book struct {
	mu     sync.Mutex
	events []audit.Event
}

func (b *book) Write(e audit.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	return nil
}

func (b *book) Read(audit.Filter) iter.Seq2[audit.Event, error] {
	return func(func(audit.Event, error) bool) {}
}

func (b *book) of(kind string) (found []audit.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

type noLocks struct{}

func (noLocks) Locks(context.Context) ([]auth.Lock, error)              { return nil, nil }
func (noLocks) PutLock(context.Context, auth.Lock) error                { return nil }
func (noLocks) DeleteLock(context.Context, auth.LockKind, string) error { return nil }

type memoryPins struct{ keys map[string]hostkey.Key }

func (m *memoryPins) HostKeys(context.Context) ([]hostkey.Key, error) { return nil, nil }
func (m *memoryPins) See(_ context.Context, k hostkey.Key) (hostkey.Key, error) {
	if known, ok := m.keys[k.Target]; ok {
		return known, nil
	}
	if m.keys == nil {
		m.keys = map[string]hostkey.Key{}
	}
	m.keys[k.Target] = k
	return k, nil
}
func (m *memoryPins) Put(context.Context, hostkey.Key) error { return nil }
func (m *memoryPins) Forget(context.Context, string) error   { return nil }

type memoryCA struct{ keys []sshca.Key }

func (m *memoryCA) Keys(context.Context) ([]sshca.Key, error)      { return m.keys, nil }
func (m *memoryCA) Add(_ context.Context, k sshca.Key) error       { m.keys = append(m.keys, k); return nil }
func (m *memoryCA) Retire(context.Context, int64, time.Time) error { return nil }

// newSite starts an sshd that trusts the appliance's authority; config comes before the rest of its configuration.
func newSite(t *testing.T, config ...string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	ca, err := sshca.Open(t.Context(), new(memoryCA), make([]byte, 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s.write("ca.pub", strings.Join(ca.Lines(), "\n")+"\n")
	s.startSSHD(config...)
	s.Gateway = &appliance.Gateway{Name: "site", Audit: &s.book, VNets: map[string]appliance.VNet{"hub": s}, SSHCA: ca, Programs: map[string]appliance.Program{Name: Program{}},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	reg, err := auth.Open(t.Context(), t.TempDir(), new(auth.Memory), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s.Devices = reg
	if s.Locks, err = auth.OpenLocks(t.Context(), noLocks{}, time.Now, s.EndLocked); err != nil {
		t.Fatal(err)
	}
	if s.HostKeys, err = hostkey.Open(t.Context(), &s.pins, false, time.Now); err != nil {
		t.Fatal(err)
	}
	s.policy("")
	t.Cleanup(func() { s.Close(); s.wg.Wait(); reg.Close() })
	return s
}

func (s *site) policy(cedar string) {
	s.t.Helper()
	p, err := policy.Parse([]policy.File{{Name: "access.yaml", Data: fmt.Appendf(nil, access, s.keys)}, {Name: "a.cedar", Data: []byte(cedar)}},
		policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: func(netip.Addr) error { return nil }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.SetPolicy(p)
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *site) run(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// startSSHD starts the sshd with a host key of its own, and has it end with the test.
func (s *site) startSSHD(config ...string) {
	t := s.t
	t.Helper()
	if s.port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	key := filepath.Join(s.dir, fmt.Sprint("host", time.Now().UnixNano()))
	s.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	path := s.write("sshd_config", strings.Join(append(config, fmt.Sprint("Port ", s.port), "ListenAddress 127.0.0.1", "HostKey "+key, "SetEnv HOME="+s.dir,
		"TrustedUserCAKeys "+filepath.Join(s.dir, "ca.pub"), "AuthorizedKeysFile "+filepath.Join(s.dir, "authorized"), "StrictModes no", "PermitRootLogin yes",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no", "PrintMotd no", "PidFile none", "Subsystem sftp internal-sftp"), "\n")+"\n")
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", path)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", s.port))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// serve has another server in the place of sshd. What handle does with a connection, it has done when that is closed.
func (s *site) serve(config *ssh.ServerConfig, handle func(*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request)) {
	s.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		s.t.Fatal(err)
	}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	s.port = l.Addr().(*net.TCPAddr).Port
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if conn, channels, requests, err := ssh.NewServerConn(c, config); err == nil {
				handle(conn, channels, requests)
			}
			c.Close()
		}
	})
}

// A page is the browser's side of a flow.
type page struct {
	t      *testing.T
	flow   *frame.Stream
	opened *frame.Opened
	reader *message.Reader
	screen strings.Builder
	answer func(kind byte, body []byte) (byte, any) // of a prompt or a sign request
}

func (s *site) open(session []byte, start any) *page {
	s.t.Helper()
	return s.openAs(Name, session, start)
}

func (s *site) openAs(program string, session []byte, start any) *page {
	s.t.Helper()
	client, far := frametest.Pipe(0)
	peer := frame.Peer{Transport: "websocket", User: "ann", Device: "dev-1", Remote: netip.MustParseAddrPort("192.0.2.1:5")}
	s.wg.Go(func() { s.Flow(context.Background(), far, peer) })
	flow, opened, err := frame.Open(s.t.Context(), client, frame.OpenRequest{Target: "db-1", Protocol: "ssh", Program: program, Session: session}, frame.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { flow.Close() })
	p := &page{t: s.t, flow: flow, opened: opened, reader: message.NewReader(flow, 1<<20)}
	p.sendJSON(sshlogin.KindStart, start)
	return p
}

func (p *page) send(kind byte, body string) {
	p.t.Helper()
	if err := message.Write(p.flow, kind, []byte(body)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) sendJSON(kind byte, v any) {
	p.t.Helper()
	if err := message.WriteJSON(p.flow, kind, v); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next message and adds output to the screen.
func (p *page) next() (byte, []byte, error) {
	p.flow.SetReadDeadline(time.Now().Add(20 * time.Second))
	kind, body, err := p.reader.Next()
	if err == nil && (kind == kindOutput || kind == kindReplay) {
		p.screen.Write(body)
	}
	if err == nil && (kind == sshlogin.KindPrompt || kind == sshlogin.KindSign) && p.answer != nil {
		p.sendJSON(p.answer(kind, body))
	}
	return kind, body, err
}

// until reads until the flow says so, and returns what it said.
func (p *page) until(say string) string {
	p.t.Helper()
	for {
		kind, body, err := p.next()
		if err != nil {
			p.t.Fatalf("%v while waiting for %q; on the screen %.2000q", err, say, p.screen.String())
		}
		if kind == sshlogin.KindState && strings.Contains(string(body), say) || kind == kindNotice && strings.Contains(string(body), say) {
			return string(body)
		}
	}
}

// shows reads until the screen shows something.
func (p *page) shows(text string) {
	p.t.Helper()
	for !strings.Contains(p.screen.String(), text) {
		if _, _, err := p.next(); err != nil {
			p.t.Fatalf("%v while waiting for %q; on the screen %.2000q", err, text, p.screen.String())
		}
	}
}

// ends reads to the end and returns why.
func (p *page) ends() (frame.Reason, bool) {
	for {
		if _, _, err := p.next(); err != nil {
			if err == io.EOF {
				return frame.Reason{}, true
			}
			r, _ := frame.ReasonOf(err)
			return r, false
		}
	}
}

func certificate() sshlogin.Start {
	return sshlogin.Start{User: "root", Auth: "certificate", Cols: 80, Rows: 24}
}

func signature(public ssh.PublicKey, s *ssh.Signature, err error) (byte, any) {
	if err != nil {
		panic(err)
	}
	return sshlogin.KindSignature, json.RawMessage(fmt.Sprintf(`{"format":%q,"blob":%s}`, s.Format, must(json.Marshal(s.Blob))))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
