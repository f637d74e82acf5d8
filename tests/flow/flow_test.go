package flow_test

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/tests/chaoslink/chaos"
)

// What is exchanged while the link breaks: so many bytes both ways, in pieces with pauses, and so many cuts meanwhile.
const (
	size   = 8 << 20
	piece  = 64 << 10
	pause  = 60 // milliseconds
	broken = 20
)

// outcome is what a script says in the end.
type outcome struct {
	Received, Wrong, Attached int
	End                       string
}

func (o outcome) check(t *testing.T, size int) {
	t.Helper()
	if o.Received != size || o.Wrong >= 0 || o.End != "" {
		t.Errorf("%d of %d bytes came back, the first wrong one at %d, the end is %q", o.Received, size, o.Wrong, o.End)
	}
	if o.Attached < broken/2 {
		t.Errorf("the flow had %d connections: the link was not cut", o.Attached)
	}
	t.Logf("%d connections", o.Attached)
}

// breakLink cuts the link time and again, each time for a moment.
func (s *site) breakLink(wg *sync.WaitGroup) {
	seed := rand.Uint64()
	s.t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	between := func(least, most int) time.Duration { return time.Duration(least+r.IntN(most-least)) * time.Millisecond }
	wg.Go(func() {
		for range broken {
			time.Sleep(between(100, 500))
			s.link.Do(chaos.Fault{Kind: chaos.Cut})
			time.Sleep(between(0, 150))
			s.link.Do(chaos.Fault{Kind: chaos.Pass})
		}
	})
}

// inNode has Node exchange bytes with a target while something happens to the link, and returns what came of it.
func (s *site) inNode(size, piece, pause int, meanwhile func(*sync.WaitGroup)) (o outcome) {
	t := s.t
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "--experimental-websocket", script(t, "node.ts"), s.origin, strconv.Itoa(s.echo),
		strconv.Itoa(size), strconv.Itoa(piece), strconv.Itoa(pause))
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+s.ca, "NODE_NO_WARNINGS=1")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	said.Scan() // the flow is open
	var wg sync.WaitGroup
	meanwhile(&wg)
	said.Scan()
	if err := json.Unmarshal(said.Bytes(), &o); err != nil {
		t.Errorf("%v in %q", err, said.Bytes())
	}
	wg.Wait()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestNode: the portal's own client in Node loses no byte, doubles none and moves none, however often its connection breaks.
func TestNode(t *testing.T) {
	s := newSite(t)
	o := s.inNode(size, piece, pause, s.breakLink)
	o.check(t, size)
	if n := s.book.count(audit.FlowAttach) + s.book.count(audit.FlowMove); n < o.Attached-1 {
		t.Errorf("the audit log has %d resumptions of %d", n, o.Attached-1)
	}
}

// TestCutWithinResume: connections break after a few thousand bytes, so within handshakes, RESUMEs, and the answers to them.
// Either end may then know of an epoch that the other does not.
func TestCutWithinResume(t *testing.T) {
	s := newSite(t)
	o := s.inNode(1<<20, 4<<10, 40, func(wg *sync.WaitGroup) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		wg.Go(func() {
			for range 150 {
				s.link.Do(chaos.Fault{Kind: chaos.Cut, After: 1000 + r.IntN(6000)})
				time.Sleep(50 * time.Millisecond)
			}
			s.link.Do(chaos.Fault{Kind: chaos.Pass})
		})
	})
	o.check(t, 1<<20)
}
