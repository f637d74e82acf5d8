package system

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/tests/chaoslink/chaos"
	"sallyport/tests/lab"
)

// shell is an interactive session that echoes lines, which a test asks now and then whether it lives.
type shell struct {
	*liveRun
	b     *bastion
	lines int
}

func (b *bastion) shell(home, transport string) *shell {
	b.t.Helper()
	return &shell{b.live(home, "ssh", append(b.sshOptions(transport), "root@db-1", "cat")...), b, 0}
}

// echoes sends a line and waits for it.
func (s *shell) echoes(limit time.Duration) {
	s.b.t.Helper()
	s.lines++
	line := fmt.Sprintf("line %d\n", s.lines)
	io.WriteString(s.stdin, line)
	s.b.eventually(limit, "the shell answers", func() error {
		if got := s.stdout.String(); !strings.HasSuffix(got, line) {
			return fmt.Errorf("stdout %q, stderr %q", got, s.stderr.String())
		}
		return nil
	})
}

// ends says that there is no more, and that it ends well; stderr must match.
func (s *shell) over(says mistake) {
	s.b.t.Helper()
	s.stdin.Close()
	s.ends(20*time.Second, says)
}

// toldQuietly is what stands on stderr when connections were lost for long, and came back each time.
var toldQuietly = regexp.MustCompile(`^(sallyport: connection lost, resuming…\nsallyport: connected again after \d+s\n)*$`)

var inOrder = mistake{"a shell", nil, 0, nothing}

// TestResume: a connection that breaks is no event for ssh: the same flow goes on over another connection. Nobody is told
// before it has taken three seconds, and then once, and once that it is over.
func TestResume(t *testing.T) {
	b := start(t, settings{})
	link, home := b.throughChaos()
	for _, transport := range append(transports, "auto") {
		t.Run(transport, func(t *testing.T) {
			b := b.on(t)
			s := b.shell(home, transport)
			s.echoes(10 * time.Second)
			for range 3 {
				link.Do(chaos.Fault{Kind: chaos.Cut})
				time.Sleep(700 * time.Millisecond)
				link.Do(chaos.Fault{Kind: chaos.Pass})
				begin := time.Now()
				s.echoes(10 * time.Second)
				t.Logf("%s: answers %v after the network is back", transport, time.Since(begin).Round(time.Millisecond))
			}
			s.over(inOrder)
		})
	}
	t.Run("told", func(t *testing.T) {
		b := b.on(t)
		s := b.shell(home, "https")
		s.echoes(10 * time.Second)
		link.Do(chaos.Fault{Kind: chaos.Cut})
		time.Sleep(6 * time.Second)
		link.Do(chaos.Fault{Kind: chaos.Pass})
		s.echoes(10 * time.Second)
		s.over(mistake{"told", nil, 0, regexp.MustCompile("^sallyport: connection lost, resuming…\nsallyport: connected again after [67]s\n$")})
	})
	flows := strings.Count(b.daemon.Output(), `msg="flow opened"`)
	if resumed := strings.Count(b.daemon.Output(), `msg="flow resumed"`); resumed < 4 || flows != 4 {
		t.Errorf("%d flows, resumed %d times", flows, resumed)
	}
}

