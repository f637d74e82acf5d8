package system

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/frame"
)

// A usage is what the worker has of the machine.
type usage struct {
	rss               int // bytes
	goroutines, files int
}

func (u usage) String() string {
	return fmt.Sprintf("%.1f MiB, %d goroutines, %d files", float64(u.rss)/(1<<20), u.goroutines, u.files)
}

// ofDatabase are files that the database may have beside: each of four readers, which it makes when several ask at once,
// has two.
const ofDatabase = 8

// within says whether u is what it was before, and as much more memory as a garbage collector may keep.
func (u usage) within(before usage) error {
	switch {
	case u.goroutines > before.goroutines:
		return fmt.Errorf("%d goroutines, there were %d", u.goroutines, before.goroutines)
	case u.files > before.files+ofDatabase:
		return fmt.Errorf("%d files, there were %d", u.files, before.files)
	case u.rss > before.rss+32<<20:
		return fmt.Errorf("%d MiB, there were %d", u.rss>>20, before.rss>>20)
	}
	return nil
}

// memory is what the worker uses now: its metrics, and what the kernel says of it.
func (b *bastion) memory() (u usage) {
	b.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(b.Appliance.Run("curl", "-s", "http://127.0.0.1:9090/metrics")))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "go_goroutines":
			u.goroutines = int(n)
		case "process_open_fds":
			u.files = int(n)
		}
	}
	if u.goroutines == 0 || u.files == 0 {
		b.t.Fatal("the metrics do not tell goroutines and files")
	}
	for line := range strings.Lines(readFile(b.t, fmt.Sprintf("/proc/%d/status", b.worker()))) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			fmt.Sscan(kib, &u.rss)
			u.rss <<= 10
		}
	}
	return u
}

// TestFlowsLeaveNothing: 1,000 flows that were opened and closed, over both transports and in every way to end, leave
// the worker's goroutines and files where they were.
func TestFlowsLeaveNothing(t *testing.T) {
	b := start(t, settings{extra: "metrics: {listen: \"127.0.0.1:9090\"}\n"})
	r := b.rawClient("ann")
	b.flowsOf(r, 100)
	b.eventually(20*time.Second, "no flow is left", func() error { return b.noFlows() })
	before := b.memory()
	b.eventually(10*time.Second, "the worker is at rest", func() error { // what has just ended may still be counted
		last := before
		if before = b.memory(); before.goroutines != last.goroutines {
			return fmt.Errorf("there were %v, there are %v", last, before)
		}
		return nil
	})
	begin := time.Now()
	b.flowsOf(r, 1000)
	t.Logf("1000 flows in %v", time.Since(begin).Round(time.Millisecond))
	b.settled(before)
}

// settled waits until the worker has no more of the machine than before.
func (b *bastion) settled(before usage) {
	b.t.Helper()
	var after usage
	b.eventually(30*time.Second, "memory, goroutines and files are where they were", func() error {
		after = b.memory()
		return after.within(before)
	})
	b.t.Logf("before: %v; after: %v", before, after)
}

func (b *bastion) noFlows() error {
	if flows := b.flows(); len(flows) > 0 {
		return fmt.Errorf("there are %d", len(flows))
	}
	return nil
}

// flowsOf opens flows to the SSH server, hears its banner, and ends them: in order, by a reset, by hanging up.
func (b *bastion) flowsOf(r *raw, n int) {
	b.t.Helper()
	open := frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	banner := "SSH-2.0-raw\r\n"
	said := append(frame.Header{Type: frame.TypeData, Length: len(banner)}.Append(nil), banner...)
	one := func(c *rawConn, i int) error {
		defer c.Close()
		if _, err := c.Write(append(open, said...)); err != nil {
			return err
		}
		received := 0
		for {
			h, p, err := frame.ReadFrame(c)
			switch {
			case err == io.EOF && i%3 == 1:
				return nil
			case err != nil:
				return err
			case h.Type == frame.TypeRefused:
				return fmt.Errorf("REFUSED %q", p)
			case h.Type == frame.TypeFin:
				c.Write(frame.Ack{Acked: uint64(received) + 1, Limit: 1 << 20}.Append(nil))
			case h.Type != frame.TypeData:
			case i%3 == 0:
				_, err := c.Write(frame.Append(nil, frame.TypeReset, &frame.Reason{Code: frame.Closed, Sentence: "enough"}))
				return err
			case i%3 == 2:
				return nil
			default:
				if received += len(p); received == len(p) {
					c.Write(append(frame.Header{Type: frame.TypeFin, Length: 8}.Append(nil), 0, 0, 0, 0, 0, 0, 0, byte(len(banner))))
				}
			}
		}
	}
	session := r.with(b.t).over("quic")
	if err := session.hello(frame.Hello{User: "ann"}); err != nil {
		b.t.Fatal(err)
	}
	defer session.session.CloseWithError(0, "")
	var wg sync.WaitGroup
	turns := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range turns {
				var c *rawConn
				if i%2 == 0 {
					c = session.next(b.t)
				} else {
					c = r.with(b.t).flow("https")
				}
				if err := one(c, i/2); err != nil {
					b.t.Errorf("flow %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		turns <- i
	}
	close(turns)
	wg.Wait()
}
