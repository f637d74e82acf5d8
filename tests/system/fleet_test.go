package system

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// A fleet is appliances on loopback that share a PostgreSQL, without a NIC and without a parent.
type fleet struct {
	t   *testing.T
	dir string
	bin string
	url string // of the database
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: make packages does it")
	}
	dir, err := os.MkdirTemp("", "sallyport-fleet-") // which workers and the database's own user must reach
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "database"), 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	f, data := &fleet{t: t, dir: dir, bin: bin}, filepath.Join(dir, "database")
	as := func(args ...string) *exec.Cmd { // PostgreSQL refuses to run as root
		cmd := exec.CommandContext(t.Context(), "runuser", append([]string{"-u", "postgres", "--"}, args...)...)
		cmd.Dir = "/"
		return cmd
	}
	if out, err := exec.Command("chown", "postgres", data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := as(found[len(found)-1], "-D", data+"/data", "-U", "postgres", "--no-sync", "--auth-host=trust", "--auth-local=trust").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	address := f.freePort()
	_, port, _ := net.SplitHostPort(address)
	server := lab.Start(t, as(filepath.Join(filepath.Dir(found[len(found)-1]), "postgres"), "-D", data+"/data", "-p", port, "-k", data, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"))
	f.url = "postgres://postgres@" + address + "/postgres?sslmode=disable"
	f.eventually(30*time.Second, "the database answers", func() error {
		if !strings.Contains(server.Output(), "ready to accept connections") {
			return errors.New(server.Output())
		}
		return nil
	})
	return f
}

func (f *fleet) freePort() string {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (f *fleet) eventually(limit time.Duration, what string, is func() error) (took time.Duration) {
	f.t.Helper()
	begun := time.Now()
	for {
		err := is()
		if took = time.Since(begun); err == nil {
			return took
		}
		if took > limit {
			f.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run runs a command, for the person whose home that is.
func (f *fleet) run(home, stdin, program string, args ...string) run {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(f.bin, program), args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+home, "HOME="+home)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	return run{out.String(), said.String(), cmd.ProcessState.ExitCode()}
}

// appliance starts one, and enrols ann there; what comes back runs her command.
func (f *fleet) appliance(name, extra string) (client func(args ...string) run, config string) {
	f.t.Helper()
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "home"), 0o755); err != nil {
		f.t.Fatal(err)
	}
	address, config := f.freePort(), filepath.Join(dir, "sallyport.yaml")
	text := fmt.Sprintf("name: %s\nlisten: {address: %q}\ntls: {self_signed: true}\nstate: %s\nstore: {url: %q}\naccess: database\n%svnets:\n  hub: {link: {kernel: {}}, prefixes: [127.0.0.0/8]}\n",
		name, address, filepath.Join(dir, "state"), f.url, extra)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	daemon := lab.Start(f.t, exec.CommandContext(f.t.Context(), filepath.Join(f.bin, "sallyportd"), "serve", "--config", config, "--run-dir", filepath.Join(dir, "run")))
	var code run
	f.eventually(30*time.Second, name+" serves", func() error {
		if code = f.run(dir, "", "sallyportd", "enrol-code", "--user", "ann", "--config", config); code.exit != 0 {
			return fmt.Errorf("%v\n%s", code, daemon.Output())
		}
		return nil
	})
	lines := strings.Split(strings.TrimSpace(code.stdout), "\n")
	_, fingerprint, _ := strings.Cut(lines[0], "--fingerprint ")
	home := filepath.Join(dir, "home")
	if r := f.run(home, lines[1]+"\n", "sallyport", "login", "https://"+address, "--user", "ann", "--code-file", "-", "--fingerprint", strings.TrimSpace(fingerprint)); r.exit != 0 {
		f.t.Fatalf("login: %v\n%s", r, daemon.Output())
	}
	return func(args ...string) run { return f.run(home, "", "sallyport", args...) }, config
}

// TestFleetTakesVersions: what is put in force on one appliance is in force on the other within five seconds, also by who
// applies at both at once: one wins.
func TestFleetTakesVersions(t *testing.T) {
	f := newFleet(t)
	seed := filepath.Join(f.dir, "access.yaml")
	access := "admins: [ann]\ngroups: {ops: []}\ntargets:\n  - {name: db-1, vnet: hub, address: 10.9.9.9, protocols: ssh}\nrules:\n  - {name: all, who: [ann], targets: [\"*\"]}\n"
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(seed, access)
	one, _ := f.appliance("one", "access_seed: "+seed+"\n")
	two, config := f.appliance("two", "access_seed: "+seed+"\n")
	for _, client := range []func(...string) run{one, two} {
		if r := client("admin", "access", "list"); r.exit != 0 || strings.Count(r.stdout, "\n") != 2 {
			t.Errorf("the seed is one version: %v", r)
		}
	}

	folder := filepath.Join(f.dir, "access")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(folder, "access.yaml"), strings.ReplaceAll(access, "name: db-1", "name: db-2"))
	if r := one("admin", "apply", "-f", folder, "--yes"); r.exit != 0 {
		t.Fatalf("%v", r)
	}
	took := f.eventually(5*time.Second, "the other one has the new version", func() error {
		if r := two("ls"); !strings.Contains(r.stdout, "db-2") || strings.Contains(r.stdout, "db-1") {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	t.Logf("the other appliance went by it %v after the command had ended", took.Round(time.Millisecond))

	// Both at once.
	other := filepath.Join(f.dir, "other.yaml")
	write(other, strings.ReplaceAll(access, "name: db-1", "name: db-3"))
	done := make(chan run, 2)
	for _, client := range []func(...string) run{one, two} {
		go func() { done <- client("admin", "apply", "-f", other, "--yes") }()
	}
	taken := 0
	for range 2 {
		r := <-done
		switch {
		case r.exit == 0 && strings.Contains(r.stderr, "version 3 is in force"):
			taken++
		case r.exit == 0 && strings.Contains(r.stdout, "nothing changes"), r.exit == 2 && strings.Contains(r.stderr, "somebody has changed"):
		default:
			t.Errorf("%v", r)
		}
	}
	if taken != 1 {
		t.Errorf("%d have put version 3 in force", taken)
	}

	// Who has locked all administrators out needs root.
	nobody := filepath.Join(f.dir, "nobody.yaml")
	write(nobody, strings.Replace(access, "admins: [ann]\n", "", 1))
	if r := one("admin", "apply", "-f", nobody, "--yes", "--force"); r.exit != 0 {
		t.Errorf("%v", r)
	}
	if r := one("admin", "access", "list"); r.exit != 11 {
		t.Errorf("ann is no administrator any more: %v", r)
	}
	if r := f.run(f.dir, "", "sallyportd", "apply", "-f", seed, "--config", config); r.exit != 0 || r.stdout != "version 5 is in force\n" {
		t.Errorf("root puts rules in force: %v", r)
	}
	f.eventually(5*time.Second, "ann is an administrator again", func() error {
		if r := one("admin", "access", "list"); r.exit != 0 || !strings.Contains(r.stdout, "sallyportd apply") {
			return fmt.Errorf("%v", r)
		}
		return nil
	})

	// An account that root makes at one is there at the other.
	if r := f.run(f.dir, "", "sallyportd", "accounts", "add", "--user", "dan", "--group", "ops", "--config", config); r.exit != 0 || !strings.Contains(r.stdout, "/setup#") {
		t.Errorf("root makes an account: %v", r)
	}
	if r := one("admin", "accounts"); !strings.Contains(r.stdout, "dan   local   ops") {
		t.Errorf("%v", r)
	}
	if r := f.run(f.dir, "", "sallyportd", "accounts", "reset", "--user", "eve", "--config", config); r.exit != 1 || !strings.Contains(r.stderr, "there is no such account") {
		t.Errorf("root resets nobody's account: %v", r)
	}
}

// TestFleetIsOne: who has logged in at one appliance is known to another that has the same certificate and identity key, and
// takes it for the same; behind a load balancer people do not know which of them they speak with. Both keys are OpenSSL's.
func TestFleetIsOne(t *testing.T) {
	f := newFleet(t)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("access.yaml", "admins: [ann]\ntargets:\n  - {name: db-1, vnet: hub, address: 10.9.9.9, protocols: ssh}\nrules:\n  - {name: all, who: [ann], targets: [\"*\"]}\n")
	for _, args := range [][]string{
		{"genpkey", "-algorithm", "ed25519", "-out", "fleet.key"},
		{"genpkey", "-algorithm", "ed25519", "-out", "stranger.key"},
		{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "tls.key", "-out", "tls.crt", "-days", "30", "-subj", "/CN=fleet", "-addext", "subjectAltName=IP:127.0.0.1"},
	} {
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = f.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	serve := func(name, key string) (address, config string) {
		address, config = f.freePort(), filepath.Join(f.dir, name+".yaml")
		write(name+".yaml", fmt.Sprintf("name: %s\nlisten: {address: %q}\ntls: {cert: tls.crt, key: tls.key}\nidentity_key: %s\nstate: %s\nstore: {url: %q}\nvnets:\n  hub: {link: {kernel: {}}, prefixes: [127.0.0.0/8]}\n",
			name, address, key, filepath.Join(f.dir, "state-"+name), f.url))
		daemon := lab.Start(t, exec.CommandContext(t.Context(), filepath.Join(f.bin, "sallyportd"), "serve", "--config", config, "--run-dir", filepath.Join(f.dir, "run-"+name)))
		f.eventually(30*time.Second, name+" serves", func() error {
			if !strings.Contains(daemon.Output(), "msg=serving") {
				return errors.New(daemon.Output())
			}
			return nil
		})
		return address, config
	}
	one, config := serve("one", "fleet.key")
	two, _ := serve("two", "fleet.key")
	stranger, _ := serve("stranger", "stranger.key")

	balancer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { balancer.Close() })
	var leads atomic.Value
	leads.Store(one)
	go func() {
		for {
			c, err := balancer.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", leads.Load().(string))
			if err != nil {
				c.Close()
				continue
			}
			go func() { io.Copy(to, c); to.Close() }()
			go func() { io.Copy(c, to); c.Close() }()
		}
	}()

	code := f.run(f.dir, "", "sallyportd", "enrol-code", "--user", "ann", "--config", config)
	lines := strings.Split(strings.TrimSpace(code.stdout), "\n")
	if code.exit != 0 || len(lines) != 2 {
		t.Fatalf("enrol-code: %v", code)
	}
	sum := exec.CommandContext(t.Context(), "openssl", "x509", "-in", "tls.crt", "-outform", "DER")
	sum.Dir = f.dir
	der, err := sum.Output()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	home := filepath.Join(f.dir, "home")
	if r := f.run(home, lines[1]+"\n", "sallyport", "login", "https://"+balancer.Addr().String(), "--user", "ann", "--code-file", "-", "--fingerprint", hex.EncodeToString(key[:])); r.exit != 0 {
		t.Fatalf("login: %v\n%s", r, code.stdout)
	}
	for _, at := range []string{one, two, one} {
		leads.Store(at)
		if r := f.run(home, "", "sallyport", "ls"); r.exit != 0 || !strings.Contains(r.stdout, "db-1") {
			t.Errorf("ls: %v", r)
		}
	}
	leads.Store(stranger)
	if r := f.run(home, "", "sallyport", "ls"); r.exit == 0 || strings.Contains(r.stdout, "db-1") {
		t.Errorf("one with another identity key is taken for the same: %v", r)
	}
}
