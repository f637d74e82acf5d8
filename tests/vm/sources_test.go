package vm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// oneDocument is a document that carries its access file, for a machine that people come to in the VNet.
func oneDocument() string {
	return document(forms[2]) + "files:\n  access.yaml: |\n" + indented(access, "    ")
}

func indented(text, by string) string {
	return strings.ReplaceAll(by+strings.TrimSpace(text), "\n", "\n"+by) + "\n"
}

// volume makes a CIDATA volume of a document and a file beside it, on a disk of QEMU's.
func (m *machine) volume(kind string) []string {
	m.t.Helper()
	m.write("access.yaml", access)
	image := filepath.Join(m.dir, "cidata")
	make := func(name string, args ...string) {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			m.t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	device := "virtio-blk-pci"
	switch kind {
	case "vfat":
		doc := m.write("sallyport.yaml", document(forms[2]))
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Truncate(image, 1<<20); err != nil {
			m.t.Fatal(err)
		}
		make("/usr/sbin/mkfs.vfat", "-n", "CIDATA", image)
		make("mcopy", "-i", image, doc, filepath.Join(m.dir, "access.yaml"), "::")
	case "iso":
		user := m.write("user-data", "#cloud-config\nhostname: other\nsallyport:\n"+indented(document(forms[2]), "  "))
		make("genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", image, user, m.write("meta-data", ""), filepath.Join(m.dir, "access.yaml"))
		device = "scsi-cd"
	}
	args := []string{"-drive", "if=none,id=cidata,format=raw,readonly=on,file=" + image}
	if device == "scsi-cd" {
		args = append(args, "-device", "virtio-scsi-pci")
	}
	return append(args, "-device", device+",drive=cidata")
}

// TestSources: the machine finds its configuration in each of the places, says where, and an ssh comes through it.
func TestSources(t *testing.T) {
	t.Parallel()
	smbios := func(parts ...string) []string {
		var args []string
		for _, p := range parts {
			args = append(args, "-smbios", "type=11,value=sallyport.config="+p)
		}
		return args
	}
	for name, s := range map[string]struct {
		from  string
		given func(m *machine) []string
	}{
		"smbios": {"SMBIOS type 11", func(m *machine) []string {
			b := base64.StdEncoding.EncodeToString([]byte(oneDocument()))
			return smbios(b[:200], b[200:])
		}},
		"vfat": {"CIDATA volume vda, sallyport.yaml", func(m *machine) []string { return m.volume("vfat") }},
		"iso":  {"CIDATA volume sr0, user-data", func(m *machine) []string { return m.volume("iso") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t, options{form: forms[2], given: s.given})
			m.console(1, `configuration from="?`+s.from)
			m.comesIn()
		})
	}
}

// azure has QEMU's firmware say that the machine is Azure's.
var azure = []string{"-smbios", "type=1,manufacturer=Microsoft Corporation", "-smbios", "type=3,asset=7783-7084-3265-9085-8269-3286-77"}

