package system

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/client"
)

// withAgent lets commands start an agent of this bastion's Home; it is gone when the test ends.
func (b *bastion) withAgent() {
	b.t.Helper()
	b.env = append(b.env, "SALLYPORT_NO_AGENT=", "XDG_RUNTIME_DIR=")
	b.t.Cleanup(func() {
		stop := exec.Command(b.bin+"/sallyport", "agent", "stop", "--now")
		stop.Env = b.environ(b.home)
		if out, err := stop.CombinedOutput(); err != nil {
			b.t.Errorf("agent stop: %v\n%s", err, out)
		}
	})
}

// agent is what the agent says of itself; nil if there is none.
func (b *bastion) agent() (s *client.AgentStatus) {
	b.t.Helper()
	r := b.client("agent", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		b.t.Fatalf("agent status: %v: %v", err, r)
	}
	return s
}

// TestAgent: ssh and scp say the same with and without the agent, and the agent makes one session for all commands.
func TestAgent(t *testing.T) {
	t.Parallel()
	b := start(t, settings{extra: "metrics: {listen: \"127.0.0.1:9090\"}\n"})
	const size = 64 << 20
	source := filepath.Join(b.Dir, "source")
	sum := randomFile(t, source, size)
	b.withAgent()
	for _, with := range []bool{true, false} {
		for _, transport := range transports {
			t.Run(fmt.Sprintf("%s/agent %v", transport, with), func(t *testing.T) {
				b := b.on(t)
				if !with {
					b.env = slices.Concat(b.env, []string{"SALLYPORT_NO_AGENT=1"})
				}
				for _, c := range []struct{ stdin, command string }{
					{"b\na\n", "sort; echo err >&2; exit 7"},
					{strings.Repeat("x", 1<<20), "cat > /dev/null; echo after the end"},
				} {
					direct := b.direct(c.stdin, c.command)
					if got := b.inClient(b.home, c.stdin, "ssh", append(b.sshOptions(transport), "root@db-1", c.command)...); got != direct {
						t.Errorf("%s: %.300v\ndirect: %.300v", c.command, got, direct)
					}
				}
				remote, back := filepath.Join(b.Dir, "remote"), filepath.Join(b.Dir, "back")
				for _, way := range []struct{ from, to, file string }{{source, "root@db-1:" + remote, remote}, {"root@db-1:" + remote, back, back}} {
					begin := time.Now()
					r := b.inClient(b.home, "", "scp", append(b.sshOptions(transport), "-q", way.from, way.to)...)
					if r.exit != 0 || r.stderr != "" || fileSum(t, way.file) != sum {
						t.Errorf("scp to %s: %v", way.to, r)
					}
					t.Logf("scp to %s: %.2f Gbit/s", way.to, size*8/time.Since(begin).Seconds()/1e9)
				}
			})
		}
	}
	b.eventually(5*time.Second, "two sessions without flows", func() error {
		if s := b.agent(); s == nil || len(s.Sessions) != 2 || s.Flows != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})

	// Several commands at once are flows of one session, made by one sign-in.
	b.client("agent", "stop", "--now")
	signIns := b.signIns()
	var commands []*exec.Cmd
	for range 8 {
		cmd := b.Client.Command(t.Context(), "ssh", append(b.sshOptions("auto"), "root@db-1", "sleep 60")...)
		cmd.Env = b.environ(b.home)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, cmd)
	}
	b.eventually(20*time.Second, "eight flows on one session", func() error {
		if s := b.agent(); s == nil || len(s.Sessions) != 1 || s.Flows != 8 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	var open struct{ Sessions []struct{} }
	if r := b.client("status", "--json"); json.Unmarshal([]byte(r.stdout), &open) != nil || len(open.Sessions) != 8 {
		t.Errorf("status: %v", r)
	}
	if n := b.signIns() - signIns; n != 1 {
		t.Errorf("%d sign-ins", n)
	}

	// A command that is killed ends its flow, at the appliance too.
	for _, cmd := range commands {
		cmd.Process.Kill()
		cmd.Wait()
	}
	b.eventually(5*time.Second, "no flows", func() error {
		var open struct{ Sessions []struct{} }
		if r := b.client("status", "--json"); json.Unmarshal([]byte(r.stdout), &open) != nil || len(open.Sessions) != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// TestAgentKilled: commands under way start another agent, and go on by it.
func TestAgentKilled(t *testing.T) {
	b := start(t, settings{})
	b.withAgent()
	r := b.live(b.home, b.bin+"/sallyport", "proxy", "db-1")
	b.eventually(10*time.Second, "sshd says who it is", func() error {
		if !strings.Contains(r.stdout.String(), "SSH-2.0-") {
			return fmt.Errorf("%q", r.stdout.String())
		}
		return nil
	})
	before := b.agent()
	syscall.Kill(before.PID, syscall.SIGKILL)
	b.logged(`msg="flow resumed"`)
	r.lives()
	if s := r.stderr.String(); s != "" {
		t.Errorf("the command says %q", s)
	}
	if r := b.client("ls"); r.exit != 0 || r.stderr != "" {
		t.Errorf("the next command: %v", r)
	}
	if after := b.agent(); after == nil || after.PID == before.PID {
		t.Errorf("the next agent: %+v", after)
	}
}

// TestMemoryOfRaces: where UDP is dropped the first command finds that out, and the next ones do not wait again, with
// and without an agent.
func TestMemoryOfRaces(t *testing.T) {
	b := start(t, settings{})
	took := func(args ...string) time.Duration { // usually
		t.Helper()
		var times []time.Duration
		for range 5 {
			begin := time.Now()
			if r := b.client(append(args, "ls")...); r.exit != 0 {
				t.Fatal(r)
			}
			times = append(times, time.Since(begin))
		}
		slices.Sort(times)
		return times[2]
	}
	plain := took("--no-agent")
	b.Block("udp", 443)
	os.Remove(filepath.Join(b.home, "paths.json"))
	begin := time.Now()
	if r := b.client("--no-agent", "ls"); r.exit != 0 {
		t.Fatal(r)
	}
	first := time.Since(begin)
	next := took("--no-agent")
	t.Logf("plain %v, the first without UDP %v, the next %v", plain, first, next)
	if first > plain+400*time.Millisecond || next > plain+100*time.Millisecond {
		t.Errorf("without UDP: first %v, then %v, plain %v", first, next, plain)
	}
	if r := b.client("doctor"); r.exit != 0 || !strings.Contains(r.stdout, "NOTE   udp") || !strings.Contains(r.stdout, "https was faster from ") {
		t.Errorf("the doctor: %v", r)
	}
	if r := b.client("--no-agent", "--transport", "quic", "doctor"); r.exit != 14 {
		t.Errorf("the doctor, with QUIC pinned: %v", r)
	}

	b.withAgent()
	agents := took()
	t.Logf("by the agent %v", agents)
	if agents > plain+100*time.Millisecond {
		t.Errorf("by the agent, without UDP: %v, plain %v", agents, plain)
	}
}

// signIns is how many HELLOs the appliance has granted.
func (b *bastion) signIns() (n int) {
	b.t.Helper()
	return b.counted(`sallyport_sign_ins_total{result="ok"`)
}

// counted is the sum of the metrics whose name and labels begin so.
func (b *bastion) counted(begins string) (n int) {
	b.t.Helper()
	for line := range strings.Lines(b.metrics()) {
		var one int
		if space := strings.LastIndexByte(line, ' '); strings.HasPrefix(line, begins) {
			fmt.Sscan(line[space:], &one)
			n += one
		}
	}
	return n
}
