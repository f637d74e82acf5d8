package files

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/audit"
	"sallyport/frame"
)

// A target is a real OpenSSH server on loopback, and a folder of its files.
type target struct {
	dir  string // of the files
	addr string
	key  ssh.Signer

	identity  string     // the file of the key that signs on
	transfers *Transfers // of all sides; may be nil
}

func newTarget(t testing.TB) *target {
	t.Helper()
	return newServer(t, "Subsystem sftp internal-sftp")
}

// newServer starts one whose configuration has more lines.
func newServer(t testing.TB, more string) *target {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("an SSH server that signs several accounts on runs as root")
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	etc := t.TempDir()
	write := func(name string, content []byte) string {
		at := filepath.Join(etc, name)
		if err := os.WriteFile(at, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return at
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	// The key is the server's and, in a line of the configuration, everybody's.
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	host := write("key", pem.EncodeToMemory(block))
	config := write("sshd_config", []byte(strings.Join([]string{
		"Port " + port, "ListenAddress 127.0.0.1", "HostKey " + host, "AuthorizedKeysFile none",
		"AuthorizedKeysCommand /bin/echo " + line, "AuthorizedKeysCommandUser root",
		"PermitRootLogin prohibit-password", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no", "UseDNS no",
		"PidFile none", "LogLevel FATAL", "MaxStartups 1000",
	}, "\n")+"\n"+more))
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	dir, err := os.MkdirTemp("/var/tmp", "files-") // where other accounts may go, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	g := &target{dir: dir, addr: addr, key: signer, identity: host}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return g
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatal("the SSH server does not listen")
		}
	}
}

