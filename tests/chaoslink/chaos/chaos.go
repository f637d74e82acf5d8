// Package chaos is a relay for TCP and UDP that spoils what passes, to a script and from a seed, so that what went wrong
// once goes wrong again.
//
//	link := &chaos.Link{To: "10.0.0.4:443", Seed: 7}
//	defer link.Close()
//	address, err := link.ListenTCP("127.0.0.1:0")
//	link.Do(chaos.Fault{Kind: chaos.Cut, After: 100 << 10}) // connections break after 100 KiB
//
// # Faults
//
//	pass       nothing any more: what was done is undone, as far as it can be
//	cut        connections are reset, those that stand and those that come; UDP is dropped
//	half-open  what comes from the near side is lost without a word, and the far side's words too: connections stand
//	blackhole  the same, and nobody is let in: new connections get no answer
//	drip       bytes pass one at a time
//	rebind     UDP goes on from another port, as after a NAT forgot it
//
// A fault with After begins on each connection once so many bytes have passed it, in either direction together.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Kind is what a Link does to what passes.
type Kind string

const (
	Pass      Kind = "pass"
	Cut       Kind = "cut"
	HalfOpen  Kind = "half-open"
	Blackhole Kind = "blackhole"
	Drip      Kind = "drip"
	Rebind    Kind = "rebind"
)

var kinds = []Kind{Pass, Cut, HalfOpen, Blackhole, Drip, Rebind}

// A Fault is one thing that goes wrong.
type Fault struct {
	Kind  Kind
	After int // bytes that pass a connection before; 0: at once, on all that stand
}

// A Step of a script is a fault and when it comes.
type Step struct {
	Wait time.Duration
	Fault
}

// Parse reads a script: steps like "5s cut", "cut@100000" or "2s half-open", divided by commas. A time may be a range,
// "1s-3s", of which the seed chooses.
func Parse(script string, seed uint64) ([]Step, error) {
	var steps []Step
	err := Script(script, seed, func(wait time.Duration, words []string) error {
		if len(words) != 1 {
			return fmt.Errorf("%q is not a step, such as \"5s cut\"", strings.Join(words, " "))
		}
		s := Step{Wait: wait}
		kind, after, hasAfter := strings.Cut(words[0], "@")
		s.Kind = Kind(kind)
		if !known(s.Kind) {
			return fmt.Errorf("%q is not a fault: %v", kind, kinds)
		}
		if hasAfter {
			var err error
			if s.After, err = strconv.Atoi(after); err != nil || s.After <= 0 {
				return fmt.Errorf("%q is not a number of bytes", after)
			}
		}
		steps = append(steps, s)
		return nil
	})
	return steps, err
}

// Script reads what all scripts have in common: steps divided by commas, each of them perhaps a time to wait, and words
// that say what happens then, which are do's to understand.
func Script(script string, seed uint64, do func(wait time.Duration, words []string) error) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for text := range strings.SplitSeq(script, ",") {
		var wait time.Duration
		words := strings.Fields(text)
		if len(words) > 0 && '0' <= words[0][0] && words[0][0] <= '9' {
			var err error
			if wait, err = span(words[0], r); err != nil {
				return err
			}
			words = words[1:]
		}
		if err := do(wait, words); err != nil {
			return err
		}
	}
	return nil
}

func known(k Kind) bool {
	for _, other := range kinds {
		if k == other {
			return true
		}
	}
	return false
}

func span(s string, r *rand.Rand) (time.Duration, error) {
	low, high, isRange := strings.Cut(s, "-")
	from, err := time.ParseDuration(low)
	if err != nil || !isRange {
		return from, err
	}
	to, err := time.ParseDuration(high)
	if err != nil || to < from {
		return 0, fmt.Errorf("%q is not a range of times", s)
	}
	return from + time.Duration(r.Int64N(int64(to-from)+1)), nil
}

// A Link relays until it is closed. Set its fields before it listens.
type Link struct {
	To   string // the far side, host:port
	Seed uint64 // of the sizes in which bytes pass

	// Dial and Listen are net's, unless the far or the near side is somewhere else.
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	Listen       func(network, address string) (net.Listener, error)
	ListenPacket func(network, address string) (net.PacketConn, error)

	Log func(format string, args ...any) // may be nil

	mu     sync.Mutex
	fault  Fault
	closed bool
	conns  map[*conn]struct{}
	paths  map[string]*path // of UDP, by the near side's address
	open   []io.Closer      // listeners
	made   uint64           // connections so far
	wg     sync.WaitGroup
}

// Run does the steps of a script one after the other.
func (l *Link) Run(ctx context.Context, steps []Step) error {
	for _, s := range steps {
		select {
		case <-time.After(s.Wait):
			l.Do(s.Fault)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Do makes a fault happen, in the place of the one before.
func (l *Link) Do(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logf("%s, after %d bytes", f.Kind, f.After)
	if f.Kind == Rebind {
		for _, p := range l.paths {
			p.rebind = true
		}
		return
	}
	l.fault = f
	for c := range l.conns {
		c.base = c.passed
		c.apply(f)
	}
}

func (l *Link) logf(format string, args ...any) {
	if l.Log != nil {
		l.Log(format, args...)
	}
}

// Close ends everything.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	for _, c := range l.open {
		c.Close()
	}
	for c := range l.conns {
		c.reset()
	}
	for _, p := range l.paths {
		p.far.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
	return nil
}

func (l *Link) dial(network string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if l.Dial != nil {
		return l.Dial(ctx, network, l.To)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, l.To)
}

// ListenTCP relays connections to address and says where it listens.
func (l *Link) ListenTCP(address string) (net.Addr, error) {
	listen := l.Listen
	if listen == nil {
		listen = net.Listen
	}
	s, err := listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, s)
	l.wg.Go(func() { l.accept(s) })
	return s.Addr(), nil
}

func (l *Link) accept(s net.Listener) {
	for {
		near, err := s.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(near) })
	}
}

