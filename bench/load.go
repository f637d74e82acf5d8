package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a flow is for: the first byte that the client sends. Bulk flows have two lengths of time behind it.
const (
	opEcho   = 'E' // all that comes goes back
	opSink   = 'U' // the target counts what comes, and says how much it was
	opSource = 'D' // the target sends until nobody reads
)

// chunk is what bulk flows read and write at once: four of the 64 KiB that a frame, a TLS write or a TSO segment holds,
// so that the generator is not what limits.
const chunk = 256 << 10

// patience is how long a load waits for a byte on a way that may be slow, before it says that the way is dead.
const patience = 20 * time.Second

// A Dial opens a new flow to the target.
type Dial func(ctx context.Context) (net.Conn, error)

// Serve is the target of all loads: it accepts on l until ctx ends, and returns when all flows have ended.
func Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { c.Close() })()
			defer c.Close()
			answer(c)
		})
	}
}

// answer serves one flow. Its client sees what went wrong.
func answer(c net.Conn) {
	var op [1]byte
	if _, err := io.ReadFull(c, op[:]); err != nil {
		return
	}
	switch op[0] {
	case opEcho:
		var b [512]byte // small: idle flows are many
		for {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	case opSink:
		w, err := readWindow(c)
		if err != nil {
			return
		}
		n := w.count(c)
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		if _, err := c.Write(b[:]); err != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(patience))
		io.CopyBuffer(io.Discard, readerOnly{c}, make([]byte, chunk))
	case opSource:
		b := make([]byte, chunk)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

// readerOnly hides what io.Copy would rather use.
type readerOnly struct{ io.Reader }

// A window is the time in which bytes count, seen from the flow's first one.
type window struct{ warmup, length time.Duration }

func (w window) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(w.warmup))
	return binary.BigEndian.AppendUint64(b, uint64(w.length))
}

func readWindow(r io.Reader) (window, error) {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return window{}, err
	}
	w := window{time.Duration(binary.BigEndian.Uint64(b[:])), time.Duration(binary.BigEndian.Uint64(b[8:]))}
	if w.warmup < 0 || w.length <= 0 || w.warmup > time.Hour || w.length > time.Hour {
		return window{}, errors.New("no such window")
	}
	return w, nil
}

// count reads until the window ends, or the flow does, and says how many bytes came within the window.
func (w window) count(c net.Conn) int64 {
	begin := time.Now().Add(w.warmup)
	end := begin.Add(w.length)
	c.SetReadDeadline(end)
	b := make([]byte, chunk)
	var counted int64
	for {
		n, err := c.Read(b)
		if now := time.Now(); now.After(begin) && !now.After(end) {
			counted += int64(n)
		}
		if err != nil {
			return counted
		}
	}
}

// A BulkLoad is flows that carry as much as they can for a while.
type BulkLoad struct {
	Up     bool          // from client to target; else from target to client
	Flows  int           // at once; default 1
	Warmup time.Duration // before bytes count: slow start, buffers that grow
	Length time.Duration // for which they count; default 1 second
}

// A BulkResult says what arrived.
type BulkResult struct {
	Bytes  int64         // counted where they arrive, within the window
	Length time.Duration // of the window
}

// Gbit is the throughput in Gbit/s.
func (r BulkResult) Gbit() float64 { return float64(r.Bytes) * 8 / 1e9 / r.Length.Seconds() }

// Bulk opens the flows and runs the load. during, if it is not nil, is called when bytes begin to count and when they have
// counted.
func Bulk(ctx context.Context, dial Dial, load BulkLoad, during func(begin bool)) (BulkResult, error) {
	flows, err := openAll(ctx, dial, max(1, load.Flows))
	if err != nil {
		return BulkResult{}, err
	}
	defer closeFlows(flows)
	w := window{load.Warmup, load.Length}
	if w.length == 0 {
		w.length = time.Second
	}
	var ticks sync.WaitGroup
	if during != nil {
		ticks.Go(func() {
			time.Sleep(w.warmup)
			during(true)
			time.Sleep(w.length)
			during(false)
		})
	}
	counts, errs := make([]int64, len(flows)), make([]error, len(flows))
	var wg sync.WaitGroup
	for i, c := range flows {
		wg.Go(func() {
			if load.Up {
				counts[i], errs[i] = upload(c, w)
			} else {
				counts[i], errs[i] = download(c, w)
			}
		})
	}
	wg.Wait()
	ticks.Wait()
	r := BulkResult{Length: w.length}
	for _, n := range counts {
		r.Bytes += n
	}
	if r.Bytes == 0 {
		errs = append(errs, errors.New("no byte arrived in the time that counts"))
	}
	return r, firstOf(errs)
}

