package system

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/tests/lab"
)

// errorAccess has a target for every way of not being reached.
const errorAccess = `
admins: [ann]
address_mode: on
targets:
  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22, rdp: 3389, tcp: 5432}}
  - {name: db-09, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}}
  - {name: secret, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}}
  - {name: hidden, vnet: hub, address: hidden.corp.example, protocols: {ssh: 22}}
  - {name: rebound, vnet: hub, address: rebound.corp.example, protocols: {ssh: 22}}
  - {name: nowhere, vnet: hub, address: nowhere.corp.example, protocols: {ssh: 22}}
  - {name: slow-name, vnet: hub, address: slow.corp.example, protocols: {ssh: 22}}
  - {name: gone, vnet: hub, address: 10.99.0.99, protocols: {ssh: 22}}
  - {name: silent, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2223}}
  - {name: closed, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2222}}
  - {name: mute, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2224}}
rules:
  - {name: operators, who: [ann], targets: [db-1, db-09, rebound, nowhere, slow-name, gone, silent, closed, mute], protocols: [ssh, rdp]}
  - {name: by address, who: [ann], addresses: [10.99.0.0/24], protocols: [ssh], ports: [22]}
  - {name: auditors, who: [bob], targets: [secret, hidden], protocols: [ssh]}
`

// says makes a pattern of what stands on stderr, line by line, without the command's name before each. What changes
// from run to run is {took}, a duration, {port}, {hex} or {id}.
func says(lines ...string) *regexp.Regexp {
	text := regexp.QuoteMeta("sallyport: " + strings.Join(lines, "\nsallyport: ") + "\n")
	for name, pattern := range map[string]string{"took": `[0-9.]+m?s`, "port": `[0-9]+`, "hex": `[0-9a-f]{64}`, "id": `[0-9a-f]+`, "more": `(: .*)?`, "date": `\d{4}-\d\d-\d\d \d\d:\d\d UTC`} {
		text = strings.ReplaceAll(text, `\{`+name+`\}`, pattern)
	}
	return regexp.MustCompile("^(?:" + text + ")$")
}

// nothing is what stands on stderr when all is well.
var nothing = regexp.MustCompile("^$")

// A mistake is a row of the table of bad inputs: what somebody does, and exactly what the person sees.
type mistake struct {
	row  string // of the table, and what it is about
	args []string
	exit int
	says *regexp.Regexp
}

