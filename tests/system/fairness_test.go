package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/tests/chaoslink/wire"
	"sallyport/tests/lab"
)

// TestFairness: who types while files go both ways over the same 20 Mbit/s waits for what queues on the wire, as beside
// plain scp, and not for what we have read ahead, whether the files are the same person's or another's.
func TestFairness(t *testing.T) {
	b, link := throughWire(t, settings{access: strings.Replace(usualAccess, "who: [ann]", "who: [ann, bob]", 1)})
	if err := link.Set(wire.Both, wire.Impairment{Delay: cable.Delay, Rate: 20e6 / 8}); err != nil {
		t.Fatal(err)
	}
	b.withAgent() // one connection over QUIC for all of a person's flows
	bob := *b
	bob.home = filepath.Join(b.Dir, "bob")
	bob.withAgent()
	b.enrol("bob", bob.home)
	source := filepath.Join(b.Dir, "source") // more than can pass
	if err := errors.Join(os.WriteFile(source, nil, 0o600), os.Truncate(source, 1<<30)); err != nil {
		t.Fatal(err)
	}

	beside := *b
	beside.sshd = b.SSHD(b.Appliance, lab.SSHDOptions{})
	direct := beside.way("direct", b.Client, "HostName "+lab.ApplianceAddr4.String())
	want := b.typing(direct, direct)
	for _, transport := range transports {
		how := "ProxyCommand " + b.bin + "/sallyport --transport " + transport + " proxy db-1"
		ann, other := b.way(transport, b.Client, how), b.way(transport+", another person's files", b.Client, how)
		other.home = bob.home
		for _, files := range []way{ann, other} {
			got := b.typing(ann, files)
			// An echo takes about as long as directly; a busy machine adds to both. Files in one queue before it would
			// cost a second and more.
			if got.most() > 3*want.most()+500*time.Millisecond {
				t.Errorf("%s: an echo takes up to %v, directly up to %v", files.name, got.most(), want.most())
			}
		}
	}
}

// echoes are how long characters took to come back.
type echoes []time.Duration

// most is the ninth of ten.
func (e echoes) most() time.Duration { return e[len(e)*9/10] }

// typing types by one way while scp takes files both ways by another.
func (b *bastion) typing(by, files way) (all echoes) {
	b.t.Helper()
	source, far, near := filepath.Join(b.Dir, "source"), filepath.Join(b.Dir, "far"), filepath.Join(b.Dir, "near")
	in, keys, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer keys.Close()
	screen, out, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer screen.Close()
	screen.SetReadDeadline(time.Now().Add(20 * time.Second))
	cmd := b.Client.Command(context.Background(), "ssh", "-F", by.conf, "target", "cat")
	cmd.Env = b.environ(by.home)
	cmd.Stdin, cmd.Stdout = in, out
	ssh := lab.Start(b.t, cmd)
	defer ssh.Stop()
	in.Close()
	out.Close()
	echo := func() time.Duration {
		begin := time.Now()
		key := []byte{'x'}
		if _, err := keys.Write(key); err != nil {
			b.t.Fatalf("%s: %v", by.name, err)
		}
		if _, err := io.ReadFull(screen, key); err != nil {
			b.t.Fatalf("%s: no echo: %v\n%s", by.name, err, ssh.Output())
		}
		return time.Since(begin)
	}
	echo() // ssh is there

	os.Remove(far)
	os.Remove(near)
	for _, copies := range [][]string{{source, "target:" + far}, {"target:" + source, near}} {
		scp := b.live(files.home, "scp", append([]string{"-q", "-F", files.conf}, copies...)...)
		defer scp.Stop()
	}
	moved := func() (size [2]int64) {
		for i, name := range []string{far, near} {
			if s, err := os.Stat(name); err == nil {
				size[i] = s.Size()
			}
		}
		return size
	}
	b.eventually(20*time.Second, "files move", func() error {
		if m := moved(); min(m[0], m[1]) < 512<<10 {
			return fmt.Errorf("moved %v", m)
		}
		return nil
	})
	before, begin := moved(), time.Now()
	for time.Since(begin) < 1500*time.Millisecond || len(all) < 10 {
		all = append(all, echo())
		time.Sleep(20 * time.Millisecond)
	}
	span := time.Since(begin)
	after := moved()
	slices.Sort(all)
	rate := func(i int) float64 { return float64(after[i]-before[i]) * 8 / 1e6 / span.Seconds() }
	b.t.Logf("typing by %s, files by %s: %d echoes, half within %v, nine of ten within %v, the last %v; files %.1f Mbit/s up, %.1f down",
		by.name, files.name, len(all), all[len(all)/2].Round(time.Millisecond), all.most().Round(time.Millisecond),
		all[len(all)-1].Round(time.Millisecond), rate(0), rate(1))
	return all
}
