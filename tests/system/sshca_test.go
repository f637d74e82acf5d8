package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/tests/lab"
)

const certifiedAccess = `
admins: [ann]
targets:
  - {name: certified, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2201}}
  - {name: other-user, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2202}}
rules:
  - {name: root there, who: [ann], targets: [certified], protocols: [ssh], principals: [root]}
  - {name: not root, who: [ann], targets: [other-user], protocols: [ssh]}
`

// TestSSHCertificates: a real sshd that trusts the appliance's authority and knows nobody's key lets in whom the policy
// names, by a rotated key too, and nobody by a name that it does not give.
func TestSSHCertificates(t *testing.T) {
	t.Parallel()
	b := start(t, settings{access: certifiedAccess})
	config := filepath.Join(b.dir, "sallyport.yaml")
	trusted := filepath.Join(b.Dir, "trusted")
	trust := func(lines string) {
		t.Helper()
		if err := os.WriteFile(trusted, []byte(lines), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() string {
		t.Helper()
		return string(b.Appliance.Run(b.bin+"/sallyportd", "ca-key", "--config", config))
	}
	first := keys()
	trust(first)
	for _, port := range []uint16{2201, 2202} {
		b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Port: port, Config: []string{"TrustedUserCAKeys " + trusted, "AuthorizedKeysFile none"}})
	}
	login := func(target string) run {
		t.Helper()
		return b.client("ssh", "-F", "none", "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile="+filepath.Join(b.Dir, "known"), "-o", "BatchMode=yes", "root@"+target, "echo in")
	}
	if r := login("certified"); r.exit != 0 || strings.TrimSpace(r.stdout) != "in" {
		t.Fatalf("with a certificate: %v\n%s", r, b.daemon.Output())
	}
	if r := login("other-user"); r.exit == 0 {
		t.Errorf("ann's certificate is not for root, and root is in: %v", r)
	}
	b.Appliance.Run(b.bin+"/sallyportd", "ca-rotate", "--config", config, "--overlap", "1h")
	if both := keys(); !strings.HasSuffix(both, first) || strings.Count(both, "\n") != 2 {
		t.Errorf("during the overlap: %q", both)
	}
	if r := login("certified"); r.exit != 0 {
		t.Errorf("during the overlap a target that has the first key only: %v", r)
	}
	trust("") // which a target forgets
	if r := login("certified"); r.exit == 0 {
		t.Errorf("a target that does not trust the authority: %v", r)
	}
}

// TestHostKeys: a real sshd's key is pinned, by each method of key exchange, and another in its place is a hard stop for
// sallyport ssh and for plain ssh.
func TestHostKeys(t *testing.T) {
	t.Parallel()
	b := start(t, settings{access: certifiedAccess})
	s := b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Port: 2201})
	try := func(kex, known string) run {
		t.Helper()
		return b.inClient(b.home, "", "ssh", "-F", "none", "-i", s.KeyFile, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "KexAlgorithms="+kex,
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile="+known, "-o", "ProxyCommand="+b.bin+"/sallyport proxy %h", "root@certified", "echo in")
	}
	for _, kex := range []string{"curve25519-sha256", "sntrup761x25519-sha512@openssh.com", "diffie-hellman-group-exchange-sha256",
		"ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"} {
		if r := try(kex, "/dev/null"); r.exit != 0 {
			t.Errorf("%s: %v\n%s", kex, r, b.daemon.Output())
		}
		list := b.client("admin", "hostkeys", "--json")
		if r := b.client("known-hosts", "certified"); !strings.Contains(r.stdout, s.HostKey) || strings.Count(list.stdout, "SHA256:") != 1 {
			t.Errorf("%s: known by %v %v", kex, r, list)
		}
		b.client("admin", "hostkeys", "forget", "certified")
	}
	if r := try("curve25519-sha256", "/dev/null"); r.exit != 0 {
		t.Fatalf("%v", r)
	}
	s.Process.Stop()
	s = b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Port: 2201})
	r := try("curve25519-sha256", "/dev/null")
	if r.exit != 255 || !strings.Contains(r.stderr, "certified shows another host key") {
		t.Errorf("plain ssh at another machine: %v", r)
	}
	r = b.client("ssh", "-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "root@certified", "echo in")
	if r.exit == 0 || !strings.Contains(r.stderr, "certified shows another host key") {
		t.Errorf("sallyport ssh at another machine: %v", r)
	}
	if out := s.Process.Output(); strings.Contains(out, "authenticating") {
		t.Errorf("somebody got as far as showing who they are: %s", out)
	}
	if events := b.client("audit", "--json"); !strings.Contains(events.stdout, fmt.Sprintf("%q", "target.identity")) {
		t.Errorf("the audit log: %v", events)
	}
}
