package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/bench"
)

// Generate is the load generator inside a namespace, a process that the lab starts. It does the orders that it reads, one
// JSON value each, and answers each in the same way.
func Generate(ctx context.Context, in io.Reader, out io.Writer) error {
	g := &generator{}
	defer g.release()
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		a, err := g.obey(ctx, o)
		if err != nil {
			a.Err = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// Target serves loads in the target's namespace until ctx ends.
func Target(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	errs := make(chan error, 2)
	for _, at := range []struct{ port, congestion string }{{loadPort, ""}, {bbrPort, "bbr"}} {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp4", ":"+at.port)
		if err != nil {
			return err
		}
		wg.Go(func() { errs <- bench.Serve(ctx, congestedListener{l, at.congestion}) })
	}
	return <-errs
}

// A congestedListener accepts connections with another congestion control than the route's.
type congestedListener struct {
	net.Listener
	control string
}

func (l congestedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := congested(c, l.control); err != nil {
		c.Close() // which the client sees
	}
	return c, nil
}

// congested sets the congestion control of a connection, which must be open: the route's takes the place of an earlier one.
func congested(c net.Conn, control string) error {
	if control == "" {
		return nil
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, control)
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("congestion control %s: %w", control, err)
	}
	return nil
}

// What a generator can be told.
const (
	doBulk    = "bulk"
	doRTT     = "rtt"
	doTyping  = "typing" // rtt beside bulk
	doShare   = "share"  // bulk beside bulk
	doOpens   = "opens"
	doFirst   = "first"
	doHold    = "hold"
	doRelease = "release"
)

type order struct {
	Do         string
	Address    string
	Addresses  []string `json:",omitempty"` // of the flows that are held
	Congestion string   `json:",omitempty"`
	Load       bench.BulkLoad
	Beside     []bench.BulkLoad `json:",omitempty"` // what goes on meanwhile
	Other      string           `json:",omitempty"` // where that is dialled; default Address
	Length     time.Duration
	Pause      time.Duration
	Count      int
	Gateway    []int // processes whose CPU time is read while bytes count
}

func (o order) dial(address string) bench.Dial {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, "tcp4", address)
		if err != nil {
			return nil, err
		}
		return c, congested(c, o.Congestion)
	}
}

type answer struct {
	Err    string `json:",omitempty"`
	Bulk   bench.BulkResult
	Beside bench.BulkResult // of all loads that went on meanwhile
	CPU    time.Duration
	Spread bench.Spread
}

type generator struct{ held io.Closer }

func (g *generator) release() {
	if g.held != nil {
		g.held.Close()
		g.held = nil
	}
}

func (g *generator) obey(ctx context.Context, o order) (a answer, err error) {
	dial := o.dial(o.Address)
	switch o.Do {
	case doBulk:
		a.Bulk, a.CPU, err = accounted(ctx, dial, o)
	case doRTT:
		a.Spread, err = bench.RoundTrips(ctx, dial, o.Length, o.Pause)
	case doTyping:
		a.Beside, err = o.beside(ctx, func() (err error) {
			a.Spread, err = bench.RoundTrips(ctx, dial, o.Length, o.Pause)
			return err
		})
	case doShare:
		a.Beside, err = o.beside(ctx, func() (err error) {
			a.Bulk, err = bench.Bulk(ctx, dial, o.Load, nil)
			return err
		})
	case doOpens:
		a.Spread, err = bench.Opens(ctx, dial, o.Count)
	case doFirst:
		ctx, cancel := context.WithTimeout(ctx, o.Length)
		defer cancel()
		err = bench.First(ctx, dial)
	case doHold:
		g.release()
		var ways []bench.Dial
		for _, address := range o.Addresses {
			ways = append(ways, o.dial(address))
		}
		g.held, err = bench.Hold(ctx, ways, o.Count)
	case doRelease:
		g.release()
	default:
		err = fmt.Errorf("there is no order %q", o.Do)
	}
	return a, err
}

// accounted runs a bulk load and reads what CPU time the gateway uses while bytes count.
func accounted(ctx context.Context, dial bench.Dial, o order) (bench.BulkResult, time.Duration, error) {
	if len(o.Gateway) == 0 {
		r, err := bench.Bulk(ctx, dial, o.Load, nil)
		return r, 0, err
	}
	var before map[int]time.Duration
	var used time.Duration
	r, err := bench.Bulk(ctx, dial, o.Load, func(begin bool) {
		if begin {
			before = cpuTimes(o.Gateway)
			return
		}
		used = cpuBetween(before, cpuTimes(o.Gateway))
	})
	return r, used, err
}

// beside has something done after the warm-up of the loads that go on meanwhile, and adds up what those moved.
func (o order) beside(ctx context.Context, do func() error) (all bench.BulkResult, err error) {
	dial := o.dial(cmp.Or(o.Other, o.Address))
	results, errs := make([]bench.BulkResult, len(o.Beside)), make([]error, len(o.Beside))
	var wg sync.WaitGroup
	for i, load := range o.Beside {
		wg.Go(func() { results[i], errs[i] = bench.Bulk(ctx, dial, load, nil) })
	}
	time.Sleep(o.Load.Warmup)
	err = do()
	wg.Wait()
	for _, r := range results {
		all.Bytes += r.Bytes
		all.Length = max(all.Length, r.Length)
	}
	return all, errors.Join(append(errs, err)...)
}

// threads gives the generator and the target more threads than there are CPUs. One that types shares its process with one
// that copies, which other people's programs do not: so the kernel divides the CPUs between them, and not Go's scheduler.
func threads() []string { return []string{fmt.Sprintf("GOMAXPROCS=%d", runtime.NumCPU()+4)} }

// A remote is a generator in another process.
type remote struct {
	*process
	orders  *json.Encoder
	answers chan answer
	late    bool // nobody has waited for an answer
}

// generate starts a generator in the client's namespace.
func (l *lab) generate() (*remote, error) {
	p := &process{Cmd: exec.Command(l.self, "generate")}
	in, err := p.StdinPipe()
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	p.Stdout = writer
	r := &remote{process: p, orders: json.NewEncoder(in), answers: make(chan answer, 1)}
	if _, err := l.client.startCmd(p, threads()); err != nil {
		return nil, err
	}
	go func() {
		<-p.done
		writer.Close()
	}()
	go r.listen(reader)
	return r, nil
}

func (r *remote) listen(from io.Reader) {
	defer close(r.answers)
	for d := json.NewDecoder(from); ; {
		var a answer
		if d.Decode(&a) != nil {
			return
		}
		r.answers <- a
	}
}

// do has an order done and waits for the answer. After the end of ctx the generator is of no use any more.
func (r *remote) do(ctx context.Context, o order) (answer, error) {
	if err := context.Cause(ctx); err != nil {
		return answer{}, err
	}
	if r.late {
		return answer{}, errors.New("the load generator owes an answer")
	}
	if err := r.orders.Encode(o); err != nil {
		return answer{}, fmt.Errorf("load generator: %w", errors.Join(err, r.alive()))
	}
	select {
	case a, ok := <-r.answers:
		if !ok {
			<-r.done
			return a, fmt.Errorf("load generator: %w", r.alive())
		}
		if a.Err != "" {
			return a, errors.New(a.Err)
		}
		return a, nil
	case <-ctx.Done():
		r.late = true // its answer may still come, and would be taken for another's
		return answer{}, context.Cause(ctx)
	}
}
