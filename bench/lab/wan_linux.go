package lab

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/bench"
)

// A Path is a way between client and gateway that is not perfect.
type Path struct {
	RTT  time.Duration
	Loss float64 // percent of packets, in each direction
}

// Matrix are the ways of --impaired all: near, far and very far, by good, usual and bad networks.
func Matrix() []Path {
	var all []Path
	for _, rtt := range []time.Duration{20, 50, 150} {
		for _, loss := range []float64{0, 0.1, 1} {
			all = append(all, Path{rtt * time.Millisecond, loss})
		}
	}
	return all
}

// ParsePath reads "50ms/0.1%".
func ParsePath(s string) (Path, error) {
	rtt, loss, ok := strings.Cut(s, "/")
	loss, percent := strings.CutSuffix(loss, "%")
	d, err := time.ParseDuration(rtt)
	share, bad := strconv.ParseFloat(loss, 64)
	if !ok || !percent || err != nil || bad != nil || d < 0 || share < 0 || share > 100 {
		return Path{}, fmt.Errorf("%q is no way: a round trip time and the share of packets lost, such as 50ms/0.1%%", s)
	}
	return Path{d, share}, nil
}

// String is what ParsePath reads, with a dash for what a file's name cannot have.
func (p Path) String() string {
	return fmt.Sprintf("%gms-%v%%", float64(p.RTT)/float64(time.Millisecond), p.Loss)
}

// length is how long bytes count, in seconds of a plain way: losses come so seldom that few of them say nothing.
func (p Path) length() time.Duration {
	if p.Loss > 0 {
		return 8
	}
	return 4
}

// goodput measures one flow each way with the impaired cable in the place of the plain one.
func goodput(p Path) func(context.Context, *runner, *candidate) ([]value, error) {
	return func(ctx context.Context, r *runner, c *candidate) (values []value, err error) {
		link := command{at: r.middle, says: "up leads from", args: []string{r.Chaoslink, "packet", "-first", "left", "-second", "right",
			"-script", fmt.Sprintf("0s delay=%v loss=%v%%", p.RTT/2, p.Loss), "-seed", strconv.Itoa(r.round)}}
		running, err := link.start(ctx)
		if err != nil {
			return nil, err
		}
		if err := r.impairedWay(); err != nil {
			return nil, errors.Join(err, r.plainWay())
		}
		defer func() {
			err = errors.Join(err, r.plainWay())
			running.stop(time.Second)
		}()
		for _, up := range []bool{true, false} {
			// A connection remembers the best round trip time that it has seen, and what it has learnt of another way or
			// direction would be measured with this one.
			c.stopClient()
			if err := c.startClient(ctx, r.g); err != nil {
				return nil, err
			}
			load := bench.BulkLoad{Up: up, Flows: 1, Warmup: 2*time.Second + 20*p.RTT, Length: p.length() * r.Length} // past slow start
			a, err := r.g.do(ctx, order{Do: doBulk, Address: c.address, Congestion: c.congestion, Load: load})
			if err != nil {
				return nil, err
			}
			values = append(values, value{bench.WAN(p.String(), up), a.Bulk.Gbit() * 1000})
		}
		return values, nil
	}
}
