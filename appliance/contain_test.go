package appliance

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/relay"
)

// bugVNet is a VNet with a bug.
type bugVNet struct {
	*memoryVNet
	in string // the method that panics, of the VNet or of its conns
}

func (v *bugVNet) panicIn(method string) {
	if v.in == method {
		panic("bug in " + method)
	}
}

func (v *bugVNet) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	v.panicIn("LookupNetIP")
	return v.memoryVNet.LookupNetIP(ctx, network, host)
}

func (v *bugVNet) Choose(addrs []netip.Addr) (netip.Addr, error) {
	v.panicIn("Choose")
	return v.memoryVNet.Choose(addrs)
}

func (v *bugVNet) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	v.panicIn("DialContext")
	c, err := v.memoryVNet.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &bugConn{Conn: c, Relay: relay.Wrap(c), vnet: v}, nil
}

// bugConn takes everything before its bug is met; WaitWritable is asked once it is full.
type bugConn struct {
	net.Conn
	Relay relay.Conn
	vnet  *bugVNet
}

func (c *bugConn) Buffered() int { return c.Relay.Buffered() }

func (c *bugConn) WaitReadable(ctx context.Context, later func()) (bool, error) {
	c.vnet.panicIn("WaitReadable")
	return c.Relay.WaitReadable(ctx, later)
}

func (c *bugConn) Read(p []byte) (int, error) {
	c.vnet.panicIn("Read")
	return c.Relay.Read(p)
}

func (c *bugConn) Take(p []byte) (int, error) {
	c.vnet.panicIn("Take")
	if c.vnet.in == "WaitWritable" {
		return 0, nil
	}
	return c.Relay.Take(p)
}

func (c *bugConn) WaitWritable(ctx context.Context) error {
	c.vnet.panicIn("WaitWritable")
	return c.Relay.WaitWritable(ctx)
}

func (c *bugConn) CloseWrite() error {
	c.vnet.panicIn("CloseWrite")
	return c.Relay.CloseWrite()
}

// watched is a log.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestPanic is row 59: a panic in what a flow was dialled with, in whichever goroutine it comes, ends this flow, with an
// incident that stands in the log beside the stack; the others live.
func TestPanic(t *testing.T) {
	for _, in := range []string{"LookupNetIP", "Choose", "DialContext", "WaitReadable", "Read", "Take", "WaitWritable", "CloseWrite"} {
		t.Run(in, func(t *testing.T) {
			s := newSite(t)
			var log watched
			s.Log = slog.New(slog.NewTextHandler(&log, nil))
			s.target("10.0.0.5:22", echo)
			bug := &bugVNet{memoryVNet: s.vnet}
			s.VNets["hub"] = bug
			other, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			speak(t, other, "SSH-2.0-other\r\n")

			s.VNets = map[string]VNet{"hub": &bugVNet{s.vnet, in}}
			f, _, err := s.open(frame.OpenRequest{Target: "named", Protocol: "ssh"})
			if err == nil {
				io.WriteString(f, "SSH-2.0-client\r\nthe canary, a password that somebody types\r\n")
				f.CloseWrite()
				_, err = io.ReadAll(f)
				f.Close()
			}
			r, ok := frame.ReasonOf(err)
			if !ok || r.Code != frame.Internal || r.Code.Exit() != 70 || !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(r.Incident) ||
				r.Sentence != "the appliance met a bug and ended this connection" || r.Hint != "tell its administrator: incident "+r.Incident {
				t.Errorf("the client is told %+v (%v)", r, err)
			}
			for deadline := time.Now().Add(10 * time.Second); s.live.count() > 1 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if n := s.live.count(); n != 1 {
				t.Errorf("%d flows are live, one should be", n)
			}
			if text := log.String(); !strings.Contains(text, "incident="+r.Incident) || !strings.Contains(text, "bug in "+in) || !strings.Contains(text, "contain_test.go") {
				t.Errorf("the log has no incident %s, or no stack: %s", r.Incident, text)
			} else if tellsOf(text, "the canary") {
				t.Errorf("the log has what was typed: %s", text)
			}
			speak(t, other, "still here\r\n")
		})
	}
}

