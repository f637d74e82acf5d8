package appliance

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/frame"
)

// TestRevokedWhileConnected: a device that is revoked while its connection stands opens nothing more on it, and what it
// has open for the API answers no more.
func TestRevokedWhileConnected(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	code, err := s.reg.NewCode("ann", time.Minute, auth.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	device, err := s.reg.Enrol(auth.Enrolment{Code: code, Key: key, Name: "laptop", Source: s.peer.Remote.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	s.peer.Device = device.ID
	stop := s.reg.OnChange(func(d auth.Device, why error) { s.EndDevice(d.ID, why) })
	defer stop()

	questions, _, err := s.open(frame.OpenRequest{Protocol: "api"})
	if err != nil {
		t.Fatal(err)
	}
	defer questions.Close()
	answers := bufio.NewReader(questions)
	ask := func() string {
		t.Helper()
		io.WriteString(questions, "GET /api/v1/devices HTTP/1.1\r\nHost: appliance\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	if body := ask(); !strings.Contains(body, device.ID) {
		t.Fatalf("before: %s", body)
	}
	f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if err != nil {
		t.Fatal(err)
	}
	speak(t, f, "SSH-2.0-client\r\n")

	if err := s.reg.Revoke(device.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(f); codeOf(err) != frame.Code(auth.ErrRevoked.Code) {
		t.Errorf("the open flow ended with %v", err)
	}
	if body := ask(); !strings.Contains(body, auth.ErrRevoked.Code) {
		t.Errorf("the API answers a revoked device: %s", body)
	}
	for _, req := range []frame.OpenRequest{{Target: "db-1", Protocol: "ssh"}, {Protocol: "api"}} {
		if f, _, err := s.open(req); err == nil && req.Protocol != "api" || err != nil && codeOf(err) != frame.Code(auth.ErrRevoked.Code) {
			t.Errorf("%s opens, %v", req.Protocol, err)
		} else if err == nil {
			f.Close()
		}
	}
}
