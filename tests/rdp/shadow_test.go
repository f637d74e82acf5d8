package rdp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/hostkey"
	"sallyport/tests/lab"
)

// folder is one that everybody may write to.
func (b *bastion) folder() string {
	b.t.Helper()
	dir := filepath.Join(b.Dir, "exchange")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// shadow starts FreeRDP's server, whose desktop writes down what is typed.
func (b *bastion) shadow(o lab.ShadowOptions) (*lab.Shadow, string) {
	typed := filepath.Join(b.folder(), "typed")
	o.Program = []string{"sh", "-c", fmt.Sprintf("echo SHADOW DESKTOP; while read line; do echo $line > %s; done", typed)}
	return b.Shadow(b.VNet.Namespace, o), typed
}

// TestShadow: network level authentication, by the appliance and by the browser, with the right password and a wrong one.
func TestShadow(t *testing.T) {
	b := newBastion(t, "{}", "")
	s, typed := b.shadow(lab.ShadowOptions{})

	b.connect(login{User: s.User, Password: "something else"})
	if m := b.notice(); m.Code != "E_TARGET_AUTH" || m.Sentence != "desk-1 refused the log-on: the target does not accept this user and password" {
		t.Errorf("a wrong password: %+v", m)
	}
	if m := b.shown(); !m.First || len(m.Certificate) != len("sha256:")+64 {
		t.Errorf("with a wrong password the certificate is %+v", m)
	}

	b.connect(login{User: s.User, Password: s.Password})
	b.sees("SHADOW DESKTOP")
	if m, shown := b.opened(), b.shown(); m.CredSSP != "appliance" || shown.First || len(shown.Certificate) != len("sha256:")+64 {
		t.Errorf("it is open as %+v, with the certificate %+v", m, shown)
	}
	b.browser.Run("desk.click(200, 200)")
	b.browser.Run(`desk.type("typed in a browser\n")`)
	b.file(typed, "typed in a browser")
	b.sound()

	b.connect(login{User: s.User, Password: s.Password, Browser: true})
	b.sees("SHADOW DESKTOP")
	if m := b.opened(); m.CredSSP != "browser" {
		t.Errorf("it is open as %+v", m)
	}
}

// TestShadowTLS: a server without network level authentication.
func TestShadowTLS(t *testing.T) {
	b := newBastion(t, "{}", "")
	s, typed := b.shadow(lab.ShadowOptions{TLS: true})
	b.connect(login{User: s.User, Password: s.Password})
	b.sees("SHADOW DESKTOP")
	if m := b.opened(); m.CredSSP != "off" {
		t.Errorf("it is open as %+v", m)
	}
	b.browser.Run("desk.click(200, 200)")
	b.browser.Run(`desk.type("over tls\n")`)
	b.file(typed, "over tls")

	b.connect(login{User: s.User, Password: s.Password, Browser: true})
	if m := b.notice(); m.Code != "E_RDP_SECURITY" {
		t.Errorf("the browser's CredSSP with a server that has none: %+v", m)
	}
}

// TestCertificate: a target whose certificate is another than before is a hard stop, until somebody confirms it.
func TestCertificate(t *testing.T) {
	b := newBastion(t, "{}", "")
	s, _ := b.shadow(lab.ShadowOptions{TLS: true})
	b.connect(login{User: s.User})
	b.sees("SHADOW DESKTOP")
	shown := b.shown().Certificate
	if list := b.pins.List("rdp:desk-1"); len(list) != 1 || list[0].Fingerprint() != shown {
		t.Fatalf("pinned are %+v, shown was %s", list, shown)
	}
	if err := b.pins.Forget(t.Context(), "rdp:desk-1"); err != nil {
		t.Fatal(err)
	}
	other := selfSigned(t)
	if err := b.pins.Check(t.Context(), "rdp:desk-1", other); err != nil {
		t.Fatal(err)
	}
	b.connect(login{User: s.User})
	want := "desk-1 shows another certificate than it is known by: " + shown + ", and not " + hostkey.Fingerprint(other)
	if m := b.notice(); m.Code != "E_TARGET_IDENTITY" || m.Sentence != want || !strings.HasSuffix(m.Hint, "sallyport admin hostkeys confirm rdp:desk-1 "+shown) {
		t.Errorf("another certificate: %+v, want %s", m, want)
	}
	if events := b.book.of(audit.TargetIdentity); len(events) != 1 || events[0].Detail["shown"] != shown {
		t.Errorf("written down are %+v", events)
	}
	if err := b.pins.Confirm(t.Context(), "rdp:desk-1", shown, "ann"); err != nil {
		t.Fatal(err)
	}
	b.connect(login{User: s.User})
	b.sees("SHADOW DESKTOP")

	b.policy("{certificate: 'sha256:"+strings.Repeat("ab", 32)+"'}", "")
	b.connect(login{User: s.User})
	if m := b.notice(); m.Code != "E_TARGET_IDENTITY" || !strings.Contains(m.Hint, "rdp.certificate") {
		t.Errorf("another certificate than is written down: %+v", m)
	}
	b.policy("{certificate: '"+shown+"'}", "")
	b.connect(login{User: s.User})
	b.sees("SHADOW DESKTOP")
}

func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestIdle: a desktop on which something moves by itself is idle when nobody touches it.
func TestIdle(t *testing.T) {
	b := newBastion(t, "{}", "")
	b.idle = 8 * time.Second
	b.policy("{}", "")
	s := b.Shadow(b.VNet.Namespace, lab.ShadowOptions{TLS: true, Program: []string{"sh", "-c", "while date +%s; do sleep 1; done"}})
	b.connect(login{User: s.User})
	b.until("desktop", time.Minute, func() bool { return b.browser.Run("desk.state") == "open" })
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Second) {
		b.browser.Run("desk.click(200, 200)")
	}
	if state := b.browser.Run("desk.state"); state != "open" {
		t.Fatalf("a desktop that somebody uses is %s, and heard %+v", state, b.heard)
	}
	begin := time.Now()
	if m := b.notice(); m.Code != "E_IDLE" || m.Sentence != "nobody has touched keyboard or mouse for 8s" || time.Since(begin) < 6*time.Second {
		t.Errorf("after %v: %+v", time.Since(begin), m)
	}
}
