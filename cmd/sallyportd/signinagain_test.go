package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/client"
)

// again signs a device in that has signed in: its flow goes on, and so does everything else, by the new sign-in.
func (e *entrance) again(home client.Home, flow client.Flow, sign func(*browser)) {
	e.t.Helper()
	files, err := filepath.Glob(filepath.Join(home.Dir(), "*.key"))
	if err != nil || len(files) != 1 {
		e.t.Fatalf("%q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		e.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		e.t.Fatal(err)
	}
	key, b64 := parsed.(ed25519.PrivateKey), base64.RawURLEncoding
	var started api.LoginStarted
	b := e.browser()
	b.ask("/api/v1/login", api.LoginStart{Key: b64.EncodeToString(key.Public().(ed25519.PublicKey)), Name: "the same laptop"}, &started)
	sign(b)
	b.form("/login/device", url.Values{"code": {started.Code}}, "the same laptop")
	b.form("/login/confirm", url.Values{"code": {started.Code}}, "Signed in")
	var state api.LoginState
	b.ask("/api/v1/login/poll", api.LoginPoll{ID: started.ID, Counter: 1, Signature: b64.EncodeToString(ed25519.Sign(key, client.PollMessage(started.ID, 1)))}, &state)
	if state.State != "enrolled" {
		e.t.Fatalf("%+v", state)
	}
	// The target answers by the flow that the sign-in of before has opened.
	if _, err := flow.Write([]byte("SSH-2.0-test\r\n")); err != nil {
		e.t.Fatal(err)
	}
	flow.SetReadDeadline(time.Now().Add(20 * time.Second))
	for heard := 0; heard < 100; { // more than its greeting
		n, err := flow.Read(make([]byte, 4096))
		if err != nil {
			e.t.Fatalf("after %d bytes: %v", heard, err)
		}
		heard += n
	}
	flow.SetReadDeadline(time.Time{})
	e.opens(e.dialer(home), "demo-1")
}

// ask asks as a command does.
func (b *browser) ask(path string, in, out any) {
	b.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		b.t.Fatal(err)
	}
	text := b.page(b.Post(b.url+path, "application/json", strings.NewReader(string(body))))
	if err := json.Unmarshal([]byte(text), out); err != nil {
		b.t.Fatalf("%s: %s", text, err)
	}
}
