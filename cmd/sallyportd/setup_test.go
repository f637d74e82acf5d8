package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
)

const soundDocument = `listen: {vnet: hub}
tls: {self_signed: true}
vnets:
  hub: {link: {packet: eth0}, addresses: dhcp, prefixes: [10.0.0.0/16]}
files:
  access.yaml: |
    admins: [ann]
`

// send is a request to a setup, from an address.
func send(s *setup, from, path, kind, body string) *httptest.ResponseRecorder {
	method := http.MethodPost
	if kind == "" {
		method = http.MethodGet
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = from
	r.Header.Set("Content-Type", kind)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func configure(s *setup, from, code, document string) (int, api.Configured) {
	body, _ := json.Marshal(api.Configure{Code: code, Document: document})
	w := send(s, from, api.ConfigurePath, "application/json", string(body))
	var a api.Configured
	json.Unmarshal(w.Body.Bytes(), &a)
	return w.Code, a
}

const near = "10.0.0.9:4000"

func TestSetupPage(t *testing.T) {
	code, hash := auth.RandomCode()
	s := newSetup(hash)
	w := send(s, near, "/", "", "")
	if csp := w.Header().Get("Content-Security-Policy"); w.Code != 200 || !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") ||
		strings.Contains(w.Body.String(), "<script") || !strings.Contains(w.Body.String(), "<style>body{") {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	form := func(code, document string) *httptest.ResponseRecorder {
		return send(s, near, "/", "application/x-www-form-urlencoded", url.Values{"code": {code}, "document": {strings.ReplaceAll(document, "\n", "\r\n")}}.Encode())
	}
	w = form(code, "listen: {vnet: hub}\n<script>")
	if w.Code != 422 || !strings.Contains(w.Body.String(), "<li>sallyport.yaml:2:") || strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w = form(strings.ToLower(code), soundDocument); w.Code != 200 || !strings.Contains(w.Body.String(), "It is taken") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := <-s.taken; string(got) != soundDocument {
		t.Errorf("%q", got)
	}
}

func TestSetupIsForOne(t *testing.T) {
	code, hash := auth.RandomCode()
	s := newSetup(hash)
	if status, a := configure(s, near, code, strings.Replace(soundDocument, "self_signed", "self_singed", 1)); status != 422 || len(a.Faults) == 0 || !strings.HasPrefix(a.Faults[0], "sallyport.yaml:2:") {
		t.Errorf("%d %+v", status, a)
	}
	if status, a := configure(s, near, code, strings.Replace(soundDocument, "admins: [ann]", "admins: ann", 1)); status != 422 || len(a.Faults) == 0 || !strings.HasPrefix(a.Faults[0], "access.yaml:1:") {
		t.Errorf("%d %+v", status, a)
	}
	if status, a := configure(s, near, code, soundDocument); status != 200 {
		t.Errorf("%d %+v", status, a)
	}
	if status, a := configure(s, near, code, soundDocument); status != 409 {
		t.Errorf("a second one: %d %+v", status, a)
	}
}

func TestSetupGuesses(t *testing.T) {
	code, hash := auth.RandomCode()
	s := newSetup(hash)
	wrong, _ := auth.RandomCode()
	for i := range setupGuesses {
		if status, a := configure(s, near, wrong, "x"); status != 403 || a.Faults != nil {
			t.Fatalf("guess %d: %d %+v", i, status, a)
		}
	}
	if status, _ := configure(s, near, code, soundDocument); status != 429 {
		t.Errorf("the right code after too many wrong ones: %d", status)
	}
	// One who has all addresses of a network is one; and there are only so many.
	for i := range setupGuesses + 1 {
		if status, _ := configure(s, fmt.Sprintf("[2001:db8::%x]:1", i), wrong, ""); (status == 429) != (i == setupGuesses) {
			t.Errorf("guess %d: %d", i, status)
		}
	}
	for i := range setupPlaces {
		configure(s, fmt.Sprintf("10.1.%d.%d:1", i>>8, i&255), wrong, "")
	}
	if status, _ := configure(s, "10.2.0.1:1", code, soundDocument); status != 429 {
		t.Errorf("from one more place: %d", status)
	}
	if status, _ := configure(s, "10.1.0.5:1", code, soundDocument); status != 200 {
		t.Errorf("from a place with one wrong guess: %d", status)
	}
	s = newSetup(hash)
	s.until = time.Now().Add(-time.Second)
	if status, a := configure(s, near, code, soundDocument); status != 403 || !strings.Contains(a.Error, "expired") {
		t.Errorf("an old code: %d %+v", status, a)
	}
	if w := send(s, near, api.ConfigurePath, "application/json", `{"code":"`+strings.Repeat("x", setupBody)+`"}`); w.Code != 400 {
		t.Errorf("a long request: %d", w.Code)
	}
	if w := send(s, near, "/metrics", "", ""); w.Code != 404 {
		t.Errorf("another page: %d", w.Code)
	}
}

// TestSetupSilence: who opens connections and says nothing keeps nobody out who comes from elsewhere.
func TestSetupSilence(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limit(inner)
	defer l.Close()
	accepted := make(chan net.Conn, setupConns)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func(from string) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	for range setupConns + 1 {
		dial("127.0.0.1")
	}
	dial("127.0.0.2")
	for range setupShare {
		c := <-accepted
		if place(c.RemoteAddr().String()) != place("127.0.0.1:1") {
			t.Errorf("%s is served before who came first", c.RemoteAddr())
		}
		defer c.Close()
	}
	select {
	case c := <-accepted:
		if place(c.RemoteAddr().String()) != place("127.0.0.2:1") {
			t.Errorf("%s has more than its share", c.RemoteAddr())
		}
		c.Close()
	case <-time.After(time.Minute):
		t.Error("who came from elsewhere is not served")
	}
}

// TestBrowserFingerprint: the console shows what people can compare with what they see.
func TestBrowserFingerprint(t *testing.T) {
	cert, err := auth.SelfSignedOnce([]string{"10.0.0.4"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	openssl := exec.Command("openssl", "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256")
	openssl.Stdin = bytes.NewReader(cert.Leaf.Raw)
	want, err := openssl.Output()
	if err != nil && os.Geteuid() == 0 {
		t.Fatal(err) // tests/packages.sh installs it
	}
	if err != nil {
		t.Skip(err)
	}
	if got := browserFingerprint(cert.Leaf); !strings.HasSuffix(strings.TrimSpace(string(want)), "="+got) {
		t.Errorf("%s, and openssl says %s", got, want)
	}
}