// speak says something to an echo and hears it, perhaps after other lines.
func speak(t *testing.T, f *frame.Stream, line string) {
	t.Helper()
	f.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(f, line); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !bytes.HasSuffix(got, []byte(line)) {
		p := make([]byte, 1000)
		n, err := f.Read(p)
		if got = append(got, p[:n]...); err != nil {
			t.Fatalf("heard %q, %v", got, err)
		}
	}
}

// bugCarrier is a transport's carrier that panics in one of its methods once it is armed.
type bugCarrier struct {
	frame.Carrier
	in    string
	armed chan struct{}
}

func (c *bugCarrier) panicIn(method string) {
	select {
	case <-c.armed:
		if c.in == method {
			panic("bug in the carrier's " + method)
		}
	default:
	}
}

func (c *bugCarrier) Read(p []byte) (int, error) {
	n, err := c.Carrier.Read(p)
	c.panicIn("Read")
	return n, err
}

func (c *bugCarrier) Write(p []byte) (int, error) {
	c.panicIn("Write")
	return c.Carrier.Write(p)
}

func (c *bugCarrier) CloseWrite() error {
	c.panicIn("CloseWrite")
	return c.Carrier.CloseWrite()
}

// TestPanicInCarrier: the frames' own goroutines survive a transport with a bug; its client sees a lost connection.
func TestPanicInCarrier(t *testing.T) {
	for _, in := range []string{"Read", "Write", "CloseWrite"} {
		t.Run(in, func(t *testing.T) {
			s := newSite(t)
			var log watched
			s.Log = slog.New(slog.NewTextHandler(&log, nil))
			s.target("10.0.0.5:22", echo)
			client, appliance := frametest.Pipe(0)
			bug := &bugCarrier{appliance, in, make(chan struct{})}
			s.wg.Go(func() { s.Flow(context.Background(), bug, s.peer) })
			f, _, err := frame.Open(t.Context(), client, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{})
			if err != nil {
				t.Fatal(err)
			}
			speak(t, f, "SSH-2.0-client\r\n")
			close(bug.armed)
			io.WriteString(f, "and now\r\n")
			f.CloseWrite()
			io.ReadAll(f)
			f.Close()
			s.settle()
			if n := s.live.count(); n != 0 {
				t.Errorf("%d flows are live", n)
			}
			if text := log.String(); !strings.Contains(text, "bug in the carrier's "+in) {
				t.Errorf("the log says nothing of it: %s", text)
			}
		})
	}
}

// tellsOf says whether a log has some text, as it is or in hexadecimal or base64.
func tellsOf(log, text string) bool {
	for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text)), fmt.Sprint([]byte(text))} {
		if strings.Contains(log, form[:len(form)-2]) { // the last of base64 depend on what follows
			return true
		}
	}
	return false
}

// TestPanicInAdmit: so does one in a sign-in, whose code and token the log does not have.
func TestPanicInAdmit(t *testing.T) {
	s := newSite(t)
	var log watched
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.Devices = bugDevices{s.reg}
	for _, h := range []*frame.Hello{{Token: []byte("the canary's token")}, {Token: []byte("the canary's token"), Code: "the canary's code", User: "ann"}} {
		_, err := s.Admit(t.Context(), h, &s.peer)
		if r, ok := frame.ReasonOf(err); !ok || r.Code != frame.Internal || r.Incident == "" {
			t.Errorf("the client is told %+v (%v)", r, err)
		}
	}
	if text := log.String(); strings.Count(text, "bug in ") != 2 || tellsOf(text, "the canary's token") || tellsOf(text, "the canary's code") {
		t.Errorf("the log has %s", text)
	}
}

type bugDevices struct{ *auth.Registry }

func (bugDevices) Device(ed25519.PublicKey) (auth.Device, error) { panic("bug in Device") }
func (bugDevices) Enrol(e auth.Enrolment) (auth.Device, error)   { panic("bug in Enrol") }
