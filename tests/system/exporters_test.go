package system

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A collector is a receiver of the audit log: a line that comes again is taken once.
type collector struct {
	mu    sync.Mutex
	lines []string
	fault error
}

// take adds a line, whose number must follow on that of the one before, or be of those that were there.
func (c *collector) take(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var e struct{ Seq int }
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		c.fault = errors.Join(c.fault, fmt.Errorf("%w: %q", err, line))
		return
	}
	switch {
	case e.Seq == len(c.lines)+1:
		c.lines = append(c.lines, line)
	case e.Seq < 1 || e.Seq > len(c.lines) || c.lines[e.Seq-1] != line:
		c.fault = errors.Join(c.fault, fmt.Errorf("after %d lines comes %q", len(c.lines), line))
	}
}

func (c *collector) refuse(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = errors.Join(c.fault, fmt.Errorf(format, args...))
}

func (c *collector) all() ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines[:len(c.lines):len(c.lines)], c.fault
}

// syslog reads messages of RFC 5424 that are counted in octets.
func (c *collector) syslog(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		digits, err := in.ReadString(' ')
		if err != nil {
			return // the batch is over
		}
		n, err := strconv.Atoi(strings.TrimSpace(digits))
		if err != nil || n < 1 || n > 64<<10 {
			c.refuse("a message of %q bytes", digits)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		header, line, ok := strings.Cut(string(message), "] ")
		if !ok || !strings.HasPrefix(header, "<110>1 ") && !strings.HasPrefix(header, "<108>1 ") || !strings.Contains(header, " lab sallyport - ") {
			c.refuse("a message %q", message)
			return
		}
		c.take(line)
	}
}

const bearer = "the-canary-of-a-receivers-token"

// posted is an HTTP server that takes what a function finds in a body.
func (c *collector) posted(kind string, lines func(body []byte) ([]string, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != kind || r.Header.Get("Authorization") != "Bearer "+bearer {
			c.refuse("%s of %s by %q", r.Method, r.Header.Get("Content-Type"), r.Header.Get("Authorization"))
		}
		found, err := lines(body)
		if err != nil {
			c.refuse("%w: %q", err, body)
		}
		for _, line := range found {
			c.take(line)
		}
	})
}

func linesOf(body []byte) ([]string, error) {
	return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n"), nil
}

// bodiesOf are the bodies of OpenTelemetry's log records.
func bodiesOf(body []byte) (lines []string, err error) {
	var logs struct {
		ResourceLogs []struct {
			ScopeLogs []struct {
				LogRecords []struct {
					Body struct{ StringValue string }
				}
			}
		}
	}
	err = json.Unmarshal(body, &logs)
	for _, r := range logs.ResourceLogs {
		for _, s := range r.ScopeLogs {
			for _, l := range s.LogRecords {
				lines = append(lines, l.Body.StringValue)
			}
		}
	}
	return lines, err
}

// TestExporters: a daemon passes its audit log on to a file, by syslog over TLS, to a webhook and to OpenTelemetry; all have
// the lines of the log, each once and in order, also after it was killed.
func TestExporters(t *testing.T) {
	t.Parallel()
	syslog, webhook, otlp := new(collector), new(collector), new(collector)
	var file string
	b := start(t, settings{
		extra: `run_as: nobody
audit:
  export:
    - {name: file, file: ../for-worker/copy.jsonl}
    - {name: syslog, syslog: "127.0.0.1:6514", ca: ../for-worker/ca.pem}
    - {name: webhook, webhook: "https://127.0.0.1:8443/audit", ca: ../for-worker/ca.pem, token_file: ../for-worker/token}
    - {name: otlp, otlp: "https://127.0.0.1:8444/v1/logs", ca: ../for-worker/ca.pem, token_file: ../for-worker/token}
`,
		prepare: func(b *bastion) {
			certFile, keyFile := b.serverCertificate("receivers", netip.MustParseAddr("127.0.0.1"))
			b.give(filepath.Join(b.Dir, "for-worker"), map[string]string{"ca.pem": readFile(t, certFile), "token": bearer + "\n"})
			b.secrets.hide("a receiver's token", []byte(bearer), filepath.Join(b.Dir, "for-worker", "token"))
			file = filepath.Join(b.Dir, "for-worker", "copy.jsonl")
			cert, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			listen := func(port string) net.Listener {
				l, err := b.Appliance.Listen("tcp", "127.0.0.1:"+port)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
			}
			messages := listen("6514")
			go func() {
				for {
					conn, err := messages.Accept()
					if err != nil {
						return
					}
					go syslog.syslog(conn)
				}
			}()
			for port, handler := range map[string]http.Handler{"8443": webhook.posted("application/x-ndjson", linesOf), "8444": otlp.posted("application/json", bodiesOf)} {
				server := &http.Server{Handler: handler}
				go server.Serve(listen(port))
				t.Cleanup(func() { server.Close() })
			}
		},
	})
	arrive := func() {
		t.Helper()
		written := b.auditLines()
		copied := func() (lines []string, err error) {
			c := new(collector)
			for line := range strings.Lines(readFile(t, file)) {
				c.take(strings.TrimSuffix(line, "\n"))
			}
			return c.all()
		}
		for name, received := range map[string]func() ([]string, error){"file": copied, "syslog": syslog.all, "webhook": webhook.all, "otlp": otlp.all} {
			b.eventually(time.Minute, name+" has all events", func() error {
				lines, err := received()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(lines) < len(written) {
					return fmt.Errorf("%d of %d lines\n%s", len(lines), len(written), b.daemon.Output())
				}
				for i, line := range written {
					if lines[i] != line {
						t.Fatalf("%s has %q, the log %q", name, lines[i], line)
					}
				}
				return nil
			})
		}
		t.Logf("%d lines are everywhere", len(written))
	}
	b.mustSSH("echo in", "in")
	b.mustClient("admin", "lock", "user", "eve", "--why", "a \"quoted\" reason, ünd more")
	b.client("proxy", "nobody-knows")
	arrive()
	b.daemon.Stop()
	b.serve()
	b.mustClient("admin", "unlock", "user", "eve")
	arrive()
	kinds := strings.Join(b.auditLines(), "\n")
	for _, kind := range []string{"daemon.start", "flow.open", "lock.made", "lock.removed", "decision.refused"} {
		if !strings.Contains(kinds, `"event":"`+kind+`"`) {
			t.Errorf("there is no %s", kind)
		}
	}
}

// give makes a folder of files that are the worker's.
func (b *bastion) give(dir string, files map[string]string) {
	b.t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		b.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	err = errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, uid, gid))
	for name, text := range files {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.WriteFile(path, []byte(text), 0o600), os.Chown(path, uid, gid))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// auditLines are those that the audit log has now.
func (b *bastion) auditLines() (lines []string) {
	b.t.Helper()
	segments, err := filepath.Glob(filepath.Join(b.Dir, "state", "audit", "audit-*.jsonl"))
	if err != nil || len(segments) == 0 {
		b.t.Fatal(segments, err)
	}
	for _, path := range segments {
		for line := range strings.Lines(readFile(b.t, path)) {
			if whole, ok := strings.CutSuffix(line, "\n"); ok {
				lines = append(lines, whole)
			}
		}
	}
	return lines
}
