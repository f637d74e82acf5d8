package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestBusyPort: where the asked port is taken, by TCP or by UDP alone, the demo has another, the same for both.
func TestBusyPort(t *testing.T) {
	tcp, udp, err := listenBoth("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	asked := tcp.Addr().String()
	for _, busy := range []string{"TCP and UDP", "UDP"} {
		tcp2, udp2, err := listenBoth(asked)
		if err != nil {
			t.Fatalf("%s: %v", busy, err)
		}
		if got := tcp2.Addr().String(); got == asked || got != udp2.LocalAddr().String() {
			t.Errorf("%s of %s busy: listens on %s and %v", busy, asked, got, udp2.LocalAddr())
		}
		tcp2.Close()
		udp2.Close()
		tcp.Close()
	}
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// certified is a new key with a certificate of an authority's for ann.
func certified(t *testing.T, authority ssh.Signer) ssh.Signer {
	t.Helper()
	key := newKey(t)
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"ann"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// TestMachine: a demo machine opens to certificates of the authority that it trusts, for the user that they name, and to
// nothing else. It forwards nothing, and its shell has a terminal of the asked size.
func TestMachine(t *testing.T) {
	m, err := newMachine("demo-1")
	if err != nil {
		t.Fatal(err)
	}
	authority := newKey(t)
	good := certified(t, authority)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.serve(l)
	}()
	defer func() {
		l.Close()
		<-done
	}()
	dial := func(user string, key ssh.Signer) (*ssh.Client, error) {
		return ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
			HostKeyCallback: ssh.FixedHostKey(m.host)})
	}
	refused := func(what, user string, key ssh.Signer) {
		t.Helper()
		if c, err := dial(user, key); err == nil {
			c.Close()
			t.Errorf("%s opens it", what)
		}
	}
	refused("a certificate of an authority that it does not know yet", "ann", good)
	m.trust([]ssh.PublicKey{authority.PublicKey()})
	refused("another authority's certificate", "ann", certified(t, newKey(t)))
	refused("a certificate for another user", "bob", good)
	refused("a key alone", "ann", newKey(t))
	c, err := dial("ann", good)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if forwarded, err := c.Dial("tcp", l.Addr().String()); err == nil {
		forwarded.Close()
		t.Error("it forwards")
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestPty("dumb", 33, 77, nil); err != nil {
		t.Fatal(err)
	}
	out, err := s.CombinedOutput("test -t 0 && echo $TERM on $SALLYPORT_DEMO; stty size; exit 5")
	exit, _ := err.(*ssh.ExitError)
	if got := strings.ReplaceAll(string(out), "\r", ""); exit == nil || exit.ExitStatus() != 5 || got != "dumb on demo-1\n33 77\n" {
		t.Errorf("the shell says %q, %v", got, err)
	}
}
