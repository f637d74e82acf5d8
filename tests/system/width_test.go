package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// A way is how OpenSSH's programs get to the host that their configuration calls "target".
type way struct {
	name string
	from *lab.Namespace
	home string
	conf string // for -F
	ports
}

// ports that only one way uses: what the way before it has left open does not matter.
type ports struct{ local, remote int }

// ways are the direct one, from inside the VNet, and one for each transport and each version of IP to the target.
func (b *bastion) ways() (direct way, through []way) {
	b.t.Helper()
	direct = b.way("direct", b.VNet.Namespace, "HostName 10.99.0.10")
	for _, transport := range transports {
		for _, target := range []string{"db-1", "db-6"} {
			through = append(through, b.way(transport+"/"+target, b.Client,
				fmt.Sprintf("ProxyCommand %s/sallyport --transport %s proxy %s", b.bin, transport, target)))
		}
	}
	return direct, through
}

// fewWays has each transport and each version of IP once.
func (b *bastion) fewWays() (direct way, through []way) {
	direct, all := b.ways()
	return direct, []way{all[0], all[len(all)-1]}
}

var waysMade atomic.Int64

func (b *bastion) way(name string, from *lab.Namespace, how string) way {
	b.t.Helper()
	n := int(waysMade.Add(1))
	conf := filepath.Join(b.Dir, fmt.Sprintf("ssh_config-%d", n))
	text := fmt.Sprintf("Host target\n%s\nUser root\nIdentityFile %s\nIdentitiesOnly yes\nHostKeyAlias target\nUserKnownHostsFile %s\n"+
		"StrictHostKeyChecking yes\nBatchMode yes\nCheckHostIP no\nLogLevel ERROR\n", how, b.sshd.KeyFile, b.sshd.KnownHosts(b.Lab, "target"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return way{name, from, b.home, conf, ports{18100 + 2*n, 18101 + 2*n}}
}

// script runs a shell script where the way begins, in the folder work, with what it needs to know in its environment.
func (b *bastion) script(w way, work, script string) run {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	cmd := w.from.Command(ctx, "bash", "-c", script)
	cmd.Dir = work
	cmd.Env = append(b.environ(w.home), "C="+w.conf,
		fmt.Sprintf("LPORT=%d", w.local), fmt.Sprintf("RPORT=%d", w.remote))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second // what the script has left behind may hold them open
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil || errors.Is(err, exec.ErrWaitDelay) {
		b.t.Fatalf("%s: %q hangs: %v\nstdout: %s\nstderr: %s", w.name, script, err, stdout.String(), stderr.String())
	}
	return run{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// TestSSHWidth: what people do with OpenSSH beyond a command is the same through Sallyport as from inside the VNet:
// stdout, stderr and exit code; without the agent and with it.
func TestSSHWidth(t *testing.T) {
	t.Parallel()
	width(t, start(t, settings{}), (*bastion).ways)
}

func TestSSHWidthByAgent(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	b.withAgent()
	width(t, b, (*bastion).ways)
}

func width(t *testing.T, b *bastion, ways func(*bastion) (way, []way)) {
	for _, address := range []string{"127.0.0.1:18081", "10.99.0.10:18081"} {
		b.page(b.VNet.Namespace, address, "a page of the VNet\n")
	}
	b.page(b.VNet.Namespace, "[fd99::10]:18081", "a page of the VNet, by IPv6\n")
	b.page(b.VNet.Namespace, "127.0.0.1:18082", "a page of the person's\n") // who is in the VNet when the way is direct
	b.page(b.Client, "127.0.0.1:18082", "a page of the person's\n")

	const master = `ssh -F $C -M -S sock -f -N -o ExitOnForwardFailure=yes `
	cases := []struct{ name, script string }{
		{"sftp", `printf '%s\n' 'put local/big remote/up' 'get remote/up local/back' 'ls -1 remote' 'get remote/missing' | sed "s|remote|$PWD/remote|" |
			sftp -F $C -q -b - target; echo "exit $?"
			sha256sum < local/big; sha256sum < remote/up; sha256sum < local/back`},
		{"rsync", `rsync -ai --stats -e "ssh -F $C" local/ target:$PWD/remote/ | grep -E '^[<>c]|Literal|Matched'
			printf changed | dd of=local/big bs=1 seek=1000000 conv=notrunc status=none; rm local/tree/b; touch -d 2020-01-01 local/tree/a local/tree local/big
			rsync -ai --stats --delete -e "ssh -F $C" local/ target:$PWD/remote/ | grep -E '^[<>c*.]|Literal|Matched'
			rsync -ai -e "ssh -F $C" target:$PWD/remote/ back/; diff -r local back && echo same
			rsync -e "ssh -F $C" target:$PWD/nothing . 2>/dev/null; echo "exit $?"`},
		{"forward", master + `-L 127.0.0.1:$LPORT:127.0.0.1:18081 target && for i in 1 2 3; do curl -sS http://127.0.0.1:$LPORT/; done
			ssh -F $C -S sock -O exit target`},
		{"reverse", master + `-R 127.0.0.1:$RPORT:127.0.0.1:18082 target && ssh -F $C -S sock target curl -sS http://127.0.0.1:$RPORT/
			ssh -F $C -S sock -O exit target`},
		{"socks", master + `-D 127.0.0.1:$LPORT target && curl -sS --socks5-hostname 127.0.0.1:$LPORT http://10.99.0.10:18081/ 'http://[fd99::10]:18081/'
			curl -s --socks5-hostname 127.0.0.1:$LPORT http://10.99.0.10:18099/; echo "curl $?"
			ssh -F $C -S sock -O exit target`},
		{"cat", `cat local/big | ssh -F $C target "cat > $PWD/remote/f; echo written; echo oops >&2; exit 3"; echo "exit $?"; cmp local/big remote/f && echo same`},
		{"no such user", `ssh -F $C nobody-here@target true 2>&1 | sed 's/@[^:]*:/@HOST:/'; echo "exit ${PIPESTATUS[0]}"`},
	}
	direct, through := ways(b)
	for _, c := range cases {
		want := b.script(direct, b.workshop(), c.script)
		if want.exit != 0 && c.name != "rsync" {
			t.Errorf("%s, direct: %v", c.name, want)
		}
		t.Logf("%s, direct: %v", c.name, want)
		for _, w := range through {
			t.Run(c.name+"/"+w.name, func(t *testing.T) {
				if got := b.on(t).script(w, b.workshop(), c.script); got != want {
					t.Errorf("through Sallyport: %v\ndirect: %v", got, want)
				}
			})
		}
	}
	for _, w := range through {
		t.Run("master/"+w.name, func(t *testing.T) { b.on(t).oneFlow(w, direct) })
	}
}

// oneFlow: the sessions of one master connection are one flow.
func (b *bastion) oneFlow(w, direct way) {
	const sessions = `for i in 1 2 3 4; do ssh -F $C -S sock target "echo session $i; echo error $i >&2; cat > remote/$i; exit $i" < local/big; echo "exit $?"; done`
	want := b.script(direct, b.workshop(), `ssh -F $C -M -S sock -f -N target; `+strings.ReplaceAll(sessions, "remote", b.Dir+"/work/remote")+`; ssh -F $C -S sock -O exit target 2>/dev/null`)
	work := b.workshop()
	if r := b.script(w, work, `ssh -F $C -M -S sock -f -N target >log 2>&1 || cat log`); r != (run{}) {
		b.t.Fatalf("the master: %v", r)
	}
	got := b.script(w, work, strings.ReplaceAll(sessions, "remote", b.Dir+"/work/remote")+`; true`)
	if got != want {
		b.t.Errorf("through Sallyport: %v\ndirect: %v", got, want)
	}
	if flows := b.flows(); len(flows) != 1 || flows[0].Protocol != "ssh" {
		b.t.Errorf("the appliance shows these flows: %+v", flows)
	}
	b.script(w, work, `ssh -F $C -S sock -O exit target`)
	b.eventually(5*time.Second, "the flow ends with its master", func() error {
		if flows := b.flows(); len(flows) > 0 {
			return fmt.Errorf("there is %+v", flows)
		}
		return nil
	})
}

// A liveFlow is what the appliance says of one.
type liveFlow struct {
	ID        string `json:"flow"`
	Target    string `json:"target"`
	Protocol  string `json:"protocol"`
	Transport string `json:"transport"`
	Attached  int    `json:"attached"`
	Down      uint64 `json:"down"`
}

// flows are those that the appliance shows the person.
func (b *bastion) flows() []liveFlow {
	b.t.Helper()
	r := b.client("status", "--json")
	var s struct{ Sessions []liveFlow }
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || r.exit != 0 {
		b.t.Fatalf("status: %v: %v", err, r)
	}
	return s.Sessions
}

// workshop makes the folder afresh that scripts run in: a tree of files here, and nothing there.
func (b *bastion) workshop() string {
	b.t.Helper()
	work := filepath.Join(b.Dir, "work")
	if err := os.RemoveAll(work); err != nil {
		b.t.Fatal(err)
	}
	for _, dir := range []string{"local/tree/deep", "remote"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	randomFile(b.t, filepath.Join(work, "local/big"), 3<<20)
	then := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, file := range []string{"a", "b", "deep/c d"} {
		path := filepath.Join(work, "local/tree", file)
		if err := os.WriteFile(path, []byte("this is "+file+"\n"), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, path := range []string{"local/big", "local/tree/a", "local/tree/b", "local/tree/deep/c d", "local/tree/deep", "local/tree", "local"} {
		if err := os.Chtimes(filepath.Join(work, path), then, then); err != nil {
			b.t.Fatal(err)
		}
	}
	return work
}

// page serves a page over HTTP.
func (b *bastion) page(n *lab.Namespace, address, text string) {
	b.t.Helper()
	l, err := n.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	b.t.Cleanup(func() {
		server.Close()
		<-served
	})
}

// TestApplianceByIPv6: a person whose network has only IPv6 to the appliance signs in and works like any other.
func TestApplianceByIPv6(t *testing.T) {
	b := start(t, settings{})
	home := filepath.Join(b.Dir, "home6")
	code := b.code("ann")
	if r := b.as(home, code+"\n", "login", "https://["+lab.ApplianceAddr6.String()+"]", "--fingerprint", b.pinned, "--code-file", "-"); r.exit != 0 {
		t.Fatalf("login: %v", r)
	}
	for _, transport := range transports {
		r := b.as(home, "", "--transport", transport, "status", "--json")
		var s struct {
			Me struct{ Source, Transport string }
		}
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || s.Me.Source != lab.ClientAddr6.String() && !strings.HasPrefix(s.Me.Source, "["+lab.ClientAddr6.String()+"]") {
			t.Errorf("status over %s: %v", transport, r)
		}
		for _, target := range []string{"db-1", "db-6"} {
			got := b.inClient(home, "in\n", "ssh", append(b.sshOptions(transport), "root@"+target, "cat; echo err >&2; exit 5")...)
			if want := (run{"in\n", "err\n", 5}); got != want {
				t.Errorf("ssh %s over %s: %v", target, transport, got)
			}
		}
	}
}
