// Package portal shows the portal's pages in a real browser, from a real appliance: in network namespaces of their own, with a
// real target behind it.
package portal

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/lab"
	"sallyport/tests/npm"
)

//go:embed package.json package-lock.json *.mjs
var scripts embed.FS

// programs are the commands, built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-portal-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the worker's user runs from here
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir+"/", "sallyport/cmd/sallyport", "sallyport/cmd/sallyportd")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	os.Setenv("SALLYPORT_NO_AGENT", "1")
	code := m.Run()
	if dir, err := programs(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// A site is an appliance whose portal is open, and a person's computer with a browser.
type site struct {
	*lab.Lab
	t      *testing.T
	bin    string                                                           // the programs' folder
	dir    string                                                           // the appliance's files
	home   string                                                           // of ann's command
	shots  string                                                           // where pictures go; empty: nobody wants them
	url    string                                                           // of the portal
	at     string                                                           // its address, which no resolver knows
	run    func(ctx context.Context, name string, args ...string) *exec.Cmd // on the person's computer
	limit  time.Duration                                                    // of a script; default 20 minutes
	sshd   *lab.SSHD
	daemon *lab.Process
}

// settings of a site; the zero value is one with an administrator and some targets.
type settings struct {
	access string
	policy string // Cedar beside it
	extra  string // further lines of sallyport.yaml
}

const usualAccess = `
admins: [ann]
groups: {dba: [ann]}
targets:
  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22, rdp: 3389}, labels: {env: prod, team: storage}}
  - {name: db-2, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}, labels: {env: staging, team: storage}}
  - {name: closed, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2222}, labels: {env: staging}}
  - {name: web-frontend-with-a-rather-long-name-in-production, vnet: hub, address: 10.99.0.11, protocols: {ssh: 22, tcp: [80, 443]}, labels: {env: prod, "team": a-label-that-goes-on-and-on-and-on-for-sixty-characters-in-all}}
  - {name: office-pc, vnet: hub, address: 10.99.0.12, protocols: {rdp: 3389}}
  - {name: vault, vnet: hub, address: 10.99.0.13, protocols: {ssh: 22}, labels: {tier: secret}}
rules:
  - {name: operators, who: [ann, bob, fay], targets: [db-1, db-2, closed, web-frontend-with-a-rather-long-name-in-production], protocols: [ssh, rdp, tcp], idle: 30m, lifetime: 8h, share: true}
  - {name: desktops, who: [ann], targets: [office-pc], protocols: [rdp]}
  - {name: secrets, who: [ann, bob], targets: [vault], protocols: [ssh], approval: dba}
`

func start(t *testing.T, s settings) *site {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	w := &site{Lab: l, t: t, bin: bin, dir: filepath.Join(l.Dir, "appliance"), home: filepath.Join(l.Dir, "home"), url: "https://bastion.example",
		at: lab.ApplianceAddr4.String(), run: l.Client.Command}
	w.folders()
	w.write("access/access.yaml", cmp.Or(s.access, usualAccess))
	w.write("access/more.cedar", s.policy)
	w.write("sallyport.yaml", fmt.Sprintf(`
name: bastion
banner: For work only.
listen: {address: ":443"}
tls: {self_signed: true}
state: %s
access: access
identity: {url: %q}
drain: {grace: 1s}
vnets:
  hub:
    link: {packet: %s}
    addresses: [10.99.0.4/16]
    prefixes: [10.99.0.0/16]
%s`, filepath.Join(l.Dir, "state"), w.url, l.VNet.Interface, s.extra))
	w.sshd = l.SSHD(l.VNet.Namespace, lab.SSHDOptions{})
	w.serve(w.Appliance.Command)
	return w
}

func (w *site) folders() {
	w.t.Helper()
	w.shots = os.Getenv("SALLYPORT_SCREENSHOTS")
	for _, dir := range []string{w.dir, filepath.Join(w.dir, "access"), w.home, w.shots} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

// serve starts the daemon and waits until it is ready.
func (w *site) serve(command func(ctx context.Context, name string, args ...string) *exec.Cmd) {
	w.t.Helper()
	w.daemon = lab.Start(w.t, command(context.Background(), w.bin+"/sallyportd", "serve", "--config", filepath.Join(w.dir, "sallyport.yaml"), "--run-dir", filepath.Join(w.dir, "run")))
	w.eventually(time.Minute, "the appliance serves", func() error {
		select {
		case <-w.daemon.Done():
			w.t.Fatalf("the daemon ended: %s", w.daemon.Output())
		default:
		}
		if !strings.Contains(w.daemon.Output(), "msg=serving") {
			return errors.New("it does not serve yet")
		}
		return nil
	})
}

func (w *site) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *site) eventually(limit time.Duration, what string, try func() error) {
	w.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
	}
}

// code is a one-time code of somebody's, and the fingerprint of the certificate.
func (w *site) code(user string) (code, fingerprint string) {
	w.t.Helper()
	out := w.Appliance.Run(w.bin+"/sallyportd", "enrol-code", "--user", user, "--json", "--config", filepath.Join(w.dir, "sallyport.yaml"))
	var answer struct{ Code, Fingerprint string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		w.t.Fatalf("enrol-code printed %q: %v", out, err)
	}
	return answer.Code, answer.Fingerprint
}

// link is the address that signs a browser in as somebody, once.
func (w *site) link(user string) string {
	w.t.Helper()
	code, _ := w.code(user)
	return w.url + "/login/code#" + code
}

// login signs somebody's command in.
func (w *site) login(user, home string) {
	w.t.Helper()
	code, fingerprint := w.code(user)
	w.command(home, code+"\n", "login", "https://"+lab.ApplianceAddr4.String(), "--user", user, "--code-file", "-", "--fingerprint", fingerprint)
}

// command runs somebody's command, which must do what it is told.
func (w *site) command(home, stdin string, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := w.Client.Command(ctx, w.bin+"/sallyport", args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+home, "HOME="+home)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("sallyport %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// session opens an SSH session of somebody's to a target, in which something moves until the test ends.
func (w *site) session(home, target string) *lab.Process {
	w.t.Helper()
	ready := "session to " + target + " is open"
	cmd := w.Client.Command(context.Background(), "ssh", "-tt", "-F", "none", "-i", w.sshd.KeyFile, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ProxyCommand="+w.bin+"/sallyport proxy %h", w.sshd.User+"@"+target, "echo "+ready+"; while sleep .3; do echo tick tock, tick tock; done")
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+home, "HOME="+home)
	p := lab.Start(w.t, cmd)
	w.eventually(time.Minute, ready, func() error {
		if !strings.Contains(p.Output(), ready) {
			return errors.New(p.Output())
		}
		return nil
	})
	return p
}

// browse has a script drive a browser on the person's computer. What the script is told is JSON, since a link of one use is a
// secret; what it prints is what it has seen.
func (w *site) browse(script string, told map[string]any) string {
	w.t.Helper()
	dir := npm.Install(w.t, "portal", scripts)
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		w.t.Fatalf("%v: make packages installs it", err)
	}
	told["url"], told["shots"], told["chromium"], told["address"] = w.url, w.shots, chromium, w.at
	stdin, err := json.Marshal(told)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), cmp.Or(w.limit, 20*time.Minute))
	defer cancel()
	cmd := w.run(ctx, "node", filepath.Join(dir, script))
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("%s: %v\n%s\nthe appliance:\n%s", script, err, out.String(), w.daemon.Output())
	}
	w.t.Log(out.String())
	return out.String()
}
