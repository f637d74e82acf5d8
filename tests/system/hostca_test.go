package system

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/tests/lab"
)

// hostAuthority signs the host keys of machines.
func hostAuthority(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

// shows starts a real sshd with a new key that an authority has signed, for some names and until some time.
func (b *bastion) shows(port uint16, authority ssh.Signer, until time.Time, names ...string) *lab.SSHD {
	b.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		b.t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key, CertType: ssh.HostCert, KeyId: "a machine", ValidPrincipals: names,
		ValidAfter: uint64(time.Now().Add(-48 * time.Hour).Unix()), ValidBefore: uint64(until.Unix())}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		b.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.Dir, fmt.Sprintf("host-key-%x", public[:8]))
	writeFile(b.t, path, string(pem.EncodeToMemory(block)))
	writeFile(b.t, path+"-cert.pub", line(cert)+"\n")
	return b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Port: port, Config: []string{"HostKey " + path, "HostCertificate " + path + "-cert.pub"}})
}

// TestHostAuthority: a real sshd is a target by its host certificate, which must be of the authority that the access file
// names, for the target's name, and good today; its key alone does not do. For a
// target without one an administrator confirms each key, where the configuration says so.
func TestHostAuthority(t *testing.T) {
	t.Parallel()
	good, bad := hostAuthority(t), hostAuthority(t)
	b := start(t, settings{extra: "ssh: {first_use: confirm}\n", access: `
admins: [ann]
targets:
  - {name: signed, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2201}, host_ca: ["` + line(good.PublicKey()) + `"]}
  - {name: unsigned, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2202}}
rules:
  - {name: all, who: [ann], targets: [signed, unsigned], protocols: [ssh]}
`})
	tomorrow := time.Now().Add(24 * time.Hour)
	for _, c := range []struct {
		what  string
		start func() *lab.SSHD
		in    bool
	}{
		{"its certificate", func() *lab.SSHD { return b.shows(2201, good, tomorrow, "other", "signed") }, true},
		{"a certificate for another name", func() *lab.SSHD { return b.shows(2201, good, tomorrow, "unsigned") }, false},
		{"one that has expired", func() *lab.SSHD { return b.shows(2201, good, time.Now().Add(-24*time.Hour), "signed") }, false},
		{"one of another authority", func() *lab.SSHD { return b.shows(2201, bad, tomorrow, "signed") }, false},
		{"a key without one", func() *lab.SSHD { return b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Port: 2201}) }, false},
		{"a new key with a certificate", func() *lab.SSHD { return b.shows(2201, good, tomorrow, "signed") }, true},
	} {
		s := c.start()
		b.reaches(s, "signed", c.what, c.in, "signed ")
		s.Process.Stop()
	}

	// Nobody is let to the other one before an administrator has confirmed its key, and another key needs that too.
	for range 2 {
		s := b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Port: 2202})
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s.HostKey))
		if err != nil {
			t.Fatal(err)
		}
		fingerprint := ssh.FingerprintSHA256(key)
		r := b.reaches(s, "unsigned", "a key that nobody has confirmed", false, fingerprint)
		if !strings.Contains(r.stderr, "sallyport admin hostkeys confirm unsigned "+fingerprint) {
			t.Errorf("ann is told %v", r)
		}
		if r := b.client("admin", "hostkeys", "confirm", "unsigned", "SHA256:"+strings.Repeat("A", 43)); r.exit == 0 {
			t.Errorf("a key that nobody has seen is confirmed: %v", r)
		}
		b.reaches(s, "unsigned", "a key that was not confirmed", false, fingerprint)
		b.mustClient("admin", "hostkeys", "confirm", "unsigned", fingerprint)
		b.reaches(s, "unsigned", "its confirmed key", true, "")
		s.Process.Stop()
	}
	if r := b.mustClient("audit", "--json", "--event", "target.identity"); strings.Count(r.stdout, "\n") < 6 {
		t.Errorf("the audit log: %v", r)
	}
}

// reaches has ssh and sallyport ssh connect to a target, which shows something. Who may not get in is told why, and shows
// nothing of themselves.
func (b *bastion) reaches(s *lab.SSHD, target, shows string, in bool, says string) (r run) {
	b.t.Helper()
	options := []string{"-F", "none", "-i", s.KeyFile, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"}
	for name, ssh := range map[string]func() run{
		"ssh": func() run {
			return b.inClient(b.home, "", "ssh", append(options, "-o", "StrictHostKeyChecking=no", "-o", "ProxyCommand="+b.bin+"/sallyport proxy %h", "root@"+target, "echo in")...)
		},
		"sallyport ssh": func() run { return b.client(append(append([]string{"ssh"}, options...), "root@"+target, "echo in")...) },
	} {
		if !in && name != "ssh" {
			continue // TestHostKeys has that
		}
		r = ssh()
		if in && (r.exit != 0 || strings.TrimSpace(r.stdout) != "in") {
			b.t.Errorf("%s to a target that shows %s: %v\n%s", name, shows, r, b.daemon.Output())
		}
		if !in && (r.exit == 0 || !strings.Contains(r.stderr, says)) {
			b.t.Errorf("%s to a target that shows %s: %v, want %q", name, shows, r, says)
		}
	}
	if out := s.Process.Output(); !in && strings.Contains(out, "authenticating") || strings.Contains(out, "Accepted publickey") != in {
		b.t.Errorf("%s to %s: somebody got as far as showing who they are: %s", target, shows, out)
	}
	return r
}
