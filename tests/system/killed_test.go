package system

import (
	"context"
	"crypto/ed25519"
	cryptorand "crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"sallyport/frame"
	"sallyport/tests/lab"
)

// TestKilled: parent and worker are killed at random moments, at the start and under load. What a client was told before
// is in the audit log and in the database afterwards, and both are whole.
func TestKilled(t *testing.T) {
	t.Parallel()
	kills := 200
	if soaking() {
		kills = 2000
	}
	b := start(t, settings{extra: "limits: {grace: 5s}\n",
		access: strings.Replace(usualAccess, "rdp: 3389}, labels", "rdp: 3389, tcp: 7777}, labels", 1) +
			"  - {name: load, who: [ann], targets: [db-1], protocols: [tcp]}\n"})
	b.swallow("10.99.0.10:7777")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ann := b.rawClient("ann")
	var told promises
	early := 0
	for n := range kills {
		if n%10 == 9 { // before it is ready, or hardly after
			early++
			b.daemon.Stop()
			b.launch()
			time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
			b.daemon.Stop()
			b.serve()
			continue
		}
		told.keep(ann)
		code := b.code("robot")
		var load sync.WaitGroup
		for range 3 {
			load.Go(func() { told.openFlows(ann) })
		}
		load.Go(func() { told.enrol(ann, code) })
		load.Go(func() { told.administer(ann, n) })
		load.Go(func() { told.endFlows(ann) })
		if n%4 == 0 { // when somebody has just been told
			for end, before := time.Now().Add(10*time.Second), told.ended(); told.ended() == before && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
		} else {
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		}
		b.daemon.Stop()
		load.Wait()
		b.serve()
	}
	b.daemon.Terminate(15 * time.Second)
	t.Logf("%d kills, %d of them early: %d flows, %d ends of flows, %d enrolments, %d locks and %d codes were acknowledged", kills, early, len(told.flows), len(told.ends), len(told.devices),
		len(told.locks), len(told.codes))
	if len(told.flows) < kills || min(len(told.ends), len(told.devices), len(told.locks), len(told.codes)) < kills/8 {
		t.Error("there was hardly any load")
	}

	b.soundDatabase(told.devices, told.locks)
	written := b.wholeCopy()
	for what, ids := range map[string][]string{"flow.open": told.flows, "flow.end": told.ends, "session.killed": told.ends, "device.enrolled": told.devices, "lock.made": told.locks, "code.made": told.codes} {
		if lost := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return written[what+" "+id] }); len(lost) > 0 {
			t.Errorf("%d acknowledged events %s are not in the audit log: %.10q", len(lost), what, lost)
		}
	}
}

// launch starts the daemon and does not wait for it.
func (b *bastion) launch() {
	b.t.Helper()
	b.daemon = lab.Start(b.t, b.Appliance.Command(context.Background(), b.bin+"/sallyportd", "serve", "--config", filepath.Join(b.dir, "sallyport.yaml"), "--run-dir", b.run))
}

// promises are what the appliance has acknowledged.
type promises struct {
	mu      sync.Mutex
	flows   []string // their sessions
	ends    []string // the sessions of those that had ended
	locks   []string // of these people
	codes   []string // for these
	devices []string
	keys    []frame.PrivateKey // of those devices, since the last kill
}

// session is a connection of a device; nil if the appliance is not there any more. A refusal is an error.
func (r *raw) session(key frame.PrivateKey, h frame.Hello) (*rawConn, string, error) {
	c, err := r.dialHTTPS()
	if err != nil {
		return nil, "", nil
	}
	c.key = key
	h.Software = "raw client 1 test/test"
	in, hello, err := c.introduce(h)
	if err != nil {
		return nil, "", err
	}
	if _, err := c.Write(hello); err != nil {
		return nil, "", nil
	}
	welcome, err := in.ReadWelcome(c)
	if _, said := frame.ReasonOf(err); said {
		return nil, "", err
	}
	if err != nil {
		return nil, "", nil
	}
	return c, welcome.Device, nil
}

// openFlows opens flow after flow until the appliance is gone.
func (p *promises) openFlows(r *raw) {
	for {
		c, _, err := r.session(r.key, frame.Hello{User: "ann"})
		if err != nil {
			r.t.Error(err)
		}
		if c == nil {
			return
		}
		if !p.openFlow(r, c, nil) {
			return
		}
	}
}

// openFlow opens one, and does something with its session if that is given; false if the appliance is gone.
func (p *promises) openFlow(r *raw, c *rawConn, then func(session string) bool) bool {
	defer c.Close()
	if _, err := c.Write(frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: "db-1", Protocol: "tcp"})); err != nil {
		return false
	}
	h, payload, err := frame.ReadFrame(c)
	if err != nil {
		return false
	}
	var opened frame.Opened
	if h.Type != frame.TypeOpened || frame.Parse(h.Type, payload, &opened) != nil {
		r.t.Errorf("OPEN was answered with %v %q", h.Type, payload)
		return false
	}
	session := hex.EncodeToString(opened.Session)
	p.note(&p.flows, session)
	return then == nil || then(session)
}

