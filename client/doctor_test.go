package client_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/client"
	"sallyport/client/clienttest"
	"sallyport/transport"
)

// examine returns the doctor's findings by check, each as "verdict: text → hint".
func examine(t *testing.T, d *client.Doctor) (map[string]string, error) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", "")
	findings, err := d.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for _, f := range findings {
		list[f.Check] = string(f.Verdict) + ": " + f.Text
		if f.Hint != "" {
			list[f.Check] += " → " + f.Hint
		}
	}
	return list, client.FirstFault(findings)
}

func expect(t *testing.T, found map[string]string, want map[string]string) {
	t.Helper()
	for check, part := range want {
		if !strings.Contains(found[check], part) {
			t.Errorf("%s is %q, not %q", check, found[check], part)
		}
	}
}

func TestDoctor(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	found, fault := examine(t, &client.Doctor{Home: home})
	if fault != nil {
		t.Errorf("a fault: %v", fault)
	}
	expect(t, found, map[string]string{
		"name": "ok: 127.0.0.1 is an address", "proxy": "ok: the environment names none", "udp": "ok: QUIC: " + a.Address + " answers after ",
		"tcp": "ok: " + a.Address + " accepts", "tls": "certificate from itself, trusted by this appliance's own roots, until ",
		"sign-in": "as ann, over quic in ", "clock": "ok: this computer is ", "version": "appliance clienttest", "agent": "ok: none is running", "race": "ok: no transport is remembered",
	})
	expect(t, found, map[string]string{"tls": a.Fingerprint, "sign-in": "over https in "})

	running(t, &client.Agent{Home: home, Version: "v1"})
	if _, err := viaAgent(t, home, client.Options{}).Path(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, _ = examine(t, &client.Doctor{Home: home, Appliance: "https://" + a.Address})
	expect(t, found, map[string]string{"agent": "sessions: 1, flows: 0", "race": "ok: quic was faster from 127.0.0.0/24 "})
}

func TestDoctorBeforeLogin(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home, _ := client.OpenHome(filepath.Join(t.TempDir(), "home"))
	found, fault := examine(t, &client.Doctor{Home: home, Appliance: a.Address})
	if f := client.Explain(fault); f.Code != "E_APPLIANCE_CERT" {
		t.Errorf("the fault is %+v", f)
	}
	expect(t, found, map[string]string{"tls": a.Fingerprint, "sign-in": "note: this device is not signed in", "udp": "ok"})
	if _, err := (&client.Doctor{Home: home}).Examine(t.Context()); client.Explain(err).Exit() != 10 {
		t.Errorf("without an appliance: %v", err)
	}
}

func TestDoctorFaults(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{Ahead: 5 * time.Minute})
	home := signedIn(t, a)
	found, fault := examine(t, &client.Doctor{Home: home})
	if f := client.Explain(fault); f.Code != "E_CLOCK" || f.Exit() != 14 {
		t.Errorf("the fault is %+v", f)
	}
	expect(t, found, map[string]string{"clock": "fault: this computer is 5m0s behind the appliance → set this computer's clock"})
	a.Stop()

	// Only TCP answers, then nothing does.
	l, err := net.Listen("tcp", a.Address)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}()
	found, fault = examine(t, &client.Doctor{Home: home})
	if f := client.Explain(fault); f.Code != "E_NO_PATH" {
		t.Errorf("the fault is %+v", f)
	}
	expect(t, found, map[string]string{"udp": "note: QUIC: " + a.Address + ": no answer → a firewall seems to drop UDP", "tcp": "ok", "tls": "fault: what answers does not speak TLS 1.3"})
	l.Close()
	found, _ = examine(t, &client.Doctor{Home: home, Options: client.Options{Transport: transport.QUIC}})
	expect(t, found, map[string]string{"udp": "fault: ", "tcp": "fault: " + a.Address + ": connect: connection refused → nothing listens there"})
}

func TestDoctorOldCertificate(t *testing.T) {
	now := time.Now()
	a := clienttest.Start(t, clienttest.Config{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour)})
	home, _ := client.OpenHome(filepath.Join(t.TempDir(), "home"))
	found, _ := examine(t, &client.Doctor{Home: home, Appliance: a.Address})
	expect(t, found, map[string]string{"tls": "fault: the certificate of " + a.Address + " expired at "})
}