// TestErrors is the table of what can go wrong with a request: the sentence, the hint and the exit status, over both
// transports. What the rules refuse, sallyport tunnel says in the same words before it opens a port.
func TestErrors(t *testing.T) {
	t.Parallel()
	b := start(t, settings{access: errorAccess, extra: "metrics: {listen: \"127.0.0.1:9090\"}\n"})
	b.DNS(b.VNet.Namespace, map[string]lab.Record{
		"rebound.corp.example.": {Addrs: []netip.Addr{lab.TargetAddr4, netip.MustParseAddr("169.254.169.254")}},
		"slow.corp.example.":    {Addrs: []netip.Addr{lab.TargetAddr4}, Delay: 6 * time.Second},
	})
	b.deaf(":2223")
	b.mute("10.99.0.10:2224")
	never := says("metadata and link-local addresses are never reachable", "hint: 169.254.169.254 is one of them, and no rule can allow it")
	port := says("port must be 1-65535")
	mistakes := []mistake{
		{"1 unknown", []string{"db9"}, 11, says(`no target "db9" that you may use`, "hint: near: db-09, db-1")},
		{"1 nothing like it", []string{"payroll"}, 11, says(`no target "payroll" that you may use`, "hint: sallyport ls shows the targets that you may use")},
		{"2 invisible", []string{"secret"}, 11, says(`no target "secret" that you may use`, "hint: sallyport ls shows the targets that you may use")},
		{"2 visible", []string{"db-1:22", "--protocol", "rdp"}, 11, says(`db-1:22 denied by rule "operators"`, "hint: you may use ssh on 22, rdp on 3389 there; ask an administrator for more")},
		{"2 visible, another protocol", []string{"db-09", "--protocol", "rdp"}, 11, says("db-09 does not offer rdp", "hint: you may use ssh on 22")},
		{"3 address that no rule has", []string{"10.99.7.7"}, 11, says(`no target "10.99.7.7" that you may use`, "hint: sallyport ls shows the targets that you may use")},
		{"4 metadata", []string{"169.254.169.254"}, 11, never},
		{"5 decimal", []string{"2852039166"}, 11, never},
		{"5 hexadecimal", []string{"0xA9FEA9FE"}, 11, never},
		{"5 mapped", []string{"[::ffff:169.254.169.254]:22"}, 11, never},
		{"6 zone", []string{"fe80::1%eth0"}, 2, says("zone ids are not allowed", "hint: leave out the % and what follows it")},
		{"7 punycode", []string{"xn--example-.com"}, 2, says("not a valid internationalised name", "hint: use a target's name as sallyport ls shows it")},
		{"8 port 0", []string{"db-1:0"}, 2, port},
		{"8 port 65536", []string{"db-1:65536"}, 2, port},
		{"8 port -1", []string{"db-1:-1"}, 2, port},
		{"8 port 22abc", []string{"db-1:22abc"}, 2, port},
		{"9 port of another protocol", []string{"db-1", "--protocol", "tcp"}, 11, says("port 5432 is not part of this grant (22, 3389)", "hint: use one of these ports, or ask an administrator to add it to the target and the rule")},
		{"9 port not granted", []string{"db-1:8022"}, 11, says("port 8022 is not part of this grant (22, 3389)", "hint: use one of these ports, or ask an administrator to add it to the target and the rule")},
		{"10 no such name", []string{"nowhere"}, 12, says("the VNet's DNS knows no address for nowhere.corp.example", "hint: an administrator must check the target's address")},
		{"10 DNS is silent", []string{"slow-name"}, 12, says("the VNet's DNS did not answer for slow.corp.example in 5s", "hint: an administrator must check the VNet's dns setting")},
		{"11 mixed addresses", []string{"rebound"}, 11, says("rebound is not reachable: 169.254.169.254 is denied: it is a cloud metadata service", "hint: the target's address must lie inside its VNet's prefixes")},
		{"12 refused", []string{"closed"}, 12, says("closed:2222 refused the connection: the target is up, nothing listens on this port", "hint: start the service there, or check the port")},
		{"13 silent", []string{"silent"}, 12, says("no reply from silent:2223 in 10s", "hint: the target is off, or a firewall or security group drops the packets")},
		{"13 nothing there", []string{"gone"}, 12, says("nothing answers at the address of gone:22", "hint: check that it is switched on and its address is right")},
		{"14 no banner", []string{"mute"}, 12, says("the target closed the connection before it said anything in SSH", "hint: its service may limit connections, or refuse this source")},
		{"53 escape sequence", []string{"db\x1b[31m"}, 2, says(`"db?[31m" is not a target's name: '\x1b' does not belong in a name`, "hint: sallyport ls shows the targets")},
		{"53 newline", []string{"db\n1"}, 2, says(`"db?1" is not a target's name: '\n' does not belong in a name`, "hint: sallyport ls shows the targets")},
		{"53 bidi", []string{"db\u202e1"}, 2, says(`"db?1" is not a target's name: '\u202e' does not belong in a name`, "hint: sallyport ls shows the targets")},
	}
	// Those that wait, wait together.
	results := make([]run, 2*len(mistakes))
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			results[i] = b.client(append([]string{"--transport", transports[i%2], "proxy"}, mistakes[i/2].args...)...)
		})
	}
	wg.Wait()
	for i, r := range results {
		t.Run(mistakes[i/2].row+"/"+transports[i%2], func(t *testing.T) { b.on(t).wrong(mistakes[i/2], r) })
	}
	opened := b.counted("sallyport_flows_opened_total")
	for i, m := range mistakes {
		if m.exit == 12 || strings.HasPrefix(m.row, "11 ") {
			continue // which only a flow shows
		}
		t.Run(m.row+"/tunnel", func(t *testing.T) {
			b.on(t).wrong(m, b.client(append([]string{"--transport", transports[i%2], "tunnel"}, m.args...)...))
		})
	}
	for i, m := range []mistake{
		{"1 unknown", []string{"db9"}, 11, says(`no target "db9" that you may use`, "hint: near: db-09, db-1")},
		{"2 another protocol", []string{"db-09"}, 11, says("db-09 does not offer rdp", "hint: you may use ssh on 22")},
		{"2 not for this person", []string{"db-1:22"}, 11, says(`db-1:22 denied by rule "operators"`, "hint: you may use ssh on 22, rdp on 3389 there; ask an administrator for more")},
		{"9 port not granted", []string{"db-1:8022"}, 11, says("port 8022 is not part of this grant (22, 3389)", "hint: use one of these ports, or ask an administrator to add it to the target and the rule")},
	} {
		t.Run(m.row+"/rdp", func(t *testing.T) {
			b.on(t).wrong(m, b.client(append([]string{"--transport", transports[i%2], "rdp", "--print"}, m.args...)...))
		})
	}
	if n := b.counted("sallyport_flows_opened_total") - opened; n != 0 {
		t.Errorf("to tell that, the appliance has opened %d flows", n)
	}
}

// wrong checks what a mistake led to.
func (b *bastion) wrong(m mistake, r run) {
	b.t.Helper()
	if r.exit != m.exit || !m.says.MatchString(r.stderr) || r.stdout != "" {
		b.t.Errorf("%s: %v\nwant exit %d and %s", m.row, r, m.exit, m.says)
	}
	b.t.Logf("\n%s", r.stderr)
}

