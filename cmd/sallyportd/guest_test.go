package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/client"
)

// coded is a person who has enrolled with a code, and their folder.
func (e *entrance) coded(user string) (client.Home, *client.Direct) {
	e.t.Helper()
	home, err := client.OpenHome(filepath.Join(e.demo.dir, "home-"+user))
	if err != nil {
		e.t.Fatal(err)
	}
	code, err := askForCode(e.t.Context(), e.cfg, api.AskCode{User: user, Valid: time.Minute})
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := client.Login(e.t.Context(), home, client.LoginOptions{URL: e.url, Code: code.Code, Profile: "demo", Fingerprint: e.pin}); err != nil {
		e.t.Fatal(err)
	}
	return home, e.dialer(home)
}

// asks has a browser's page ask, and returns the answer.
func (b *browser) asks(method, path string, body, answer any) (status int, text string) {
	b.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequest(method, b.url+path, bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Origin", b.url)
	resp, err := b.Do(req)
	text = b.page(resp, err)
	if answer != nil {
		if err := json.Unmarshal([]byte(text), answer); err != nil {
			b.t.Fatalf("%s: %v in %s", path, err, text)
		}
	}
	return resp.StatusCode, text
}

// opening is what a page says to open a link for a key.
func opening(secret string, key ed25519.PublicKey) api.OpenGuest {
	return api.OpenGuest{Secret: secret, Key: base64.RawURLEncoding.EncodeToString(key), Name: "a guest's browser", Platform: "Linux"}
}

// shared makes a link, and returns it with its secret, which must be nowhere.
func (e *entrance) shared(d *client.Direct, ask api.AskGuest) (api.GuestLink, string) {
	e.t.Helper()
	l, err := client.NewAPI(d).Share(e.t.Context(), ask)
	if err != nil {
		e.t.Fatal(err)
	}
	at, secret, _ := strings.Cut(l.Link, "#")
	if at != e.url+"/guest" {
		e.t.Fatalf("the link is %s", l.Link)
	}
	e.witness.hide(secret)
	return l, secret
}

// byKey is a client that has a guest's key, which a browser would not give away, and all else from the folder of another.
func (e *entrance) byKey(from client.Home, user string, key ed25519.PrivateKey) *client.Direct {
	e.t.Helper()
	home, err := client.OpenHome(filepath.Join(e.demo.dir, "stolen-"+strings.ReplaceAll(user, ":", "-")))
	if err != nil {
		e.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(from.Dir(), "profiles.json"))
	if err != nil {
		e.t.Fatal(err)
	}
	p, err := from.Profile("")
	if err != nil {
		e.t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(`"`+p.User+`"`), []byte(`"`+user+`"`))
	text = bytes.ReplaceAll(text, []byte(p.Device), []byte(auth.DeviceID(key.Public().(ed25519.PublicKey))))
	if err := os.MkdirAll(home.Dir(), 0o700); err != nil {
		e.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		e.t.Fatal(err)
	}
	for name, data := range map[string][]byte{"profiles.json": text, p.Name + ".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(home.Dir(), name), data, 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
	return e.dialer(home)
}

// TestGuestLinks: bob lets guests in to a machine of his, who reach that and nothing else, until he takes the link back.
func TestGuestLinks(t *testing.T) {
	e := newEntrance(t)
	admin := e.root()
	home, bob := e.coded("bob")
	link, secret := e.shared(bob, api.AskGuest{Target: "demo-1", Uses: 2})

	b := e.browser()
	if text := b.page(b.Get(e.url + "/guest")); !strings.Contains(text, "Guest access") {
		t.Error(text)
	}
	var view api.GuestView
	if status, text := b.asks("POST", "/guest/look", api.LookGuest{Secret: secret}, &view); status != 200 || view.Maker != "bob" || view.Target != "demo-1" || view.Protocol != "ssh" || view.Instead {
		t.Errorf("%d %s", status, text)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	user := "guest:" + link.ID + "-1"
	if status, text := b.asks("POST", "/guest/open", opening(secret, public), &view); status != 201 || view.User != user {
		t.Fatalf("%d %s", status, text)
	}
	var me api.Me
	if b.asks("GET", "/api/v1/me", nil, &me); me.User != user || me.Admin || !me.Guest || len(me.Scope.Targets) != 1 || !me.Scope.Expires.Equal(link.Expires) {
		t.Errorf("%+v", me)
	}
	var grant api.Grant
	if b.asks("GET", "/api/v1/grant?target=demo-1&protocol=ssh&program=terminal", nil, &grant); !slices.Equal(grant.Principals, []string{user}) {
		t.Errorf("%+v", grant)
	}
	var targets []api.Target
	if b.asks("GET", "/api/v1/targets", nil, &targets); len(targets) != 1 || targets[0].Name != "demo-1" {
		t.Errorf("%+v", targets)
	}
	for what, code := range map[string]string{"GET /api/v1/devices": "E_ADMIN", "POST /api/v1/guests": "E_DENIED", "POST /api/v1/codes": "E_ADMIN", "GET /api/v1/grant?target=demo-2": "E_TARGET_UNKNOWN",
		"GET /api/v1/grant?target=demo-1&protocol=rdp": "E_DENIED", "DELETE /api/v1/guests/" + link.ID: "E_GUEST_UNKNOWN", "POST /api/v1/ssh/certificate": "E_"} {
		method, path, _ := strings.Cut(what, " ")
		if _, text := b.asks(method, path, struct{}{}, nil); !strings.Contains(text, `"code":"`+code) {
			t.Errorf("%s: %s, want %s", what, text, code)
		}
	}

	// The key would do at the other doors too, and no more than at this one.
	guest := e.byKey(home, user, key)
	flow := e.opens(guest, "demo-1")
	e.refused(guest, "demo-2", "E_TARGET_UNKNOWN")
	sessions, err := client.NewAPI(bob).Sessions(t.Context(), false)
	if err != nil || len(sessions) != 1 || sessions[0].User != user || sessions[0].GuestOf != "bob" || sessions[0].Link != link.ID {
		t.Errorf("%+v, %v", sessions, err)
	}

	// The same key again, and a device that is bob's: neither is a new guest.
	if status, text := b.asks("POST", "/guest/open", opening(secret, public), nil); status != 403 || !strings.Contains(text, "E_DEVICE_USER") {
		t.Errorf("%d %s", status, text)
	}
	// Many at once for the last use: one gets it.
	const many = 50 // of the 64 connections that strangers may have; the database's tests have a hundred
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range many {
		one := e.browser()
		another, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(opening(secret, another))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			resp, err := one.Post(e.url+"/guest/open", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			got[resp.StatusCode]++
		})
	}
	wg.Wait()
	if got[201] != 1 || got[403] != many-1 {
		t.Errorf("%v", got)
	}
	links, err := client.NewAPI(bob).Guests(t.Context(), false)
	if err != nil || len(links) != 1 || links[0].Used != 2 || len(links[0].Opened) != 2 || links[0].Opened[0].User != user {
		t.Errorf("%+v, %v", links, err)
	}

	if err := client.NewAPI(bob).Unshare(t.Context(), link.ID); err != nil {
		t.Fatal(err)
	}
	e.ends(flow, "E_GUEST_LINK", "does not work")
	if status, text := b.asks("GET", "/api/v1/me", nil, nil); status != 400 || !strings.Contains(text, "E_GUEST_LINK") {
		t.Errorf("%d %s", status, text)
	}
	e.refused(guest, "demo-1", "E_GUEST_LINK")

	// A link for who signs in: ann is ann, with bob's right to that machine.
	_, secret = e.shared(bob, api.AskGuest{Target: "demo-1", SignIn: true})
	b = e.browser()
	public, key, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := b.asks("POST", "/guest/open", opening(secret, public), nil); status != 403 || !strings.Contains(text, "E_LOGIN_AGAIN") {
		t.Errorf("%d %s", status, text)
	}
	b.atProvider("fay")
	if status, text := b.asks("POST", "/guest/open", opening(secret, public), &view); status != 201 || view.User != "fay" {
		t.Fatalf("%d %s", status, text)
	}
	fay := e.byKey(home, "fay", key)
	flow = e.opens(fay, "demo-1")
	e.refused(fay, "demo-2", "E_TARGET_UNKNOWN")
	if _, err := client.NewAPI(admin).EndSignIns(t.Context(), api.EndSignIns{User: "fay"}); err != nil {
		t.Fatal(err)
	}
	e.ends(flow, "E_SIGNED_OUT", "")

	// The maker is locked.
	_, secret = e.shared(bob, api.AskGuest{Target: "demo-1"})
	b = e.browser()
	public, key, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := b.asks("POST", "/guest/open", opening(secret, public), &view); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	flow = e.opens(e.byKey(home, view.User, key), "demo-1")
	if err := client.NewAPI(admin).Lock(t.Context(), api.Lock{Kind: "user", Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	e.ends(flow, "E_GUEST_LINK", "does not work")

	kinds := e.kinds(admin)
	for _, want := range []string{"guest.made bob", "guest.opened " + user, "guest.opened fay", "guest.revoked bob"} {
		if kinds[want] == 0 {
			t.Errorf("no %q in the audit log: %v", want, kinds)
		}
	}
	if n := kinds["guest.refused "]; n == 0 {
		t.Errorf("no refusal is in the audit log: %v", kinds)
	}
	e.secretsAreKept()
}