// conn is one TCP connection under way.
type conn struct {
	link         *Link
	near, far    net.Conn
	passed, base int // bytes, in both directions, and how many there were when the fault came
	change       chan struct{}
	drip, mute   bool
	rand         *rand.Rand
}

// serve relays one connection.
func (l *Link) serve(near net.Conn) {
	defer near.Close()
	l.mu.Lock()
	l.made++
	c := &conn{link: l, near: near, change: make(chan struct{}), rand: rand.New(rand.NewPCG(l.Seed, l.made))}
	refused := l.fault.After == 0 && (l.fault.Kind == Cut || l.fault.Kind == Blackhole)
	if l.conns == nil {
		l.conns = map[*conn]struct{}{}
	}
	l.conns[c] = struct{}{}
	if l.closed || refused {
		c.apply(l.fault)
	}
	l.mu.Unlock()
	defer l.forget(c)
	if refused {
		io.Copy(io.Discard, near) // a black hole's caller waits; whoever is cut has gone
		return
	}
	far, err := l.dial("tcp")
	if err != nil {
		l.logf("far side: %v", err)
		reset(near)
		return
	}
	defer far.Close()
	l.mu.Lock()
	c.far = far
	c.apply(l.fault)
	if l.closed {
		c.reset()
	}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.copy(far, near) })
	both.Go(func() { c.copy(near, far) })
	both.Wait()
}

func (l *Link) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// apply does f to the connection if it is time. The caller holds the link's mu.
func (c *conn) apply(f Fault) {
	c.drip, c.mute = false, false
	if f.After > 0 && c.passed-c.base < f.After {
		return
	}
	switch f.Kind {
	case Cut:
		c.reset()
	case HalfOpen, Blackhole:
		c.mute = true
	case Drip:
		c.drip = true
	}
}

// reset ends both sides as a machine that has forgotten the connection does.
func (c *conn) reset() {
	reset(c.near)
	if c.far != nil {
		reset(c.far)
	}
}

func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// copy moves bytes one way, in pieces of sizes that the seed chooses.
func (c *conn) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf[:c.piece(len(buf))])
		if n > 0 && c.let(n) {
			if _, err := to.Write(buf[:n]); err != nil {
				c.link.mu.Lock()
				c.reset()
				c.link.mu.Unlock()
				return
			}
		}
		if err == nil {
			continue
		}
		switch h, ok := to.(interface{ CloseWrite() error }); {
		case !c.let(0): // the end is lost like everything else
		case errors.Is(err, io.EOF) && ok:
			h.CloseWrite()
		default:
			reset(to)
		}
		return
	}
}

func (c *conn) piece(most int) int {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.drip {
		return 1
	}
	return 1 + c.rand.IntN(most)
}

// let counts n bytes and says whether they may pass.
func (c *conn) let(n int) bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	before := c.passed - c.base
	c.passed += n
	if f := c.link.fault; f.After > 0 && before < f.After && c.passed-c.base >= f.After {
		c.link.logf("%s after %d bytes", f.Kind, c.passed-c.base)
		c.apply(f)
	}
	return !c.mute
}

// path is one near address's way over UDP.
type path struct {
	far    net.Conn
	rebind bool
}

// ListenUDP relays datagrams to address and says where it listens.
func (l *Link) ListenUDP(address string) (net.Addr, error) {
	listen := l.ListenPacket
	if listen == nil {
		listen = net.ListenPacket
	}
	s, err := listen("udp", address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paths = map[string]*path{}
	l.open = append(l.open, s)
	l.wg.Go(func() { l.datagrams(s) })
	return s.LocalAddr(), nil
}

func (l *Link) datagrams(s net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.ReadFrom(buf)
		if err != nil {
			return
		}
		if p := l.path(s, from); p != nil {
			p.Write(buf[:n])
		}
	}
}

// path is where a datagram from the near side goes on; nil: nowhere.
func (l *Link) path(s net.PacketConn, from net.Addr) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.lost() {
		return nil
	}
	p := l.paths[from.String()]
	if p != nil && !p.rebind {
		return p.far
	}
	far, err := l.dial("udp")
	if err != nil {
		l.logf("far side: %v", err)
		return nil
	}
	if p != nil {
		p.far.Close() // answers to the old port are lost
	}
	l.paths[from.String()] = &path{far: far}
	l.wg.Go(func() { l.answers(s, far, from) })
	return far
}

// lost says whether datagrams are. The caller holds mu.
func (l *Link) lost() bool {
	return l.fault.After == 0 && (l.fault.Kind == Cut || l.fault.Kind == HalfOpen || l.fault.Kind == Blackhole)
}

func (l *Link) answers(s net.PacketConn, far net.Conn, to net.Addr) {
	buf := make([]byte, 64<<10)
	for {
		n, err := far.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		l.mu.Lock()
		lost := l.lost()
		l.mu.Unlock()
		if err == nil && !lost {
			s.WriteTo(buf[:n], to)
		}
	}
}