// deaf listens in the VNet and answers nothing, as behind a firewall that drops: the kernel's own filter does it.
func (b *bastion) deaf(address string) {
	b.t.Helper()
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
		})
		return err
	}}
	config.SetMultipathTCP(false) // which knows no filters
	err := b.VNet.Do(func() error {
		l, err := config.Listen(context.Background(), "tcp", address)
		if err == nil {
			b.t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// mute accepts in the VNet and hangs up.
func (b *bastion) mute(address string) {
	b.t.Helper()
	l, err := b.VNet.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	b.t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// TestProxyByHand is row 60: the command for ssh's ProxyCommand, typed at a terminal.
func TestProxyByHand(t *testing.T) {
	b := start(t, settings{})
	r := b.inClient(b.home, "", "script", "-qec", b.bin+"/sallyport proxy db-1", "/dev/null")
	if want := "sallyport: this is for ssh's ProxyCommand\r\nsallyport: hint: try: sallyport ssh db-1\r\n"; r.exit != 2 || r.stdout != want {
		t.Errorf("%v\nwant exit 2 and %s", r, want)
	}
}

// TestEnrolment: what a person with a wrong, used or foreign code, or with a revoked device, is told.
func TestEnrolment(t *testing.T) {
	b := start(t, settings{})
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			b := b.on(t)
			home := filepath.Join(b.Dir, "other-"+transport)
			login := func(user, code string) run {
				return b.as(home, code+"\n", "--transport", transport, "login", b.url, "--user", user, "--fingerprint", b.pinned, "--code-file", "-")
			}
			code := b.code("bob")
			b.wrong(mistake{"not signed in", nil, 10, says("not signed in", "hint: run: sallyport login https://BASTION")}, b.as(home, "", "ls"))
			b.wrong(mistake{"wrong code", nil, 10, says("this enrolment code is not known here", "hint: check it for a slip of the finger, and that this is the right appliance")}, login("bob", "0000-0000-0000-0000"))
			b.wrong(mistake{"other user's code", nil, 10, says("this enrolment code is for somebody else", "hint: ask an administrator for a code of your own")}, login("carol", code))
			if r := login("bob", code); r.exit != 0 || !says("signed in to 10.77.2.2 as bob; this device is dev-{any}").MatchString(strings.NewReplacer(b.device(home), "dev-{any}").Replace(r.stderr)) {
				t.Errorf("login: %v", r)
			}
			b.wrong(mistake{"used code", nil, 10, says("this enrolment code has been used", "hint: ask an administrator for a new code; if it was not you who used it, say so at once")}, login("bob", code))
			expired := b.code("bob", "--valid", "10ms")
			time.Sleep(20 * time.Millisecond)
			b.wrong(mistake{"expired code", nil, 10, says("this enrolment code has expired", "hint: ask an administrator for a new code")}, login("bob", expired))
			b.wrong(mistake{"no code", nil, 2, says("that is no enrolment code", "hint: an administrator gives you one; it works once and for ten minutes")}, login("bob", ""))
			b.wrong(mistake{"53 user's name", nil, 2, says(`a user name is 1 to 64 of a-z, 0-9, dot, dash, _ and @`, `hint: "ann\n\x1b[2J" is not one`)}, login("ann\n\x1b[2J", b.code("bob")))
			b.wrong(mistake{"no administrator", nil, 11, says("only administrators may do this", "hint: ask one of them")}, b.as(home, "", "admin", "devices"))
			if r := b.client("admin", "devices", "revoke", b.device(home)); r.exit != 0 || r.stdout != "" || r.stderr != "sallyport: revoked "+b.device(home)+"\n" {
				t.Errorf("revoke: %v", r)
			}
			revoked := says("this device has been revoked", "hint: ask an administrator; a new enrolment needs sallyport logout first")
			b.wrong(mistake{"revoked device", nil, 10, revoked}, b.as(home, "", "--transport", transport, "ls"))
			b.wrong(mistake{"revoked device", nil, 10, revoked}, b.as(home, "", "--transport", transport, "proxy", "db-1"))
			if r := b.as(home, "", "logout"); r.exit != 0 || r.stderr != "sallyport: signed out of 10.77.2.2\n" {
				t.Errorf("logout: %v", r)
			}
		})
	}
	home := filepath.Join(b.Dir, "guesser")
	var r run
	for range 30 {
		if r = b.as(home, "1111-1111-1111-1111\n", "login", b.url, "--fingerprint", b.pinned, "--code-file", "-"); strings.Contains(r.stderr, "too many") {
			break
		}
	}
	b.wrong(mistake{"too many codes", nil, 10, says("too many wrong enrolment codes from here", "hint: wait a minute and try again")}, r)
	b.wrong(mistake{"53 enrol-code", nil, 2, regexp.MustCompile(`^sallyportd: a user name is 1 to 64 of a-z, 0-9, dot, dash, _ and @\nsallyportd: hint: "ann\\u202e\\n" is not one\n$`)},
		b.daemonRun("enrol-code", "--user", "ann\u202e\n", "--config", filepath.Join(b.dir, "sallyport.yaml")))
}

// device is the id of the device in a home.
func (b *bastion) device(home string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(home, "profiles.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	return regexp.MustCompile(`dev-[0-9a-z]+`).FindString(string(text))
}

// daemonRun runs a command of the daemon's program.
func (b *bastion) daemonRun(args ...string) run {
	b.t.Helper()
	l, inside := *b.Lab, b.on(b.t)
	l.Client, inside.Lab = b.Appliance, &l
	return inside.inClient(b.home, "", b.bin+"/sallyportd", args...)
}

// TestCheck is row 51: everything that is wrong with a configuration, at once, with file, line and column, and no start.
func TestCheck(t *testing.T) {
	l := lab.New(t)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	b := &bastion{Lab: l, t: t, bin: bin, dir: l.Dir, home: l.Dir}
	if err := os.WriteFile(filepath.Join(l.Dir, "server.key"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b.write("sallyport.yaml", `listen: {address: ":443"}
tls: {cert: missing.crt, key: server.key}
state: /var/lib/sallyport
acces: access.yaml
vnets:
  hub:
    link: {packet: eth1}
    addresses: [10.99.0.4/160]
    prefixes: [10.99.0.0/16]
`)
	if err := os.Chmod(filepath.Join(l.Dir, "server.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.Dir, "sallyport.yaml")
	check, serve := b.daemonRun("check", "--config", file), b.daemonRun("serve", "--config", file)
	t.Logf("\n%s", check.stderr)
	if check.exit != 1 || serve.exit != 78 || check.stderr != serve.stderr || check.stdout+serve.stdout != "" {
		t.Errorf("check: %v\nserve: %v", check, serve)
	}
	for _, want := range []string{`:2:13: .*missing\.crt`, `:2:31: .*server\.key`, `:4:1: .*"acces".*`, `:8:\d+: .*10\.99\.0\.4/160`} {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(file) + want).MatchString(check.stderr) {
			t.Errorf("check does not say %s", want)
		}
	}
}

// TestRelease: a NIC is given back when the daemon has ended, once, and not before.
func TestRelease(t *testing.T) {
	b := start(t, settings{})
	release := func(exit int, stderr string) {
		t.Helper()
		if r := b.daemonRun("release", "--run-dir", b.run, "hub"); r.exit != exit || r.stdout != "" || r.stderr != stderr {
			t.Errorf("release: %v\nwant exit %d and %s", r, exit, stderr)
		}
	}
	release(1, "sallyportd: sallyportd is running and has the NIC of hub\nsallyportd: hint: stop it first\n")
	if r := b.client("proxy", "db-1"); r.exit != 0 {
		t.Errorf("after that: %v", r)
	}
	b.daemon.Terminate(10 * time.Second)
	release(0, "")
	if out := b.Appliance.Run("ip", "-o", "link", "show", b.VNet.Interface); !strings.Contains(out, b.VNet.Interface) || !strings.Contains(out, "state DOWN") {
		t.Errorf("the NIC: %s", out)
	}
	release(1, "sallyportd: there is no NIC of a VNet hub in "+b.run+"/netns\nsallyportd: hint: if serve was given another --run-dir, name it\n")
}

// TestAddressMode is row 3, and how a reload changes what is allowed.
func TestAddressMode(t *testing.T) {
	b := start(t, settings{access: strings.Replace(usualAccess, "address_mode: on", "address_mode: off", 1)})
	for _, transport := range transports {
		b.wrong(mistake{"3 address", nil, 11, says("direct addresses are off here; use a target name", "hint: sallyport ls shows the targets that you may use")},
			b.client("--transport", transport, "proxy", "10.99.0.10"))
	}
	b.access(usualAccess)
	if r := b.inClient(b.home, "", "ssh", append(b.sshOptions("quic"), "-o", "HostKeyAlias=db-1", "root@10.99.0.10", "true")...); r.exit != 0 {
		t.Errorf("with address mode on: %v", r)
	}
}

// access replaces the access file and waits until the daemon has taken it.
func (b *bastion) access(content string) {
	b.t.Helper()
	taken := strings.Count(b.daemon.Output(), "access file taken")
	b.write("access.yaml", content)
	b.eventually(5*time.Second, "the access file is taken", func() error {
		if strings.Count(b.daemon.Output(), "access file taken") == taken {
			return fmt.Errorf("the log has no new line")
		}
		return nil
	})
}
