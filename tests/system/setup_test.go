package system

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestSetup: a machine without a configuration takes one from whoever has its console, says what is wrong with it, and has
// nothing else open.
func TestSetup(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	b := &bastion{Lab: l, t: t, bin: bin, home: filepath.Join(l.Dir, "home")}
	inside := *l
	inside.Client = l.VNet.Namespace
	b.Lab = &inside
	l.DHCP(l.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Length: time.Hour})
	mac := l.Appliance.NIC(l.VNet.Interface).HardwareAddr
	cmd := l.Appliance.Command(context.Background(), bin+"/sallyportd", "setup", "--interface", l.VNet.Interface, "--run-dir", filepath.Join(l.Dir, "run"))
	var document strings.Builder
	cmd.Stdout = &document
	p := lab.Start(t, cmd)
	said := regexp.MustCompile(`(?s)code: (\S+)\n.*msg="this machine waits for its configuration" at=(\S+) fingerprint=(\S+)`)
	var code, url, fingerprint string
	b.eventually(20*time.Second, "it says where it waits", func() error {
		m := said.FindStringSubmatch(p.Output())
		if m == nil {
			return errors.New(p.Output())
		}
		code, url, fingerprint = m[1], m[2], m[3]
		return nil
	})
	if url != "https://10.99.0.50:443" {
		t.Errorf("it waits at %s", url)
	}
	const good = "listen: {vnet: hub}\ntls: {self_signed: true}\nvnets:\n  hub: {link: {packet: eth0}, addresses: dhcp, prefixes: [10.99.0.0/16]}\nfiles:\n  access.yaml: |\n    admins: [ann]\n"
	write := func(name, text string) string {
		path := filepath.Join(l.Dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	give := func(file, pin, code string) run {
		return b.as(b.home, code+"\n", "admin", "configure", url, "--fingerprint", pin, "--code-file", "-", "--config", file)
	}
	file := write("good.yaml", good)
	if r := give(file, strings.Repeat("0", 64), code); r.exit != 14 || !strings.Contains(r.stderr, "another key than the pinned one") {
		t.Errorf("another fingerprint: %v", r)
	}
	if r := give(file, fingerprint, "AAAA-AAAA-AAAA-AAAA"); r.exit != 10 || !strings.Contains(r.stderr, "that is not the code") {
		t.Errorf("a wrong code: %v", r)
	}
	bad := write("bad.yaml", strings.Replace(good, "admins: [ann]", "admins: [ann]\n    rules: 7", 1)+"banner: 7\n")
	if r := give(bad, fingerprint, code); r.exit != 1 || !strings.Contains(r.stderr, "sallyport: access.yaml:2:8: ") || !strings.Contains(r.stderr, "sallyport: sallyport.yaml:9:9: ") {
		t.Errorf("a bad document: %v", r)
	}
	if r := b.inClient(b.home, "", "curl", "--silent", "--show-error", "--insecure", "--max-time", "10", "--include", url+"/"); r.exit != 0 ||
		!strings.Contains(r.stdout, "This machine has no configuration") || !strings.Contains(strings.ToLower(r.stdout), "content-security-policy: default-src 'none'") {
		t.Errorf("the page: %v", r)
	}
	for at, answer := range l.Scan(lab.Scan{From: l.VNet.Namespace, NIC: "eth0", MAC: mac, Addrs: []netip.Addr{netip.MustParseAddr("10.99.0.50")}}) {
		if at.Port() != 443 {
			t.Errorf("%v is %s", at, answer)
		}
	}
	if r := give(file, fingerprint, code); r.exit != 0 || r.stderr != "sallyport: the machine has taken it, and serves with it in a moment\n" {
		t.Errorf("a good document: %v", r)
	}
	if err := p.Wait(); err != nil || document.String() != good {
		t.Errorf("%v, %q\n%s", err, document.String(), p.Output())
	}
	if strings.Count(p.Output(), code) != 1 {
		t.Error("the code stands in the log")
	}
}