// TestCloud: a machine of a cloud's gets its configuration from the cloud's service, over the NIC that the kernel has no
// address on, and tells Azure when it serves; and no flow over that NIC reaches the service.
func TestCloud(t *testing.T) {
	t.Parallel()
	for name, tables := range map[string][]string{
		"azure": azure,
		"aws":   {"-smbios", "type=1,manufacturer=Amazon EC2"},
		"gcp":   {"-smbios", "type=1,manufacturer=Google,product=Google Compute Engine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cloud *lab.Cloud
			m := start(t, options{form: forms[2], inside: true, given: func(*machine) []string { return tables }, prepare: func(m *machine) {
				doc := strings.Replace(oneDocument(), "    admins: [ann]", "    admins: [ann]\n    address_mode: on", 1)
				doc = strings.Replace(doc, "prefixes: [10.99.0.0/16]", "prefixes: [0.0.0.0/0]\n    gateway: [10.99.0.10]", 1)
				doc = strings.TrimRight(doc, "\n") + "\n"
				doc = strings.Replace(doc, "    rules: [", "    rules: [{name: any, who: [ann], addresses: [0.0.0.0/0], protocols: [ssh], ports: [80]}, ", 1)
				cloud = m.Cloud(m.VNet.Namespace, "#cloud-config\nsallyport:\n"+indented(doc, "  "))
				m.DHCP(m.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.4/32"), Router: lab.TargetAddr4, MTU: 1460, Length: time.Hour})
			}})
			m.console(1, `configuration from="user data of `+name)
			m.comesIn()
			before, reports := cloud.Seen()
			if name == "azure" {
				m.eventually("the cloud knows that the machine is ready", func() error {
					if before, reports = cloud.Seen(); len(reports) != 1 || !strings.Contains(reports[0], "<State>Ready</State>") {
						return fmt.Errorf("%q", reports)
					}
					return nil
				})
			}
			for _, a := range []string{lab.IMDS, lab.WireServer} {
				if _, err := m.client("", "proxy", a+":80"); err == nil || !strings.Contains(err.Error(), "metadata and link-local addresses are never reachable") {
					t.Errorf("a flow to %s: %v", a, err)
				}
			}
			if after, _ := cloud.Seen(); len(after) != len(before) {
				t.Errorf("the cloud was reached from %v", after[len(before):])
			}
		})
	}
}

// TestReady: Azure is told that the machine is ready by the NIC that people come in by, be it the kernel's or a stack's.
func TestReady(t *testing.T) {
	t.Parallel()
	for _, f := range forms[:2] {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var cloud *lab.Cloud
			m := start(t, options{form: f, bare: true, qemu: azure, prepare: func(m *machine) { cloud = m.Cloud(m.Router, "") }})
			m.console(1, "the cloud knows that the machine is ready")
			if from, reports := cloud.Seen(); len(reports) != 1 || from[0].String() != f.public {
				t.Errorf("%q from %v", reports, from)
			}
		})
	}
}

// TestBrokenDocument: what is wrong with a document is told on the console, with line and column, in the file that its
// author knows; and the machine takes another once it is there.
func TestBrokenDocument(t *testing.T) {
	t.Parallel()
	m := start(t, options{form: forms[2], bare: true, config: strings.Replace(document(forms[2]), "self_signed", "self_singed", 1)})
	m.console(1, `/sallyport.yaml:2:7: unknown key .*self_singed.* in tls; did you mean .*self_signed`)
	m.console(1, "the configuration is wrong; the machine waits for another")
	m.powerOff()
}

// TestNoConfiguration: a machine that finds none shows a code on its console, takes a document from who knows it, and
// serves by that; also after somebody has pressed the reset button, for it keeps it on its disk.
func TestNoConfiguration(t *testing.T) {
	t.Parallel()
	m := start(t, options{form: forms[2], disk: true, memory: 320, starts: true, bare: true, inside: true, given: func(*machine) []string { return nil }, prepare: func(m *machine) {
		m.DHCP(m.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Length: time.Hour})
	}})
	code := m.console(1, `code: ([0-9A-Z-]{19})\r?\n`)[1]
	said := m.console(1, `this machine waits for its configuration at=(\S+) fingerprint=([0-9a-f]{64})`)
	bad := m.write("bad.yaml", strings.Replace(oneDocument(), "self_signed", "self_singed", 1))
	give := func(file string) error {
		_, err := m.client(code+"\n", "admin", "configure", "--fingerprint", said[2], "--code-file", "-", "--config", file, said[1])
		return err
	}
	if err := give(bad); err == nil || !strings.Contains(err.Error(), "sallyport.yaml:2:7: unknown key") {
		t.Errorf("a bad document: %v", err)
	}
	if err := give(m.write("good.yaml", oneDocument())); err != nil {
		t.Fatal(err)
	}
	m.console(1, "configuration from=setup")
	m.enrol()
	m.comesIn()
	m.command("system_reset", map[string]any{})
	m.console(1, `configuration from="the data partition"`)
	m.console(2, "serving listen=")
	m.comesIn()
}

// eventually tries until it goes well.
func (m *machine) eventually(what string, try func() error) {
	m.t.Helper()
	err := errors.New("not tried")
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	m.t.Fatalf("%s: not within %v: %v", what, limit, err)
}
