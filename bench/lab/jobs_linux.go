package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sallyport/bench"
)

// A job is one measurement of one candidate, which may yield several measures.
type job struct {
	measures []string
	without  func(c *candidate) bool // who is left out, because it means nothing there; nil: nobody
	limit    time.Duration           // for one candidate, until it counts as failed; default jobLimit
	run      func(ctx context.Context, r *runner, c *candidate) ([]value, error)
}

type value struct {
	measure bench.Measure
	value   float64
}

// jobs are all measurements. Those of memory come first, while the gateways are fresh.
func (r *runner) jobs() []job {
	var all []job
	for _, n := range r.Idle {
		all = append(all, job{names(bench.Idle(n), bench.IdleOpen(n)), noGateway, jobLimit + time.Duration(n)*50*time.Millisecond, idle(n)})
	}
	all = append(all,
		job{names(bench.OpenCold), noClient, 0, openCold},
		job{names(bench.OpenWarm), nil, 0, openWarm},
		job{names(bench.RTTP50, bench.RTTP99, bench.TypingP99, bench.TypingMore), nil, 0, latency},
		job{names(bench.Typing8), nil, 0, typing8},
		job{names(bench.TypingOther, bench.OtherMore), nil, 0, typingOther},
		job{names(bench.ShareUp, bench.ShareDown), nil, 0, shares},
	)
	for _, flows := range []int{1, 8} {
		for _, up := range []bool{true, false} {
			rate, cpu := bench.BulkMeasures(up, flows)
			all = append(all, job{names(rate, cpu), nil, 0, bulk(rate, cpu, bench.BulkLoad{Up: up, Flows: flows})})
		}
	}
	all = append(all, job{names(bench.Frames, bench.FramesCPU), nil, 0, frames})
	if len(r.Impaired) > 0 { // what the way itself lets through
		all = append(all, job{names(bench.WAN(Path{}.String(), true), bench.WAN(Path{}.String(), false)), notDirect, 0, goodput(Path{})})
	}
	for _, p := range r.Impaired {
		if p == (Path{}) {
			continue
		}
		all = append(all, job{names(bench.WAN(p.String(), true), bench.WAN(p.String(), false)), nil, 0, goodput(p)})
	}
	return all
}

func names(measures ...bench.Measure) []string {
	var all []string
	for _, m := range measures {
		all = append(all, m.Name)
	}
	return all
}

func (r *runner) measureNames() []string {
	var all []string
	for _, j := range r.jobs() {
		all = append(all, j.measures...)
	}
	return all
}

// selected are the jobs of which some measure is wanted.
func (r *runner) selected() []job {
	return slices.DeleteFunc(r.jobs(), func(j job) bool {
		return !slices.ContainsFunc(j.measures, func(name string) bool { return r.wanted(name, r.measureNames()) })
	})
}

func noGateway(c *candidate) bool { return len(c.gateway) == 0 }
func notDirect(c *candidate) bool { return c.Name != bench.Direct }
func noClient(c *candidate) bool  { return len(c.client) == 0 }

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// settle is what the machine gets to finish with one load before the next.
const settle = 50 * time.Millisecond

func bulk(rate, cpu bench.Measure, load bench.BulkLoad) func(context.Context, *runner, *candidate) ([]value, error) {
	return func(ctx context.Context, r *runner, c *candidate) ([]value, error) {
		load.Warmup, load.Length = r.Warmup, r.Length
		a, err := r.g.do(ctx, order{Do: doBulk, Address: c.address, Congestion: c.congestion, Load: load, Gateway: c.roots()})
		if err != nil {
			return nil, err
		}
		values := []value{{rate, a.Bulk.Gbit()}}
		if len(c.roots()) > 0 {
			values = append(values, value{cpu, a.CPU.Seconds() / (float64(a.Bulk.Bytes) / (1 << 30))})
		}
		return values, await(ctx, settle)
	}
}

// frames is a download while the target's NIC sends single frames.
func frames(ctx context.Context, r *runner, c *candidate) ([]value, error) {
	nic := c.peer
	if nic == "" {
		nic = "b0"
	}
	if err := setBigFrames(r.target, nic, false); err != nil {
		return nil, err
	}
	defer setBigFrames(r.target, nic, true)
	return bulk(bench.Frames, bench.FramesCPU, bench.BulkLoad{Flows: 1})(ctx, r, c)
}

// typingPause is between keystrokes: short, so that a second has enough of them for a 99th percentile, and long enough
// not to be a load itself.
const typingPause = 2 * time.Millisecond

func latency(ctx context.Context, r *runner, c *candidate) ([]value, error) {
	o := order{Do: doRTT, Address: c.address, Congestion: c.congestion, Length: r.Brief}
	alone, err := r.g.do(ctx, o)
	if err != nil {
		return nil, err
	}
	beside, err := r.typing(ctx, c, "", bench.BulkLoad{Flows: 1})
	if err != nil {
		return nil, err
	}
	return []value{
		{bench.RTTP50, micro(alone.Spread.P50)}, {bench.RTTP99, micro(alone.Spread.P99)},
		{bench.TypingP99, micro(beside.Spread.P99)}, {bench.TypingMore, micro(beside.Spread.P99 - alone.Spread.P99)},
	}, await(ctx, settle)
}

// typing types by a candidate beside loads, which another person's client may carry.
func (r *runner) typing(ctx context.Context, c *candidate, other string, beside ...bench.BulkLoad) (answer, error) {
	o := order{Do: doTyping, Address: c.address, Congestion: c.congestion, Length: 2 * r.Brief, Pause: typingPause,
		Load: bench.BulkLoad{Warmup: r.Warmup}, Other: other}
	for _, load := range beside {
		load.Warmup, load.Length = r.Warmup, o.Length+200*time.Millisecond
		o.Beside = append(o.Beside, load)
	}
	return r.g.do(ctx, o)
}