// TestBulkThroughCuts: files go both ways while their connections are cut again and again, with a shell beside them that
// does not notice.
func TestBulkThroughCuts(t *testing.T) {
	b := start(t, settings{})
	link, home := b.throughChaos()
	size, cuts := int64(64<<20), 20
	if soaking() {
		size, cuts = 4<<30, 50
	}
	local, far := filepath.Join(b.Dir, "bulk"), filepath.Join(b.Dir, "far")
	want := randomFile(t, local, size)
	s := b.shell(home, "auto")
	s.echoes(10 * time.Second)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var calm sync.Mutex
	stop, cut := make(chan struct{}), 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(200+r.IntN(600)) * time.Millisecond):
			}
			outage := time.Duration(100+r.IntN(300)) * time.Millisecond
			if cut++; cut%8 == 0 {
				outage = 3 * time.Second // QUIC does not notice shorter ones
			}
			calm.Lock() // nobody is signing in
			link.Do(chaos.Fault{Kind: chaos.Cut})
			time.Sleep(outage)
			link.Do(chaos.Fault{Kind: chaos.Pass})
			calm.Unlock()
		}
	}()
	copied := func(args ...string) {
		calm.Lock()
		opened := func() int { return strings.Count(b.daemon.Output(), `msg="flow opened"`) }
		before := opened()
		scp := b.live(home, "scp", args...)
		b.eventually(10*time.Second, "scp begins", func() error {
			if opened() == before {
				return fmt.Errorf("stderr %q", scp.stderr.String())
			}
			return nil
		})
		time.Sleep(200 * time.Millisecond) // a flow of which the client has not heard yet is not kept
		calm.Unlock()
		scp.ends(time.Minute+time.Duration(size>>20)*time.Second, mistake{"scp", nil, 0, toldQuietly})
	}
	begin := time.Now()
	for i := 0; i < 3 || cut < cuts; i++ {
		transport := []string{"quic", "https", "auto"}[i%3]
		for _, way := range [][]string{{local, "root@db-1:" + far}, {"root@db-1:" + far, local + ".back"}} {
			os.Remove(way[1])
			copied(append(append(b.sshOptions(transport), "-q"), way...)...)
		}
		for _, file := range []string{far, local + ".back"} {
			if fileSum(t, file) != want {
				t.Errorf("%s over %s is not what was sent", file, transport)
			}
		}
		t.Logf("there and back over %s, %v after the beginning", transport, time.Since(begin).Round(time.Second))
		s.echoes(10 * time.Second)
	}
	close(stop)
	<-done
	link.Do(chaos.Fault{Kind: chaos.Pass})
	s.echoes(10 * time.Second)
	s.over(mistake{"a shell", nil, 0, toldQuietly})
	out := b.daemon.Output()
	resumed := strings.Count(out, `msg="flow resumed"`)
	if t.Logf("%d cuts in %v, flows resumed %d times", cut, time.Since(begin).Round(time.Second), resumed); resumed < 5 {
		t.Errorf("flows resumed %d times", resumed)
	}
	if strings.Contains(out, "two places") || strings.Contains(out, "resume refused") {
		t.Errorf("alarms, or refusals:\n%s", out)
	}
}

// TestHalfOpen: where packets vanish, both ends find out, whether the person types or not; the person is told once. When the
// network is back all flows go on.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	var shells []*shell
	for _, transport := range append(transports, transports...) {
		s := b.shell(b.home, transport)
		s.echoes(10 * time.Second)
		shells = append(shells, s)
	}
	b.Block("udp", 443)
	b.Block("tcp", 443)
	begin := time.Now()
	for _, s := range shells[:2] {
		io.WriteString(s.stdin, "typed into the void\n")
	}
	for _, s := range shells {
		b.eventually(20*time.Second, "the person is told", func() error {
			if got := s.stderr.String(); got != "sallyport: connection lost, resuming…\n" {
				return fmt.Errorf("stderr %q", got)
			}
			return nil
		})
		t.Logf("told after %v", time.Since(begin).Round(100*time.Millisecond))
	}
	b.eventually(50*time.Second-time.Since(begin), "the appliance has noticed", func() error {
		if n := strings.Count(b.daemon.Output(), `msg="flow detached"`); n < 4 {
			return fmt.Errorf("%d of 4 flows are detached", n)
		}
		return nil
	})
	t.Logf("the appliance noticed after %v", time.Since(begin).Round(time.Second))
	b.Unblock("udp", 443)
	b.Unblock("tcp", 443)
	back := time.Now()
	for _, s := range shells {
		s.echoes(5 * time.Second)
	}
	t.Logf("all four answer %v after the network is back", time.Since(back).Round(10*time.Millisecond))
	for _, s := range shells {
		s.over(mistake{"half-open", nil, 0, toldQuietly})
	}
}

// TestUDPDies: flows leave QUIC when UDP dies, soon if somebody types and a little later if nobody does, and come back to
// it when UDP works again, with no pause that a person would notice.
func TestUDPDies(t *testing.T) {
	t.Run("alone", func(t *testing.T) { start(t, settings{}).udpDies() })
	t.Run("by the agent", func(t *testing.T) {
		b := start(t, settings{})
		b.withAgent()
		b.udpDies()
	})
}