// dial signs a user on.
func (g *target) dial(t testing.TB, user string) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(g.key)},
		HostKeyCallback: ssh.FixedHostKey(g.key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (g *target) path(names ...string) string {
	return filepath.Join(append([]string{g.dir}, names...)...)
}

func (g *target) write(t testing.TB, content []byte, names ...string) string {
	t.Helper()
	at := g.path(names...)
	if err := os.WriteFile(at, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return at
}

func (g *target) read(t testing.TB, names ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(g.path(names...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names are those in a folder.
func (g *target) names(t testing.TB, folder ...string) []string {
	t.Helper()
	entries, err := os.ReadDir(g.path(folder...))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A person is at the other end of a side.
type person struct {
	t      testing.TB
	conn   net.Conn
	near   *side
	client *ssh.Client
	served chan error // what Serve has returned
	anew   bool       // uploads begin at 0, whatever is there

	sending sync.Mutex
	mu      sync.Mutex
	next    uint32
	waits   map[uint32]chan reply
	ready   map[string]any
	begun   chan struct{} // closed when ready has come
	over    chan struct{} // closed when nothing comes any more
}

// A reply is a message to the person.
type reply struct {
	kind   byte
	offset int64
	bytes  []byte // of data: of the message's memory
	json   map[string]any
}

// A side is a Side over a pipe.
type side struct {
	net.Conn
	may []string

	mu     sync.Mutex
	events []audit.Event
	deaf   bool // nothing can be recorded
	end    error
}

func (s *side) May(channel string) bool {
	for _, c := range s.may {
		if c == channel {
			return true
		}
	}
	return false
}

func (s *side) End(why error) {
	s.mu.Lock()
	s.end = why
	s.mu.Unlock()
	s.Close()
}

func (s *side) Record(e audit.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf {
		return frame.Refuse("E_AUDIT", "the appliance cannot write its audit log", "")
	}
	s.events = append(s.events, e)
	return nil
}

// recorded takes the events since the last time, as text.
func (s *side) recorded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, e := range s.events {
		all = append(all, fmt.Sprintf("%s %s %s %v", e.Kind, e.Object, e.Code, e.Detail))
	}
	s.events = nil
	return all
}

// serve has Serve serve somebody who signs on as user, until the test ends.
func serve(t testing.TB, g *target, user string, may ...string) *person {
	t.Helper()
	near, far := net.Pipe()
	p := &person{t: t, conn: far, near: &side{Conn: near, may: may}, client: g.dial(t, user), served: make(chan error, 1),
		waits: map[uint32]chan reply{}, begun: make(chan struct{}), over: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		p.served <- Serve(ctx, p.client, p.near, Options{Target: "db-1", Who: "ann", Transfers: g.transfers})
	}()
	go p.listen()
	t.Cleanup(func() {
		p.conn.Close()
		<-p.over
		p.leave()
		p.client.Close()
		cancel()
	})
	return p
}

// begin is serve, for a person who waits until they are served.
func begin(t testing.TB, g *target, user string, may ...string) *person {
	t.Helper()
	p := serve(t, g, user, may...)
	<-p.begun
	return p
}

// leave waits for Serve, and says how it ended.
func (p *person) leave() error {
	p.conn.Close()
	select {
	case err := <-p.served:
		p.served <- err
		return err
	case <-time.After(20 * time.Second):
		p.t.Error("Serve does not end")
		return nil
	}
}

func (p *person) listen() {
	defer close(p.over)
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(p.conn, head); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head)
		if n < 1 || n > maxData {
			p.t.Errorf("a message of %d bytes", n)
			return
		}
		body := make([]byte, n-1)
		if _, err := io.ReadFull(p.conn, body); err != nil {
			return
		}
		r := reply{kind: head[4]}
		var id uint32
		switch r.kind {
		case kindData:
			id, r.offset, r.bytes = binary.BigEndian.Uint32(body), int64(binary.BigEndian.Uint64(body[4:])), body[12:]
		case kindCredit:
			id, r.offset = binary.BigEndian.Uint32(body), int64(binary.BigEndian.Uint64(body[4:]))
		default:
			if err := json.Unmarshal(body, &r.json); err != nil {
				p.t.Errorf("%q: %v", body, err)
				return
			}
			if n, ok := r.json["id"].(float64); ok {
				id = uint32(n)
			}
		}
		if r.kind == kindReady {
			p.ready = r.json
			close(p.begun)
			continue
		}
		p.mu.Lock()
		c := p.waits[id]
		p.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
}

func (p *person) write(b []byte) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	_, err := p.conn.Write(b)
	return err
}

// An exchange is a request that is under way.
type exchange struct {
	p       *person
	id      uint32
	replies chan reply
}

func (p *person) ask(r request) *exchange {
	p.t.Helper()
	p.mu.Lock()
	p.next++
	r.ID = p.next
	e := &exchange{p, r.ID, make(chan reply, 256)}
	p.waits[r.ID] = e.replies
	p.mu.Unlock()
	b, err := appendJSON(nil, kindRequest, r)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.write(b); err != nil {
		select {
		case <-p.over: // who waits for an answer is told
		case <-time.After(10 * time.Second):
			p.t.Fatal(err)
		}
	}
	return e
}

var errSilent = errors.New("the side has ended")

// receive is the next reply.
func (e *exchange) receive() (reply, error) {
	select {
	case r := <-e.replies:
		return r, nil
	case <-time.After(60 * time.Second):
		return reply{}, errors.New("no answer")
	case <-e.p.over:
		select {
		case r := <-e.replies:
			return r, nil
		default:
			return reply{}, errSilent
		}
	}
}

// answer is the next answer, and the code of its error.
func (e *exchange) answer() (map[string]any, string) {
	e.p.t.Helper()
	for {
		r, err := e.receive()
		if err != nil {
			e.p.t.Fatal(err)
		}
		if r.kind == kindRequest {
			return r.json, codeIn(r.json)
		}
	}
}

// codeIn is the code of an answer's error. Every error says what, and no more than a line.
func codeIn(answer map[string]any) string {
	no, ok := answer["error"].(map[string]any)
	if !ok {
		return ""
	}
	if s, _ := no["sentence"].(string); s == "" || strings.ContainsAny(s, "\n\x1b") {
		return "no sentence"
	}
	return no["code"].(string)
}

// do asks, and waits for the only answer.
func (p *person) do(r request) (map[string]any, string) {
	p.t.Helper()
	return p.ask(r).answer()
}

// must is do for what has to go well.
func (p *person) must(r request) map[string]any {
	p.t.Helper()
	a, code := p.do(r)
	if code != "" {
		p.t.Fatalf("%s %q: %v", r.Op, r.Path, a["error"])
	}
	return a
}

func (p *person) cancel(id uint32, keep bool) {
	b := append(binary.BigEndian.AppendUint32([]byte("\x00\x00\x00\x06\x13"), id), 0)
	if keep {
		b[len(b)-1] = 1
	}
	if err := p.write(b); err != nil {
		p.t.Error(err)
	}
}

// list is what is in a folder, by name.
func (p *person) list(at string) (all []map[string]any, truncated bool) {
	p.t.Helper()
	e := p.ask(request{Op: "list", Path: []byte(at)})
	for {
		a, code := e.answer()
		if code != "" {
			p.t.Fatalf("list %q: %v", at, a["error"])
		}
		for _, one := range a["entries"].([]any) {
			all = append(all, one.(map[string]any))
		}
		if a["more"] == nil {
			return all, a["truncated"] == true
		}
	}
}

// upload sends what r has of size bytes, beginning where what is there ends. stop, if it is not 0, is where it stops: it
// returns then with nothing.
func (p *person) upload(req request, r io.ReaderAt, stop int64) (map[string]any, string) {
	e := p.ask(req)
	a, code := e.answer()
	if code != "" {
		return a, code
	}
	at := int64(a["offset"].(float64))
	if p.anew {
		at = 0
	}
	limit := at + window
	end := req.Size
	if stop > 0 {
		end = stop
	}
	if err := p.write(appendData(nil, e.id, at, nil)); err != nil {
		return nil, err.Error()
	}
	buf, out := make([]byte, 64<<10), []byte(nil)
	for {
		for at < end && at < limit {
			n, err := r.ReadAt(buf[:min(int64(len(buf)), end-at, limit-at)], at)
			if n == 0 {
				return nil, err.Error()
			}
			out = appendData(out[:0], e.id, at, buf[:n])
			if err := p.write(out); err != nil {
				return nil, err.Error()
			}
			at += int64(n)
		}
		if stop > 0 && at == stop {
			return map[string]any{"id": float64(e.id)}, ""
		}
		reply, err := e.receive()
		if err != nil {
			return nil, err.Error()
		}
		switch reply.kind {
		case kindCredit:
			limit = reply.offset
		case kindRequest:
			return reply.json, codeIn(reply.json)
		}
	}
}

// download writes to w what comes after from. stop, if it is not 0, is how much is enough.
func (p *person) download(req request, w io.Writer, stop int64) (map[string]any, string) {
	e := p.ask(req)
	at := req.From
	for {
		r, err := e.receive()
		if err != nil {
			return nil, err.Error()
		}
		switch r.kind {
		case kindRequest:
			if r.json["more"] == nil {
				return r.json, codeIn(r.json)
			}
		case kindData:
			if r.offset != at {
				return nil, fmt.Sprintf("data at %d, and not at %d", r.offset, at)
			}
			if _, err := w.Write(r.bytes); err != nil {
				return nil, err.Error()
			}
			at += int64(len(r.bytes))
			if stop > 0 && at >= stop {
				return map[string]any{"id": float64(e.id)}, ""
			}
			if err := p.write(appendCredit(nil, e.id, at+window)); err != nil {
				return nil, err.Error()
			}
		}
	}
}

// fetch is a whole file.
func (p *person) fetch(at string) []byte {
	p.t.Helper()
	var b bytes.Buffer
	if a, code := p.download(request{Op: "download", Path: []byte(at)}, &b, 0); code != "" {
		p.t.Fatalf("download of %q: %s %v", at, code, a)
	}
	return b.Bytes()
}

// noise is n bytes that nothing else has.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	mathrand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
