// Package system shows what the product promises with real clients and servers, in network namespaces of their own:
// client – router – appliance – VNet.
package system

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// programs are the commands, built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-system-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the worker's user runs from here
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir+"/", "sallyport/cmd/sallyport", "sallyport/cmd/sallyportd", "sallyport/cmd/sallyport-bench")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// Tests that wait more than they work run beside each other: t.Parallel. What measures runs alone.
func TestMain(m *testing.M) {
	os.Setenv("SALLYPORT_NO_AGENT", "1") // where an agent is wanted, a test says so
	stop := watched.processes()
	code := m.Run()
	for _, betrayal := range stop() {
		fmt.Println(betrayal)
		code = 1
	}
	if dir, err := programs(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// A bastion is an appliance in the lab, with a person's client enrolled.
type bastion struct {
	*lab.Lab
	t       *testing.T
	bin     string // the programs' folder
	dir     string // the appliance's files
	home    string // the client's
	run     string // the parent's run folder
	daemon  *lab.Process
	sshd    *lab.SSHD
	url     string
	pinned  string // the certificate's fingerprint
	address string // the appliance, host:port
	wrap    []string
	flags   []string // of serve
	env     []string // of what the person runs, beside the usual
	secrets *secrets
	daemons *[]*lab.Process // all that there were
}

// settings of a bastion; the zero value attaches vnet0 by a packet link.
type settings struct {
	access string   // access.yaml; default below
	extra  string   // further lines of sallyport.yaml
	listen string   // default: address: ":443"
	tls    string   // default: self_signed, and ann is enrolled
	grace  string   // of a drain; default 2s
	serve  []string // further flags of serve

	prepare func(*bastion) // runs before the daemon is started
	wrap    []string       // a command that starts the daemon
}

const usualAccess = `
admins: [ann]
bench: [ann]
address_mode: on
targets:
  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22, rdp: 3389}, labels: {env: prod}}
  - {name: db-6, vnet: hub, address: "fd99::10", protocols: {ssh: 22, rdp: 3389}}
  - {name: named, vnet: hub, address: db.corp.example, protocols: {ssh: 22}}
  - {name: rebound, vnet: hub, address: rebound.corp.example, protocols: {ssh: 22}}
  - {name: nowhere, vnet: hub, address: nowhere.corp.example, protocols: {ssh: 22}}
  - {name: silent, vnet: hub, address: 10.99.0.99, protocols: {ssh: 22}}
  - {name: closed, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2222}}
  - {name: hidden, vnet: hub, address: hidden.corp.example, protocols: {ssh: 22}}
rules:
  - {name: everything, who: [ann], targets: [db-1, db-6, named, rebound, nowhere, silent, closed], protocols: [ssh, rdp]}
  - {name: by address, who: [ann], addresses: [10.99.0.0/24], protocols: [ssh], ports: [22]}
`

func start(t *testing.T, s settings) *bastion {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	b := &bastion{Lab: l, t: t, bin: bin, dir: filepath.Join(l.Dir, "appliance"), home: filepath.Join(l.Dir, "home"),
		run: filepath.Join(l.Dir, "run"), address: lab.ApplianceAddr4.String() + ":443", url: "https://" + lab.ApplianceAddr4.String(), secrets: &secrets{}, daemons: &[]*lab.Process{}}
	watched.add(b.secrets)
	t.Cleanup(func() { b.betrayed(*b.daemons) }) // when the daemon has ended
	for _, dir := range []string{b.dir, b.home} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if s.access == "" {
		s.access = usualAccess
	}
	selfSigned := s.tls == ""
	if selfSigned {
		s.tls = "self_signed: true"
	}
	if s.listen == "" {
		s.listen = `address: ":443"`
	}
	b.write("access.yaml", s.access)
	b.write("sallyport.yaml", fmt.Sprintf(`
name: lab
listen: {%s}
tls: {%s}
state: %s
access: access.yaml
drain: {grace: %s}
vnets:
  hub:
    link: {packet: %s}
    addresses: [10.99.0.4/16, "fd99::4/64"]
    prefixes: [10.99.0.0/16, "fd99::/64"]
    dns: [10.99.0.10]
%s`, s.listen, s.tls, filepath.Join(l.Dir, "state"), cmp.Or(s.grace, "2s"), l.VNet.Interface, s.extra))
	b.sshd = l.SSHD(l.VNet.Namespace, lab.SSHDOptions{})
	b.wrap, b.flags = s.wrap, s.serve
	if s.prepare != nil {
		s.prepare(b)
	}
	b.serve()
	if selfSigned {
		b.enrol("ann", b.home)
	}
	return b
}

// on is b for a subtest.
func (b *bastion) on(t *testing.T) *bastion {
	c := *b
	c.t = t
	return &c
}

func (b *bastion) write(name, content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// serve starts the daemon and waits until it is ready.
func (b *bastion) serve() {
	b.t.Helper()
	command := append(slices.Clone(b.wrap), b.bin+"/sallyportd", "serve", "--config", filepath.Join(b.dir, "sallyport.yaml"), "--run-dir", b.run)
	command = append(command, b.flags...)
	b.daemon = lab.Start(b.t, b.Appliance.Command(context.Background(), command[0], command[1:]...))
	*b.daemons = append(*b.daemons, b.daemon)
	b.eventually(15*time.Second, "the appliance is ready", func() error {
		select {
		case <-b.daemon.Done():
			b.t.Fatalf("the daemon ended: %s", b.daemon.Output())
		default:
		}
		if !strings.Contains(b.daemon.Output(), "msg=serving") {
			return errors.New("it does not serve yet")
		}
		return nil
	})
}

func (b *bastion) eventually(limit time.Duration, what string, try func() error) {
	b.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// code asks the daemon for an enrolment code.
func (b *bastion) code(user string, more ...string) (code string) {
	b.t.Helper()
	args := append([]string{"enrol-code", "--user", user, "--json", "--config", filepath.Join(b.dir, "sallyport.yaml")}, more...)
	out := b.Appliance.Run(b.bin+"/sallyportd", args...)
	var answer struct{ Code, Fingerprint string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		b.t.Fatalf("enrol-code printed %q: %v", out, err)
	}
	b.pinned = answer.Fingerprint
	b.secrets.hide("an enrolment code", []byte(answer.Code), "")
	return answer.Code
}

// enrol logs a person's client in.
func (b *bastion) enrol(user, home string, trust ...string) {
	b.t.Helper()
	code := b.code(user)
	if len(trust) == 0 {
		trust = []string{"--fingerprint", b.pinned}
	}
	r := b.as(home, code+"\n", append([]string{"login", b.url, "--user", user, "--code-file", "-"}, trust...)...)
	if r.exit != 0 {
		b.t.Fatalf("login: %v\n%s", r, b.daemon.Output())
	}
}

// A run is what a command did.
type run struct {
	stdout, stderr string
	exit           int
}

func (r run) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.exit, r.stdout, r.stderr)
}

// client runs the person's command.
func (b *bastion) client(args ...string) run { b.t.Helper(); return b.as(b.home, "", args...) }

func (b *bastion) as(home, stdin string, args ...string) run {
	b.t.Helper()
	return b.inClient(home, stdin, b.bin+"/sallyport", args...)
}

// environ is the environment of what somebody runs.
func (b *bastion) environ(home string) []string {
	return slices.Concat(os.Environ(), []string{"SALLYPORT_HOME=" + home, "HOME=" + home}, b.env)
}

// inClient runs any command where the person is.
func (b *bastion) inClient(home, stdin, name string, args ...string) run {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := b.Client.Command(ctx, name, args...)
	cmd.Env = b.environ(home)
	cmd.Stdin = strings.NewReader(stdin)
	return b.finish(cmd)
}

// inAppliance runs any command where the appliance is.
func (b *bastion) inAppliance(name string, args ...string) run {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	return b.finish(b.Appliance.Command(ctx, name, args...))
}

// finish runs cmd to its end.
func (b *bastion) finish(cmd *exec.Cmd) run {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%q: %v", cmd.Args, err)
	}
	return run{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// sshOptions make OpenSSH use Sallyport over one transport, and nothing of this machine's own configuration.
func (b *bastion) sshOptions(transport string) []string {
	return []string{"-F", "none", "-i", b.sshd.KeyFile, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + b.sshd.KnownHosts(b.Lab, "db-1", "db-6", "named", "direct"),
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "CheckHostIP=no",
		"-o", "ProxyCommand=" + b.bin + "/sallyport --transport " + transport + " proxy %h"}
}