func upload(c net.Conn, w window) (int64, error) {
	c.SetDeadline(time.Now().Add(w.warmup + w.length + patience))
	if _, err := c.Write(w.append([]byte{opSink})); err != nil {
		return 0, fmt.Errorf("upload: %w", err)
	}
	var counted [8]byte
	var wg sync.WaitGroup
	var heard error
	wg.Go(func() {
		_, heard = io.ReadFull(c, counted[:])
		c.SetWriteDeadline(time.Now()) // ends the writer
	})
	b := make([]byte, chunk)
	for {
		if _, err := c.Write(b); err != nil {
			break
		}
	}
	wg.Wait()
	if heard != nil {
		return 0, fmt.Errorf("upload: no count from the target: %w", heard)
	}
	drain(c)
	return int64(binary.BigEndian.Uint64(counted[:])), nil
}

// drain waits until the target has all that was sent, so that the next measurement does not find it on the way.
func drain(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		io.Copy(io.Discard, readerOnly{c})
	}
}

func download(c net.Conn, w window) (int64, error) {
	if _, err := c.Write([]byte{opSource}); err != nil {
		return 0, fmt.Errorf("download: %w", err)
	}
	return w.count(c), nil
}

// openAll opens flows, in parallel.
func openAll(ctx context.Context, dial Dial, n int) ([]net.Conn, error) {
	flows, errs := make([]net.Conn, n), make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32) // fewer than any listener's backlog
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			flows[i], errs[i] = dial(ctx)
		})
	}
	wg.Wait()
	if err := firstOf(errs); err != nil {
		closeFlows(flows)
		return nil, err
	}
	return flows, nil
}

// firstOf is the first of many errors, which are mostly the same, and how many there are.
func firstOf(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w, and %d more", errs[0], len(errs)-1)
}

func closeFlows(flows []net.Conn) {
	for _, c := range flows {
		if c != nil {
			c.Close()
		}
	}
}

// echoed sends one byte of an echo flow and waits for it.
func echoed(c net.Conn) error {
	var b [1]byte
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	return err
}

// openEcho opens an echo flow and waits for its first byte.
func openEcho(ctx context.Context, dial Dial) (net.Conn, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	var b [1]byte
	c.SetDeadline(time.Now().Add(patience))
	if _, err = c.Write([]byte{opEcho, 1}); err == nil {
		_, err = io.ReadFull(c, b[:])
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("no echo: %w", err)
	}
	return c, nil
}

// A Spread is the middle and the tail of many times.
type Spread struct {
	P50, P99, Max time.Duration
	Count         int64
}

// newHistogram counts times from 1 µs to a minute, exact to a thousandth.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 3)
}

func spreadOf(h *hdrhistogram.Histogram) Spread {
	return Spread{time.Duration(h.ValueAtQuantile(50)), time.Duration(h.ValueAtQuantile(99)), time.Duration(h.Max()), h.TotalCount()}
}

// RoundTrips sends one byte after the other on one flow for so long, pause after each answer, and times the answers.
func RoundTrips(ctx context.Context, dial Dial, length, pause time.Duration) (Spread, error) {
	c, err := openEcho(ctx, dial)
	if err != nil {
		return Spread{}, err
	}
	defer c.Close()
	h := newHistogram()
	for end := time.Now().Add(length); time.Now().Before(end) && ctx.Err() == nil; {
		begin := time.Now()
		if err := echoed(c); err != nil {
			return Spread{}, fmt.Errorf("round trip: %w", err)
		}
		h.RecordValue(int64(time.Since(begin)))
		time.Sleep(pause)
	}
	return spreadOf(h), context.Cause(ctx)
}

// Opens opens n flows one after the other and times each from the call to its first echoed byte.
func Opens(ctx context.Context, dial Dial, n int) (Spread, error) {
	h := newHistogram()
	for range n {
		begin := time.Now()
		c, err := openEcho(ctx, dial)
		if err != nil {
			return Spread{}, err
		}
		h.RecordValue(int64(time.Since(begin)))
		c.Close()
	}
	return spreadOf(h), nil
}

// First tries until a flow echoes its first byte: a way is open from then on.
func First(ctx context.Context, dial Dial) error {
	var last error
	for {
		c, err := openEcho(ctx, dial)
		if err == nil {
			return c.Close()
		}
		last = err
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the way does not open: %w", last)
		}
	}
}

// Hold opens n idle flows, each of which has echoed one byte, evenly by all of the ways. The caller closes them.
func Hold(ctx context.Context, ways []Dial, n int) (io.Closer, error) {
	var next atomic.Int64
	flows, err := openAll(ctx, func(ctx context.Context) (net.Conn, error) {
		return openEcho(ctx, ways[int(next.Add(1))%len(ways)])
	}, n)
	if err != nil {
		return nil, err
	}
	return held(flows), nil
}

type held []net.Conn

// Close closes the flows.
func (h held) Close() error {
	closeFlows(h)
	return nil
}