// bothWays are eight bulk flows.
var bothWays = []bench.BulkLoad{{Flows: 4, Up: true}, {Flows: 4}}

func typing8(ctx context.Context, r *runner, c *candidate) ([]value, error) {
	beside, err := r.typing(ctx, c, "", bothWays...)
	if err != nil {
		return nil, err
	}
	return []value{{bench.Typing8, micro(beside.Spread.P99)}}, await(ctx, settle)
}

func typingOther(ctx context.Context, r *runner, c *candidate) ([]value, error) {
	others, leave, err := r.others(ctx, c, 1)
	if err != nil {
		return nil, err
	}
	defer leave()
	alone, err := r.g.do(ctx, order{Do: doRTT, Address: c.address, Congestion: c.congestion, Length: r.Brief})
	if err != nil {
		return nil, err
	}
	beside, err := r.typing(ctx, c, others[0], bothWays...)
	if err != nil {
		return nil, err
	}
	return []value{{bench.TypingOther, micro(beside.Spread.P99)}, {bench.OtherMore, micro(beside.Spread.P99 - alone.Spread.P99)}},
		await(ctx, settle)
}

// shares are what one flow gets beside eight of another person.
func shares(ctx context.Context, r *runner, c *candidate) (values []value, err error) {
	others, leave, err := r.others(ctx, c, 1)
	if err != nil {
		return nil, err
	}
	defer leave()
	for _, up := range []bool{true, false} {
		load := bench.BulkLoad{Up: up, Flows: 1, Warmup: r.Warmup, Length: r.Length}
		eight := bench.BulkLoad{Up: up, Flows: 8, Warmup: 2 * r.Warmup, Length: r.Length} // begins earlier
		a, err := r.g.do(ctx, order{Do: doShare, Address: c.address, Other: others[0], Congestion: c.congestion, Load: load,
			Beside: []bench.BulkLoad{eight}})
		if err != nil {
			return nil, err
		}
		measure := bench.ShareDown
		if up {
			measure = bench.ShareUp
		}
		values = append(values, value{measure, 100 * float64(a.Bulk.Bytes) / float64(a.Bulk.Bytes+a.Beside.Bytes)})
	}
	return values, await(ctx, settle)
}

// others starts clients of other people, as many as so many flows take, and returns where they are dialled: where a
// program has no people, its one client.
func (r *runner) others(ctx context.Context, c *candidate, flows int) (ways []string, leave func(), err error) {
	if c.crowd == nil {
		return []string{c.address}, func() {}, nil
	}
	commands, ways, err := c.crowd(ctx, flows)
	if err != nil {
		return nil, nil, err
	}
	clients, err := startAll(ctx, commands)
	if err != nil {
		return nil, nil, err
	}
	leave = func() { stopAll(clients) }
	for _, way := range slices.Concat(ways, []string{c.address}) { // what the first flow of a client costs does not count
		if _, err := r.g.do(ctx, order{Do: doFirst, Address: way, Congestion: c.congestion, Length: readyWithin}); err != nil {
			leave()
			return nil, nil, err
		}
	}
	return ways, leave, nil
}

func openWarm(ctx context.Context, r *runner, c *candidate) ([]value, error) {
	a, err := r.g.do(ctx, order{Do: doOpens, Address: c.address, Congestion: c.congestion, Count: r.Opens})
	return []value{{bench.OpenWarm, micro(a.Spread.P50)}}, err
}

// openCold ends the client's part and starts it again.
func openCold(ctx context.Context, r *runner, c *candidate) ([]value, error) {
	c.stopClient()
	begin := time.Now()
	if err := c.startClient(ctx, r.g); err != nil {
		r.broken[c.Name] = true
		return nil, err
	}
	return []value{{bench.OpenCold, float64(time.Since(begin)) / float64(time.Millisecond)}}, nil
}

// idle measures what flows cost that do nothing, and a new flow beside them.
func idle(n int) func(context.Context, *runner, *candidate) ([]value, error) {
	return func(ctx context.Context, r *runner, c *candidate) ([]value, error) {
		ways, leave, err := r.others(ctx, c, n)
		if err != nil {
			return nil, err
		}
		defer leave()
		before, err := memory(c.roots())
		if err != nil {
			return nil, err
		}
		if _, err := r.g.do(ctx, order{Do: doHold, Addresses: ways, Congestion: c.congestion, Count: n}); err != nil {
			if r.files < 5*n/2 {
				err = fmt.Errorf("%w; a process may have %d files open here: raise the limit (ulimit -Hn) to %d", err, r.files, 5*n/2)
			}
			return nil, fmt.Errorf("open %d flows: %w", n, err)
		}
		if err := await(ctx, r.Rest); err != nil { // what opening took is let go
			return nil, err
		}
		after, err := memory(c.roots())
		if err != nil {
			return nil, err
		}
		opened, err := r.g.do(ctx, order{Do: doOpens, Address: c.address, Congestion: c.congestion, Count: max(10, r.Opens/4)})
		if err != nil {
			return nil, fmt.Errorf("a flow beside %d others: %w", n, err)
		}
		if _, err := r.g.do(ctx, order{Do: doRelease}); err != nil {
			return nil, err
		}
		return []value{{bench.Idle(n), float64(after-before) / 1024 / float64(n)}, {bench.IdleOpen(n), micro(opened.Spread.P50)}},
			await(ctx, 10*settle)
	}
}