// asks is the appliance's API as a device of ann's has it, on one connection after the other. It says whether a request was
// answered.
func (r *raw) asks() (post func(path, body string) bool) {
	way := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, _, err := r.session(r.key, frame.Hello{User: "ann"})
		if err != nil {
			r.t.Error(err)
		}
		if c == nil {
			return nil, net.ErrClosed
		}
		f, _, err := frame.Open(ctx, tlsCarrier{c.tls, c}, frame.OpenRequest{Protocol: "api"}, frame.Options{})
		if err != nil {
			c.Close()
			return nil, err
		}
		return f, nil
	}}
	r.t.Cleanup(way.CloseIdleConnections)
	api := &http.Client{Transport: way, Timeout: 15 * time.Second}
	return func(path, body string) bool {
		resp, err := api.Post("http://appliance/api/v1/"+path, "application/json", strings.NewReader(body))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			r.t.Errorf("%s %s: %s %s", path, body, resp.Status, text)
		}
		return err == nil && resp.StatusCode == http.StatusOK
	}
}

// administer locks people and makes codes until the appliance is gone.
func (p *promises) administer(r *raw, kill int) {
	post := r.asks()
	for n := 0; ; n++ {
		who := fmt.Sprintf("somebody-%d-%d", kill, n)
		if !post("locks", fmt.Sprintf(`{"kind":"user","name":%q}`, who)) {
			return
		}
		p.note(&p.locks, who)
		if !post("codes", fmt.Sprintf(`{"user":%q}`, who)) {
			return
		}
		p.note(&p.codes, who)
	}
}

// endFlows opens flows and ends them, which their client is told, until the appliance is gone.
func (p *promises) endFlows(r *raw) {
	post := r.asks()
	for {
		c, _, err := r.session(r.key, frame.Hello{User: "ann"})
		if err != nil || c == nil || !p.openFlow(r, c, func(session string) bool {
			if !post("sessions/end", fmt.Sprintf(`{"sessions":[%q]}`, session)) || c.verdict() != "E_KILLED" {
				return false
			}
			p.note(&p.ends, session)
			return true
		}) {
			return
		}
	}
}

// ended is how many flows have been ended.
func (p *promises) ended() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ends)
}

func (p *promises) note(list *[]string, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*list = append(*list, id)
}

// enrol uses an enrolment code.
func (p *promises) enrol(r *raw, code string) {
	_, key, err := ed25519.GenerateKey(cryptorand.Reader)
	if err != nil {
		r.t.Error(err)
		return
	}
	c, device, err := r.session(frame.PrivateKey(key), frame.Hello{Code: code, User: "robot", Name: "robot"})
	if err != nil {
		r.t.Errorf("a code that the appliance gave out before: %v", err)
	}
	if c == nil {
		return
	}
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = append(p.devices, device)
	p.keys = append(p.keys, frame.PrivateKey(key))
}

// keep has those who were enrolled before the kill come in after it.
func (p *promises) keep(r *raw) {
	r.t.Helper()
	for _, key := range p.keys {
		c, _, err := r.session(key, frame.Hello{User: "robot"})
		if err != nil || c == nil {
			r.t.Fatalf("a device that was enrolled before the kill: %v", err)
		}
		c.Close()
	}
	p.keys = nil
}

// soundDatabase has SQLite look at its file, in which those devices and locks are.
func (b *bastion) soundDatabase(devices, locks []string) {
	b.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.Dir, "state", "sallyport.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		b.t.Errorf("SQLite says %q, %v", verdict, err)
	}
	for _, id := range devices {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM devices WHERE id = $1", id).Scan(&n); err != nil || n != 1 {
			b.t.Errorf("device %s is there %d times, %v", id, n, err)
		}
	}
	for _, user := range locks {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM locks WHERE kind = 'user' AND name = $1", user).Scan(&n); err != nil || n != 1 {
			b.t.Errorf("the lock of %s is there %d times, %v", user, n, err)
		}
	}
}

// wholeCopy verifies a copy of the audit log as an auditor does, and says of which sessions, devices and people it has which
// events.
func (b *bastion) wholeCopy() map[string]bool {
	b.t.Helper()
	copied, key := filepath.Join(b.Dir, "audit-copy"), filepath.Join(b.Dir, "audit-key-copy")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(b.Dir, "state", "audit"))); err != nil {
		b.t.Fatal(err)
	}
	b.serve() // which tells the key
	if err := os.WriteFile(key, []byte(b.mustClient("audit", "key").stdout), 0o600); err != nil {
		b.t.Fatal(err)
	}
	r := b.mustClient("audit", "verify", "--key", key, copied)
	b.t.Logf("%s", r.stdout)
	segments, err := filepath.Glob(filepath.Join(copied, "audit-*.jsonl"))
	if err != nil || len(segments) == 0 {
		b.t.Fatal(segments, err)
	}
	written := map[string]bool{}
	for _, path := range segments {
		f, err := os.Open(path)
		if err != nil {
			b.t.Fatal(err)
		}
		for d := json.NewDecoder(f); ; {
			var e struct{ Event, Session, Device, User string }
			if err := d.Decode(&e); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.t.Fatal(fmt.Errorf("%s: %w", path, err))
			}
			for _, id := range []string{e.Session, e.Device, e.User} {
				written[e.Event+" "+id] = true
			}
		}
		f.Close()
	}
	return written
}
