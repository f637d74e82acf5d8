// Package vm boots the appliance's image: a real kernel in QEMU, between a person's client and a target with a real sshd.
//
// The machine takes the appliance's place in package lab's internet. Its first NIC, eth0, is on the cable to the router,
// its second, eth1, on that to the VNet:
//
//	client ── router ── [br0 tap0] eth0  machine  eth1 [tap1 br1] ── VNet
//	10.77.1.2           10.77.2.2/24               10.99.0.4/16      10.99.0.10
//
// Nothing is emulated by hand: where KVM does not work the processor is QEMU's, and what a test waits for is told on the
// machine's serial console.
package vm

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/image"
	"sallyport/tests/lab"
)

// What the machine's NICs are.
const (
	publicMAC = "52:54:00:77:02:02"
	vnetMAC   = "52:54:00:99:00:04"
)

// limit is for what takes seconds on a machine that does nothing else: an emulated processor on a busy one takes longer.
const limit = 5 * time.Minute

// built is an image, and the client's program.
type built struct {
	dir string // of the image
	bin string // of the client
}

// work is the folder of all that is built, made by the first test that needs it.
var work string

// build makes what most tests boot.
var build = sync.OnceValues(func() (b built, err error) {
	if work, err = os.MkdirTemp("", "sallyport-vm-"); err != nil {
		return built{}, err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return built{}, err
	}
	b = built{dir: filepath.Join(work, "image"), bin: filepath.Join(work, "bin")}
	if err := compile("-o", b.bin+"/", "sallyport/cmd/sallyport"); err != nil {
		return built{}, err
	}
	_, err = image.Build(context.Background(), image.Options{Flavour: "kvm", Out: b.dir})
	return b, err
})

// doored makes the same image with a worker that has a door: testdata/door.go.txt is compiled with the daemon. So no test
// needs code in what is shipped.
var doored = sync.OnceValues(func() (built, error) {
	b, err := build()
	if err != nil {
		return built{}, err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return built{}, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(root, "cmd/sallyportd/door.go"): filepath.Join(root, "tests/vm/testdata/door.go.txt")}})
	if err != nil {
		return built{}, err
	}
	list, program := filepath.Join(work, "overlay.json"), filepath.Join(work, "sallyportd")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return built{}, err
	}
	if err := compile("-overlay", list, "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", program, "sallyport/cmd/sallyportd"); err != nil {
		return built{}, err
	}
	b.dir = filepath.Join(work, "doored")
	_, err = image.Build(context.Background(), image.Options{Flavour: "kvm", Out: b.dir, Daemon: program})
	return b, err
})

