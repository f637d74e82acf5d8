package system

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/frame"
)

// TestDatabaseAway: PostgreSQL crashes, and later freezes, under a hundred sessions of ten people. None is dropped and all go on moving
// bytes, new ones are opened by grants of before or refused soon, what is revoked meanwhile is, and afterwards the database
// has it all, the audit trail in order and without a gap.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	away := time.Minute
	if soaking() {
		away = 3 * time.Minute
	}
	var db *database
	b := start(t, settings{
		access: strings.Replace(usualAccess, "targets:\n", "targets:\n  - {name: echo, vnet: hub, address: 10.99.0.10, protocols: {tcp: 7777}}\n", 1) +
			"  - {name: echo, who: [\"*\"], targets: [echo], protocols: [tcp]}\n",
		extra:   "store: {url: \"" + databaseURL + "\"}\naudit: {export: [{name: fleet, database: true}]}\n",
		prepare: func(b *bastion) { db = newDatabase(b) },
	})
	b.echo("10.99.0.10:7777")
	ann, bob := b.rawClient("ann"), b.rawClient("bob")
	flows := b.movers(10, 10)
	grant := ann.ask("ann", nil).grant
	if len(grant) != frame.GrantSize {
		t.Fatalf("a grant of %d bytes", len(grant))
	}
	hello := func() error { return b.ssh("quic", "db-1", "echo hello", "hello") }
	if err := hello(); err != nil {
		t.Fatal(err)
	}

	for _, way := range []struct {
		name       string
		away       time.Duration
		down, back func()
	}{
		{"crashed", away, db.crash, db.start},
		{"frozen", away / 4, db.freeze, db.thaw},
	} {
		begin := time.Now()
		way.down()
		b.eventually(2*time.Second, way.name+": new flows are paused", func() error { return ann.ask("ann", nil).want("E_CONTROL_DOWN") })
		// What a person runs, with the start of its processes on a busy machine. That the appliance itself takes no more than
		// two seconds is wanted of each outcome.
		soon := func(what string, err error, asked time.Time) {
			t.Helper()
			if took := time.Since(asked); err != nil || took > 10*time.Second {
				t.Errorf("%s: %s after %v: %v", way.name, what, took, err)
			}
		}
		asked := time.Now()
		soon("the client's own grant", hello(), asked)
		if way.name == "crashed" {
			if err := bob.ask("bob", grant).want("E_CONTROL_DOWN"); err != nil {
				t.Errorf("somebody else's grant: %v", err)
			}
			asked = time.Now()
			soon("a lock", saysNotKept(b.client("admin", "lock", "user", "eve")), asked)
			asked = time.Now()
			soon("a revocation", saysNotKept(b.client("admin", "devices", "revoke", b.deviceOf("bob"))), asked)
			if err := bob.over("quic").hello(frame.Hello{User: "bob"}); err == nil {
				t.Error("a device that was revoked meanwhile comes in")
			}
		}
		for time.Since(begin) < way.away {
			moved := flows.moved()
			time.Sleep(2 * time.Second)
			if err := ann.ask("ann", nil).want("E_CONTROL_DOWN"); err != nil {
				t.Errorf("%s: without a grant: %v", way.name, err)
			}
			if err := ann.ask("ann", grant).want("opened"); err != nil {
				t.Errorf("%s: with a grant: %v", way.name, err)
			}
			flows.check(moved)
		}
		way.back()
		b.eventually(15*time.Second, way.name+": new flows are opened again", func() error { return ann.ask("ann", nil).want("opened") })
		grant = ann.ask("ann", nil).grant
	}
	flows.stop()
	b.eventually(90*time.Second, "revocation and lock are in the database", func() error {
		return db.says("SELECT (SELECT count(*) FROM devices WHERE person = 'bob' AND revoked > 0), (SELECT count(*) FROM locks)", "1|1")
	})
	var last struct{ Seq int }
	lines := strings.Split(strings.TrimSpace(b.mustClient("audit", "--json").stdout), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Seq < 100 {
		t.Fatalf("the log ends with %q: %v", lines[len(lines)-1], err)
	}
	b.eventually(2*time.Minute, "the audit trail is in the database", func() error {
		return db.says(fmt.Sprintf("SELECT min(seq) = 1, max(seq) = count(*), max(seq) >= %d FROM audit", last.Seq), "t|t|t")
	})
}

// saysNotKept wants a refusal that says that the database does not answer.
func saysNotKept(r run) error {
	if r.exit != 16 || !strings.Contains(r.stderr, "on this appliance, and not kept yet") {
		return fmt.Errorf("%v", r)
	}
	return nil
}

// deviceOf is the id of somebody's one device.
func (b *bastion) deviceOf(user string) string {
	b.t.Helper()
	var devices []struct{ Device, User string }
	if err := json.Unmarshal([]byte(b.mustClient("admin", "devices", "--json").stdout), &devices); err != nil {
		b.t.Fatal(err)
	}
	for _, d := range devices {
		if d.User == user {
			return d.Device
		}
	}
	b.t.Fatalf("%s has no device", user)
	return ""
}

// An outcome is how a request for a flow to echo ended.
type outcome struct {
	said  string // opened, or the refusal's code
	grant []byte
	took  time.Duration
}

// want is nil for that outcome within two seconds.
func (o outcome) want(said string) error {
	if o.said != said || o.took > 2*time.Second {
		return fmt.Errorf("%s after %v, want %s", o.said, o.took, said)
	}
	return nil
}