func (b *bastion) udpDies() {
	t := b.t
	t.Helper()
	typing, idle, stays := b.shell(b.home, "auto"), b.shell(b.home, "auto"), b.shell(b.home, "https")
	typing.echoes(10 * time.Second)
	stays.echoes(10 * time.Second)
	idle.echoes(10 * time.Second)
	b.Block("udp", 443)
	begin := time.Now()
	typing.echoes(5 * time.Second)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("who types waited %v", took)
	} else {
		t.Logf("who types waited %v", took.Round(10*time.Millisecond))
	}
	b.eventually(15*time.Second-time.Since(begin), "both are on HTTPS", func() error {
		if n := b.moves("https"); n < 2 {
			return fmt.Errorf("%d of 2", n)
		}
		return nil
	})
	t.Logf("both on HTTPS after %v", time.Since(begin).Round(100*time.Millisecond))

	b.Unblock("udp", 443)
	begin = time.Now()
	var worst, usual time.Duration // of the flow that moves, and of one that stays
	for b.moves("quic") < 2 && time.Since(begin) < time.Minute {
		for s, longest := range map[*shell]*time.Duration{typing: &worst, stays: &usual} {
			asked := time.Now()
			s.echoes(5 * time.Second)
			*longest = max(*longest, time.Since(asked))
		}
	}
	if n := b.moves("quic"); n < 2 || worst > 200*time.Millisecond+usual {
		t.Errorf("after %v %d of 2 are on QUIC again, and the longest echo took %v; %v where nothing moved", time.Since(begin), n, worst, usual)
	}
	t.Logf("both on QUIC after %v, the longest echo took %v; %v where nothing moved", time.Since(begin).Round(100*time.Millisecond),
		worst.Round(time.Millisecond), usual.Round(time.Millisecond))
	idle.echoes(time.Second)
	typing.over(inOrder)
	idle.over(inOrder)
	stays.over(inOrder)
}

// moves is how many flows have resumed over a transport.
func (b *bastion) moves(to string) (n int) {
	for line := range strings.Lines(b.daemon.Output()) {
		if strings.Contains(line, `msg="flow resumed"`) && strings.Contains(line, " transport="+to+" ") {
			n++
		}
	}
	return n
}

// TestAsleep: a client that was stopped, as by the lid of a laptop, goes on within a second and a half of waking, from
// another address than before.
func TestAsleep(t *testing.T) {
	t.Parallel()
	asleep := 30 * time.Second
	if soaking() {
		asleep = 10 * time.Minute
	}
	b := start(t, settings{})
	var shells []*shell
	for _, transport := range transports {
		s := b.shell(b.home, transport)
		s.echoes(10 * time.Second)
		shells = append(shells, s)
	}
	var stopped []int
	for _, s := range shells {
		for _, pid := range children(t, s.liveRun.Process.Process.Pid) {
			stopped = append(stopped, pid)
			syscall.Kill(pid, syscall.SIGSTOP)
		}
	}
	if len(stopped) != 2 {
		t.Fatalf("%d clients were stopped", len(stopped))
	}
	time.Sleep(asleep)
	for _, change := range []string{"address del 10.77.1.2/24 dev eth0", "address add 10.77.1.3/24 dev eth0", "route add default via 10.77.1.1"} {
		if out, err := b.Client.Command(t.Context(), "ip", strings.Fields(change)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v, %s", change, err, out)
		}
	}
	for _, pid := range stopped {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	awake := time.Now()
	for i, s := range shells {
		s.echoes(5 * time.Second)
		took := time.Since(awake)
		if t.Logf("%s answers %v after waking", transports[i], took.Round(time.Millisecond)); took > 1500*time.Millisecond {
			t.Errorf("%s took %v", transports[i], took)
		}
	}
	if !strings.Contains(b.daemon.Output(), "source=10.77.1.3 ") {
		t.Error("nobody came from the new address")
	}
	for _, s := range shells {
		s.over(inOrder)
	}
}

// TestDesktopThroughCuts: a desktop stays on the screen while its connections are cut: the server sees one client all the
// way.
func TestDesktopThroughCuts(t *testing.T) {
	b := start(t, settings{})
	x := b.XRDP(b.VNet.Namespace, lab.XRDPOptions{})
	link, home := b.throughChaos()
	b.home = home
	screen := b.Xvfb(b.Client, "1024x768")
	rdp := b.desktop(screen, x.Password, "--transport", "https", "rdp", "db-1", "--user", x.User, "--", "/d:", "/from-stdin:force", "/cert:ignore",
		"/size:1000x700", "-decorations", "-grab-keyboard", "-dynamic-resolution")
	defer rdp.Stop()
	screen.WaitText("XRDP DESKTOP", 60*time.Second)
	cuts := 10
	if soaking() {
		cuts = 50
	}
	for i := range cuts {
		link.Do(chaos.Fault{Kind: chaos.Cut})
		time.Sleep(100 * time.Millisecond)
		link.Do(chaos.Fault{Kind: chaos.Pass})
		time.Sleep(200 * time.Millisecond)
		screen.Type(fmt.Sprintf("cut %d\n", 1000+i))
	}
	screen.WaitText(fmt.Sprintf("cut %d", 1000+cuts-1), 20*time.Second)
	out := b.daemon.Output()
	if opened, resumed := strings.Count(out, `msg="flow opened"`), strings.Count(out, `msg="flow resumed"`); opened != 1 || resumed < cuts {
		t.Errorf("%d connections to the server, resumed %d times", opened, resumed)
	}
}