// compile runs go build for a program that needs no other file.
func compile(args ...string) error {
	c := exec.Command("go", append([]string{"build"}, args...)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %q: %w\n%s", args, err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	os.Setenv("SALLYPORT_NO_AGENT", "1")
	code := m.Run()
	os.RemoveAll(work) // nothing, if no test has built anything
	os.Exit(code)
}

// A form is where people come in.
type form struct {
	name, listen string
	public       string // the address of the machine that they come to
	inside       bool   // they are in the VNet
}

// forms are the three that there are.
var forms = []form{
	{name: "kernel", listen: "machine: {interface: eth0, addresses: [10.77.2.2/24], gateway: [10.77.2.1], enrol: ann}", public: "10.77.2.2"},
	{name: "link", listen: "listen: {link: {packet: \"" + publicMAC + "\"}, addresses: [10.77.2.2/24], gateway: [10.77.2.1]}\nmachine: {enrol: ann}", public: "10.77.2.2"},
	{name: "vnet", listen: "listen: {vnet: hub}\nmachine: {enrol: ann}", public: "10.99.0.4", inside: true},
}

// options of a machine; the zero value is a kernel and an initramfs, and what people come in by is the kernel's.
type options struct {
	form   form
	memory int      // MiB; default 256
	disk   bool     // boots the disk with UEFI firmware
	accel  string   // how QEMU runs the processor; default by KVM where that works, else "tcg"
	cpus   int      // default 1: more of them wait for each other where several machines share this computer's
	append string   // more of the kernel's command line; without disk
	qemu   []string // more arguments
	config string   // default: that of the form
	access string   // default: ann may reach db-1
	bare   bool     // the client is not enrolled
	door   bool     // the worker has one
	starts bool     // again, when it restarts
	inside bool     // eth0 is the NIC in the VNet, not the public one

	given   func(*machine) []string // how QEMU gives the machine its configuration; default: by fw_cfg
	prepare func(*machine)          // runs before QEMU is started
}

// A machine runs.
type machine struct {
	*lab.Lab
	built
	t      *testing.T
	dir    string // files of ours
	home   string // the client's
	qemu   *lab.Process
	keys   io.WriteCloser // what is typed at the console
	sshd   *lab.SSHD
	form   form
	booted time.Time
	took   time.Duration // to boot, until it showed a code
}

const access = `
admins: [ann]
targets: [{name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22, tcp: 7}}]
rules: [{name: all, who: [ann], targets: [db-1], protocols: [ssh, tcp]}]
`

// start boots a machine and, unless it is to be bare, waits until it serves and enrols the client.
func start(t *testing.T, o options) *machine {
	t.Helper()
	image := build
	if o.door {
		image = doored
	}
	b, err := image()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	m := &machine{Lab: l, built: b, t: t, dir: filepath.Join(l.Dir, "machine"), home: filepath.Join(l.Dir, "home")}
	for _, dir := range []string{m.dir, m.home} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if o.form.name == "" {
		o.form = forms[0]
	}
	m.form = o.form
	m.bridge("eth0", "tap0", "br0")
	m.bridge(l.VNet.Interface, "tap1", "br1")
	m.sshd = m.SSHD(l.VNet.Namespace, lab.SSHDOptions{})
	if o.prepare != nil {
		o.prepare(m)
	}
	m.boot(o)
	if !o.bare {
		m.enrol()
	}
	return m
}

// bridge has a cable to the appliance end in a TAP instead.
func (m *machine) bridge(nic, tap, bridge string) {
	m.t.Helper()
	for _, args := range []string{"addr flush dev " + nic, "link add " + bridge + " type bridge forward_delay 0 mcast_snooping 0", "tuntap add " + tap + " mode tap vnet_hdr",
		"link set " + nic + " master " + bridge, "link set " + tap + " master " + bridge, "link set " + tap + " up", "link set " + bridge + " up"} {
		m.Appliance.Run("ip", strings.Fields(args)...)
	}
}

func (m *machine) write(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// document is a configuration in a form.
func document(f form) string {
	return "name: machine\ntls: {self_signed: true}\naccess: access.yaml\ndrain: {grace: 2s}\n" + f.listen + `
vnets:
  hub:
    link: {packet: "` + vnetMAC + `"}
    addresses: [10.99.0.4/16]
    prefixes: [10.99.0.0/16]
`
}

// boot starts QEMU.
func (m *machine) boot(o options) {
	m.t.Helper()
	console := "stdio,id=console,mux=on,signal=off"
	args := []string{"-machine", "q35", "-accel", cmp.Or(o.accel, processor()), "-cpu", "max", "-smp", fmt.Sprint(cmp.Or(o.cpus, 1)), "-m", fmt.Sprint(cmp.Or(o.memory, 256)),
		"-nodefaults", "-display", "none",
		"-chardev", console, "-serial", "chardev:console",
		"-qmp", "unix:" + m.dir + "/qmp,server=on,wait=off",
		"-device", "virtio-rng-pci"}
	public := []string{"-netdev", "tap,id=public,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=public,mac=" + publicMAC}
	vnet := []string{"-netdev", "tap,id=vnet,ifname=tap1,script=no,downscript=no", "-device", "virtio-net-pci,netdev=vnet,mac=" + vnetMAC}
	if o.inside {
		public, vnet = vnet, public
	}
	args = slices.Concat(args, public, vnet)
	if o.given == nil {
		args = append(args, "-fw_cfg", "name=opt/sallyport/config,file="+m.write("sallyport.yaml", cmp.Or(o.config, document(o.form))),
			"-fw_cfg", "name=opt/sallyport/files/access.yaml,file="+m.write("access.yaml", cmp.Or(o.access, access)))
	} else {
		args = append(args, o.given(m)...)
	}
	if !o.starts {
		args = append(args, "-no-reboot")
	}
	if o.disk {
		args = append(args, m.firmware()...)
	} else {
		args = append(args, "-kernel", m.built.dir+"/vmlinuz", "-initrd", m.built.dir+"/initrd",
			"-append", strings.TrimSpace("console=ttyS0 loglevel=4 panic=-1 panic_on_oops=1 printk.devkmsg=on "+o.append))
	}
	if *show {
		args[slices.Index(args, console)] += ",logfile=/dev/fd/3,logappend=on"
	}
	cmd := m.Appliance.Command(context.Background(), "qemu-system-x86_64", append(args, o.qemu...)...)
	if *show {
		cmd.ExtraFiles = []*os.File{os.Stderr} // QEMU's descriptor 3
	}
	keys, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.keys, m.booted = keys, time.Now()
	m.qemu = lab.Start(m.t, cmd)
}

// firmware is what boots the disk: a copy of it, with room for data, and UEFI's variables of the machine's own.
func (m *machine) firmware() []string {
	m.t.Helper()
	vars, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		m.t.Fatal(err)
	}
	disks, _ := filepath.Glob(m.built.dir + "/*.raw")
	if len(disks) != 1 {
		m.t.Fatalf("the image has %d disks", len(disks))
	}
	disk := filepath.Join(m.dir, "disk.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disks[0], disk, "512M").CombinedOutput(); err != nil {
		m.t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	return []string{"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
		"-drive", "if=pflash,format=raw,unit=1,file=" + m.write("vars.fd", string(vars)),
		"-drive", "if=none,id=disk,format=qcow2,file=" + disk, "-device", "virtio-blk-pci,drive=disk,bootindex=1"}
}

// console waits until the machine has said a pattern so many times, and returns what the last of them matched.
func (m *machine) console(times int, pattern string) []string {
	m.t.Helper()
	want := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if found := want.FindAllStringSubmatch(m.qemu.Output(), -1); len(found) >= times {
			return found[times-1]
		}
		select {
		case <-m.qemu.Done():
			if len(want.FindAllString(m.qemu.Output(), -1)) < times {
				m.t.Fatalf("the machine has ended (%v) and did not say %q", m.qemu.Wait(), pattern)
			}
		default:
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the machine did not say %q %d times within %v", pattern, times, limit)
		}
	}
}

// person is where the client is.
func (m *machine) person() *lab.Namespace {
	if m.form.inside {
		return m.VNet.Namespace
	}
	return m.Client
}

// enrol enrols the client by the code that the console shows.
func (m *machine) enrol() {
	m.t.Helper()
	said := m.console(1, `--fingerprint ([0-9a-f]{64})\r?\n +code: ([0-9A-Z-]{19})\r?\n`)
	m.took = time.Since(m.booted)
	m.t.Logf("the machine showed its code after %v", m.took.Round(100*time.Millisecond))
	out, err := m.client(said[2]+"\n", "login", "https://"+m.form.public, "--user", "ann", "--code-file", "-", "--fingerprint", said[1])
	if err != nil {
		m.t.Fatalf("login: %v\n%s", err, out)
	}
}

// client runs the person's command where the person is.
func (m *machine) client(stdin string, args ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	cmd := m.person().Command(ctx, m.bin+"/sallyport", args...)
	cmd.Env = m.environment()
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func (m *machine) environment() []string {
	return append(os.Environ(), "SALLYPORT_HOME="+m.home, "HOME="+m.home)
}

// ssh runs a command on the target, through the machine.
func (m *machine) ssh(command string) (string, error) {
	m.t.Helper()
	return m.client("", "ssh", "-F", "none", "-i", m.sshd.KeyFile, "-o", "UserKnownHostsFile="+m.sshd.KnownHosts(m.Lab, "db-1"),
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "root@db-1", "--", command)
}

// comesIn checks that an ssh through the machine works. The appliance and its client wait ten seconds for an answer, in which
// a machine on a busy computer may do nothing: it is tried again, and the log says so.
func (m *machine) comesIn() {
	m.t.Helper()
	m.eventually("an ssh through the machine", func() error {
		out, err := m.ssh("echo hello; id -u")
		if err == nil && out != "hello\n0\n" {
			err = fmt.Errorf("it printed %q", out)
		}
		if err != nil {
			m.t.Logf("an ssh did not come through: %v", err)
		}
		return err
	})
}

// A flow echoes.
type flow struct {
	net.Conn
	m *machine
}

// flows opens so many flows to the target, one after the other, and sees that they echo. They last as long as the test.
func (m *machine) flows(n int) []flow {
	m.t.Helper()
	target, err := m.VNet.Listen("tcp", "0.0.0.0:7")
	if err != nil {
		m.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer context.AfterFunc(m.t.Context(), func() { c.Close() })()
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	const here = "127.0.0.1:7007"
	tunnel := m.person().Command(context.Background(), m.bin+"/sallyport", "--transport", "https", "tunnel", "db-1:7", "--protocol", "tcp", "--listen", here)
	tunnel.Env = m.environment()
	lab.Start(m.t, tunnel)
	var open []flow
	m.t.Cleanup(func() {
		for _, f := range open {
			f.Close()
		}
		target.Close()
		serving.Wait()
	})
	for range n {
		m.eventually("a flow is open", func() error {
			c, err := m.person().DialContext(m.t.Context(), "tcp", here)
			if err != nil {
				return err
			}
			f := flow{c, m}
			if err = errors.Join(f.say(), f.hear()); err != nil {
				c.Close()
				return err
			}
			open = append(open, f)
			return nil
		})
	}
	return open
}

// echo sees that a flow lives.
func (f flow) echo() {
	f.m.t.Helper()
	if err := errors.Join(f.say(), f.hear()); err != nil {
		f.m.t.Fatal(err)
	}
}

// say writes a byte.
func (f flow) say() error {
	f.SetDeadline(time.Now().Add(limit))
	_, err := f.Write([]byte{'e'})
	return err
}

// hear waits until the byte is back.
func (f flow) hear() error {
	got := []byte{0}
	f.SetDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(f, got); err != nil || got[0] != 'e' {
		return fmt.Errorf("a flow echoes %q: %w", got, err)
	}
	return nil
}

// goesOn waits until a byte that was said is heard, and tells how long that took after what has happened.
func (f flow) goesOn(after string) {
	f.m.t.Helper()
	begin := time.Now()
	if err := f.hear(); err != nil {
		f.m.t.Fatalf("%s: %v", after, err)
	}
	f.m.t.Logf("%s: the flow goes on after %v", after, time.Since(begin).Round(10*time.Millisecond))
}

// besideMany checks that an ssh comes through beside many flows, and that they have not suffered.
func (m *machine) besideMany() {
	m.t.Helper()
	many := m.flows(200)
	m.comesIn()
	for _, f := range many {
		f.echo()
	}
}

// command has QEMU do something (QEMU Machine Protocol).
func (m *machine) command(name string, arguments map[string]any) {
	m.t.Helper()
	if err := qmp(m.dir+"/qmp", name, arguments); err != nil {
		m.t.Fatal(err)
	}
}

func qmp(path, command string, arguments map[string]any) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	answers := bufio.NewScanner(c)
	for _, ask := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}} {
		if err := json.NewEncoder(c).Encode(ask); err != nil {
			return err
		}
		for {
			if !answers.Scan() {
				return errors.Join(io.ErrUnexpectedEOF, answers.Err())
			}
			var a struct {
				Return, Error json.RawMessage
			}
			if err := json.Unmarshal(answers.Bytes(), &a); err != nil {
				return err
			}
			if a.Error != nil {
				return fmt.Errorf("QEMU refuses %s: %s", command, a.Error)
			}
			if a.Return != nil {
				break
			}
		}
	}
	return nil
}

// powerOff presses the power button, and waits until the machine has switched itself off.
func (m *machine) powerOff() {
	m.t.Helper()
	m.command("system_powerdown", map[string]any{})
	select {
	case <-m.qemu.Done():
	case <-time.After(limit):
		m.t.Fatal("the machine does not stop")
	}
}
