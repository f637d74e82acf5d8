package deploy

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/image"
	"sallyport/tests/lab"
)

const script = "libvirt/deploy.sh"

// patience is for what takes seconds where there is KVM: an emulated processor on a busy machine takes longer.
const patience = 10 * time.Minute

// need fails the test where a program is missing that tests/packages.sh installs, if it could have been installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if _, err := os.Stat("/usr/sbin/" + p); err == nil {
			continue
		}
		if os.Getuid() == 0 {
			t.Fatalf("there is no %s; make packages installs it", p)
		}
		t.Skipf("there is no %s", p)
	}
}

// run runs a program to its end, and returns what it printed to both.
func run(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestScript(t *testing.T) {
	need(t, "shellcheck")
	if out, err := run(t, nil, "shellcheck", script); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDomain looks at the XML with libvirt's own schema.
func TestDomain(t *testing.T) {
	need(t, "virt-xml-validate", "xmllint")
	for _, c := range []struct {
		name string
		args []string
		want []string // lines that are there
		not  []string
	}{
		{"as it stands", nil,
			[]string{"<domain type='kvm'>", "<name>sallyport</name>", "bridge='br-public'", "bridge='br-private'", "/var/lib/libvirt/images/sallyport.qcow2"}, nil},
		{"one NIC on a network", []string{"--name", "a-1", "--public", "none", "--private", "network:default", "--dir", "/srv/vm", "--memory", "256", "--cpus", "1", "--type", "qemu"},
			[]string{"<domain type='qemu'>", "<name>a-1</name>", ">256</memory>", ">1</vcpu>", "type='network'><source network='default'", "/srv/vm/a-1.qcow2", "/srv/vm/a-1-config.img", "/srv/vm/a-1.log", "mode='maximum'"},
			[]string{"bridge='", "images", "host-model"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := run(t, nil, script, append(c.args, "--print")...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("no %s in\n%s", w, out)
				}
			}
			for _, n := range c.not {
				if strings.Contains(out, n) {
					t.Errorf("%s in\n%s", n, out)
				}
			}
			file := filepath.Join(t.TempDir(), "domain.xml")
			if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := run(t, nil, "virt-xml-validate", file, "domain"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestScriptRefuses(t *testing.T) {
	for _, c := range []struct {
		args, want string
	}{
		{"--nam x", `deploy.sh: there is no option --nam; --help lists them`},
		{"--name", `deploy.sh: --name wants a value`},
		{"--name ../x --print", `deploy.sh: --name "../x" is not a name`},
		{"--name a<b --print", `deploy.sh: --name "a<b" may have letters, digits and . _ / : - only`},
		{"--dir here --print", `deploy.sh: --dir "here" must begin with /`},
		{"--memory much --print", `deploy.sh: --memory "much" is not a number`},
		{"--public eth0 --print", `deploy.sh: --public "eth0" must be bridge:NAME or network:NAME`},
		{"--private none --print", `deploy.sh: --private "none" must be bridge:NAME or network:NAME`},
		{"--type xen --print", `deploy.sh: --type is kvm or qemu`},
	} {
		out, err := run(t, nil, script, strings.Fields(c.args)...)
		if err == nil || strings.TrimSpace(out) != c.want {
			t.Errorf("%s: %v, %s\nwant %s", c.args, err, out, c.want)
		}
	}
	out, err := run(t, nil, script, "image")
	if err == nil || !strings.HasPrefix(out, "usage: deploy.sh") {
		t.Errorf("no configuration: %v\n%s", err, out)
	}
}

// libvirtd is a daemon of the test's own. Its folders, users, bridges and processes are its own too: it touches nothing of
// this machine, and ends with all that it has started.
const libvirtd = `set -eu
mount -t sysfs sysfs /sys
cp /etc/passwd "$1/passwd"
cp /etc/group "$1/group"
if ! grep -q ^libvirt-qemu: /etc/passwd; then # Debian's libvirt-daemon-system makes this user
	echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' >>"$1/passwd"
	echo 'libvirt-qemu:x:64055:' >>"$1/group"
fi
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
for folder in /run/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt; do
	mkdir -p $folder
	mount -t tmpfs tmpfs $folder
done
for bridge in br-public br-private; do
	ip link add $bridge type bridge
	ip link set $bridge up
done
cat >"$1/libvirtd.conf" <<END
unix_sock_dir = "$1"
auth_unix_rw = "none"
END
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
END
libvirtd -f "$1/libvirtd.conf" -p "$1/libvirtd.pid" &
wait # as the namespace's first process it reaps what QEMU leaves behind, for which libvirtd waits
`

// A libvirt is a libvirtd of the test's.
type libvirt struct {
	dir string   // where its sockets are, and disks may be
	env []string // in which virsh finds it
	pid int      // of a process in its network namespace
}

// startLibvirt runs a libvirtd until the test ends.
func startLibvirt(t *testing.T) (l *libvirt) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("libvirt with bridges needs root")
	}
	need(t, "libvirtd", "virsh", "qemu-img", "qemu-system-x86_64", "mkfs.vfat", "mcopy", "unshare", "ip")
	dir, err := os.MkdirTemp("", "sallyport-libvirt") // the path of a socket has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	daemon := lab.Start(t, exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", libvirtd, "sh", dir))
	l = &libvirt{dir: dir, pid: daemon.Process.Pid, env: []string{"LIBVIRT_DEFAULT_URI=qemu:///system?socket=" + filepath.Join(dir, "libvirt-sock")}}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		out, err := run(t, l.env, "virsh", "uri")
		if err == nil {
			return l
		}
		select {
		case <-daemon.Done():
			t.Fatalf("libvirtd ended:\n%s", daemon.Output())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirtd does not answer: %v\n%s", err, out)
		}
	}
}

// TestLibvirt has the script define, start and remove a domain by a real libvirt and QEMU. The disk is empty: its firmware
// says on the console that it looked there.
func TestLibvirt(t *testing.T) {
	l := startLibvirt(t)
	env, dir := l.env, l.dir
	disk := filepath.Join(dir, "image.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--type", "qemu", "--dir", dir, "--disk", "64M", disk, "samples/two-nics.yaml", "samples/access.yaml"}
	out, err := run(t, env, script, args...)
	if err != nil || out != "started sallyport; virsh console sallyport shows what it says\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	console := filepath.Join(dir, "sallyport.log")
	waitFor(t, console, "BdsDxe: failed to load")
	if out, err := run(t, env, "virsh", "domiflist", "sallyport"); err != nil || !regexp.MustCompile(`(?s)br-public.*br-private`).MatchString(out) {
		t.Errorf("interfaces: %v\n%s", err, out)
	}
	volume := filepath.Join(dir, "sallyport-config.img")
	for name, from := range map[string]string{"sallyport.yaml": "two-nics.yaml", "access.yaml": "access.yaml"} {
		want, _ := os.ReadFile("samples/" + from)
		got, err := exec.Command("mtype", "-i", volume, "::"+name).Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s on the volume: %v\n%s", name, err, got)
		}
	}
	if info, err := os.Stat(volume); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the volume has secrets, and mode %v, %v", info.Mode(), err)
	}
	if out, err := run(t, env, script, args...); err == nil || !strings.Contains(out, `there is a domain "sallyport" already`) {
		t.Errorf("a second one of the name: %v\n%s", err, out)
	}
	if out, err := run(t, env, script, "--remove", "sallyport"); err != nil || out != "removed sallyport\n" {
		t.Errorf("remove: %v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "sallyport*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if out, err := run(t, env, script, "--remove", "sallyport"); err == nil || !strings.Contains(out, `there is no domain "sallyport"`) {
		t.Errorf("remove what is gone: %v\n%s", err, out)
	}

	out, err = run(t, env, script, append([]string{"--private", "bridge:nowhere"}, args...)...)
	if err == nil || !strings.Contains(out, "nowhere") {
		t.Errorf("no such bridge: %v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "sallyport*")); len(left) > 0 {
		t.Errorf("left behind by a start that failed: %v", left)
	}
	if out, _ := run(t, env, "virsh", "list", "--all", "--name"); strings.TrimSpace(out) != "" {
		t.Errorf("defined after a start that failed: %s", out)
	}
}

// TestLibvirtImage has the script bring the real image onto a real libvirt, where it boots by UEFI from the disk, finds its
// configuration on the volume and answers on its own stack.
func TestLibvirtImage(t *testing.T) {
	if testing.Short() {
		t.Skip("boots an image")
	}
	l := startLibvirt(t)
	disk := builtDisk(t)
	inside := "--net=/proc/" + strconv.Itoa(l.pid) + "/ns/net"
	if out, err := run(t, nil, "nsenter", inside, "ip", "address", "add", "10.99.0.10/16", "dev", "br-private"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sample, err := os.ReadFile("samples/one-nic.yaml")
	if err != nil {
		t.Fatal(err)
	}
	written := strings.NewReplacer("addresses: dhcp", "addresses: [10.99.0.4/16]", "10.0.0.0/16", "10.99.0.0/16").Replace(string(sample))
	configuration := filepath.Join(l.dir, "mine.yaml")
	if err := os.WriteFile(configuration, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	said, err := run(t, l.env, script, "--type", "qemu", "--dir", l.dir, "--public", "none", "--memory", "384", disk, configuration, "samples/access.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	console := filepath.Join(l.dir, "sallyport.log")
	waitFor(t, console, "CIDATA volume vdb, sallyport.yaml")
	waitFor(t, console, "sallyport worker: serving")
	t.Logf("it serves %v after deploy.sh began", time.Since(begin).Round(time.Second))
	answer, err := run(t, nil, "nsenter", inside, "curl", "-sSk", "--max-time", "30", "https://10.99.0.4/readyz")
	if err != nil || strings.TrimSpace(answer) != "ready" {
		t.Errorf("readyz: %v, %q", err, answer)
	}
	if out, err := run(t, l.env, "virsh", "shutdown", "sallyport"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		state, err := run(t, l.env, "virsh", "domstate", "sallyport")
		if err == nil && strings.TrimSpace(state) == "shut off" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the power button did not end it: %s %v", state, err)
		}
	}
	if out, err := run(t, l.env, script, "--remove", "sallyport"); err != nil {
		t.Errorf("remove: %v\n%s", err, out)
	}
}

var imageDir string // where built has put it; empty before

var built = sync.OnceValue(func() (err error) {
	if imageDir, err = os.MkdirTemp("", "sallyport-image-"); err != nil {
		return err
	}
	_, err = image.Build(context.Background(), image.Options{Flavour: "kvm", Version: "1.0.0", Out: imageDir})
	return err
})

// builtDisk is a disk of the real image, made once for all tests.
func builtDisk(t *testing.T) string {
	t.Helper()
	need(t, "qemu-img")
	if err := built(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(imageDir, "sallyport-1.0.0-kvm.qcow2")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if imageDir != "" {
		os.RemoveAll(imageDir)
	}
	os.Exit(code)
}

// TestPlainQEMU runs the command that docs/deploy.md has, as it stands there but for places and the port.
func TestPlainQEMU(t *testing.T) {
	if testing.Short() {
		t.Skip("boots an image")
	}
	need(t, "qemu-system-x86_64", "qemu-img")
	docs, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^    qemu-system-x86_64 .*\\\n(      .*\\\n)*      .*$`).FindString(string(docs))
	if command == "" {
		t.Fatal("docs/deploy.md has no such command")
	}
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := run(t, nil, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", builtDisk(t), disk); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	for _, change := range [][2]string{
		{"bin/sallyport-1.0.0-kvm.qcow2", disk}, {"127.0.0.1:8443", address}, {"image/deploy/", ""},
		{"accel=kvm:tcg", "accel=tcg"}, // a KVM that is there need not work
	} {
		if !strings.Contains(command, change[0]) {
			t.Errorf("the command has no %s", change[0])
		}
		command = strings.ReplaceAll(command, change[0], change[1])
	}
	qemu := lab.Start(t, exec.Command("sh", "-c", "exec "+strings.TrimSpace(command)))
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		said := qemu.Output()
		if strings.Contains(said, "the VNet has an address by DHCP") && strings.Contains(said, "sallyport login ") { // and shows by which line to enrol
			break
		}
		select {
		case <-qemu.Done():
			t.Fatalf("QEMU has ended: %v", qemu.Wait())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not serve, or shows no line by which to enrol")
		}
	}
	answer, err := run(t, nil, "curl", "-sSk", "--max-time", "60", "--retry", "5", "--retry-all-errors", "https://"+address+"/readyz")
	if err != nil || !strings.HasSuffix(strings.TrimSpace(answer), "ready") {
		t.Errorf("readyz: %v, %q", err, answer)
	}
}

// waitFor waits until the file has the text.
func waitFor(t *testing.T, file, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		data, err := os.ReadFile(file)
		if bytes.Contains(data, []byte(text)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %s, %v:\n%s", text, file, err, data)
		}
	}
}