// ask asks for a flow on a connection of its own, and lets it go.
func (r *raw) ask(user string, grant []byte) outcome {
	r.t.Helper()
	c := r.admitted("quic", user)
	defer c.session.CloseWithError(0, "")
	stream, err := c.session.OpenStreamSync(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	begin := time.Now()
	f, opened, err := frame.Open(r.t.Context(), quicCarrier{stream}, frame.OpenRequest{Target: "echo", Protocol: "tcp", Grant: grant}, frame.Options{})
	if err != nil {
		reason, _ := frame.ReasonOf(err)
		return outcome{string(reason.Code), nil, time.Since(begin)}
	}
	f.Close()
	return outcome{"opened", opened.Grant, time.Since(begin)}
}

// quicCarrier carries frames.
type quicCarrier struct{ *quic.Stream }

func (c quicCarrier) CloseWrite() error { return c.Stream.Close() }

func (c quicCarrier) Close() error {
	c.CancelRead(0)
	c.CancelWrite(0)
	return nil
}

// movers are flows that each have a line echoed again and again.
type movers struct {
	t       *testing.T
	ended   atomic.Bool
	lines   []atomic.Int64
	streams []*frame.Stream
	wg      sync.WaitGroup
}

// movers are so many sessions each of so many people, who have a device each and a connection for each session.
func (b *bastion) movers(people, sessions int) *movers {
	b.t.Helper()
	m := &movers{t: b.t, lines: make([]atomic.Int64, people*sessions)}
	for who := range people {
		user := fmt.Sprintf("mover-%d", who)
		r := b.rawClient(user)
		for range sessions {
			stream, err := r.admitted("quic", user).session.OpenStreamSync(b.t.Context())
			if err != nil {
				b.t.Fatal(err)
			}
			f, _, err := frame.Open(b.t.Context(), quicCarrier{stream}, frame.OpenRequest{Target: "echo", Protocol: "tcp"}, frame.Options{})
			if err != nil {
				b.t.Fatal(err)
			}
			i := len(m.streams)
			m.streams = append(m.streams, f)
			m.wg.Go(func() { m.move(i, f) })
		}
	}
	b.t.Cleanup(m.stop)
	return m
}

func (m *movers) move(i int, f *frame.Stream) {
	line := make([]byte, 64)
	for !m.ended.Load() {
		_, err := f.Write(line)
		if err == nil {
			_, err = io.ReadFull(f, line)
		}
		if err != nil {
			if !m.ended.Load() {
				m.t.Errorf("flow %d was dropped: %v", i, err)
			}
			return
		}
		m.lines[i].Add(1)
		time.Sleep(100 * time.Millisecond)
	}
}

// moved is how many lines each flow has had echoed.
func (m *movers) moved() []int64 {
	n := make([]int64, len(m.lines))
	for i := range m.lines {
		n[i] = m.lines[i].Load()
	}
	return n
}

// check wants each flow to have moved something since.
func (m *movers) check(since []int64) {
	m.t.Helper()
	for i, now := range m.moved() {
		if now == since[i] {
			m.t.Errorf("flow %d has stood still for two seconds", i)
		}
	}
}

func (m *movers) stop() {
	if m.ended.Swap(true) {
		return
	}
	for _, f := range m.streams {
		f.Close()
	}
	m.wg.Wait()
}

// echo listens in the VNet and returns whatever comes.
func (b *bastion) echo(address string) {
	b.t.Helper()
	l, err := b.VNet.Namespace.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
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
				io.Copy(c, c)
			})
			b.t.Cleanup(func() { c.Close() })
		}
	})
	b.t.Cleanup(func() { l.Close() })
}

// TestDatabaseAwayAtStart: a daemon that starts without its database says so, lets nobody in, and serves by itself once the
// database is there.
func TestDatabaseAwayAtStart(t *testing.T) {
	t.Parallel()
	var db *database
	var waiting sync.WaitGroup
	b := start(t, settings{
		extra: "store: {url: \"" + databaseURL + "\"}\n",
		prepare: func(b *bastion) {
			db = newDatabase(b)
			db.crash()
			waiting.Go(func() {
				defer db.start()
				var said string
				for range 100 {
					if said = b.answer("/readyz"); strings.Contains(said, "waiting for the database") {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				if !strings.HasPrefix(said, "503") || !strings.Contains(said, "waiting for the database") {
					t.Errorf("/readyz says %q", said)
				}
				if said := b.answer("/targets"); !strings.HasPrefix(said, "503") || !strings.Contains(said, "waits for its database") {
					t.Errorf("whoever opens the portal meanwhile is told %q", said)
				}
				_, key, err := ed25519.GenerateKey(rand.Reader)
				if err != nil {
					t.Error(err)
					return
				}
				err = (&raw{b, frame.PrivateKey(key)}).over("https").hello(frame.Hello{User: "ann"})
				if reason, _ := frame.ReasonOf(err); reason.Code != "E_CONTROL_DOWN" {
					t.Errorf("HELLO meanwhile: %v", err)
				}
			})
		},
	})
	waiting.Wait()
	if said := b.answer("/readyz"); !strings.HasPrefix(said, "200") {
		t.Errorf("/readyz says %q", said)
	}
	for _, line := range []string{"waiting for the database", "the database has answered"} {
		if !strings.Contains(b.daemon.Output(), line) {
			t.Errorf("the log does not say that %s", line)
		}
	}
	if err := b.ssh("quic", "db-1", "echo hello", "hello"); err != nil {
		t.Error(err)
	}
}

// answer is how a path answers: status and text.
func (b *bastion) answer(path string) string {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: b.Client.DialContext, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r, err := client.Get(b.url + path)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1000))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", r.StatusCode, text)
}
