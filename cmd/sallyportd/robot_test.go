package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/store"
	"sallyport/client"
)

// TestScopeIsKept: what a code says of its device holds on all appliances, and after they have started again.
func TestScopeIsKept(t *testing.T) {
	dir := t.TempDir()
	one, two := anAppliance(t, dir), anAppliance(t, dir)
	want := auth.Scope{Targets: []string{"db-1", "web-1"}, Protocols: []string{"ssh"}, Until: time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()}
	home := netip.MustParseAddr("192.0.2.7")
	for i, scope := range []auth.Scope{{}, want, {Until: want.Until}, {Protocols: []string{"rdp"}}} {
		code, err := one.NewCode("bot", time.Minute, scope)
		if err != nil {
			t.Fatal(err)
		}
		d, err := two.Enrol(auth.Enrolment{Code: code, Key: publicKey(byte(i)), Source: home})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*auth.Registry{two, anAppliance(t, dir)} {
			if got, err := r.ScopeOf(d.ID); err != nil || !reflect.DeepEqual(got, scope) {
				t.Errorf("%+v, %v, want %+v", got, err, scope)
			}
		}
	}
}

// TestAStrangeScopeIsNoWiderOne: a device of whose scope this program does not understand all is not let in.
func TestAStrangeScopeIsNoWiderOne(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.PutDevice(t.Context(), store.Device{ID: "dev-1", User: "bot", Key: publicKey(1), Scope: `{"hours":"8-18"}`}); err != nil {
		t.Fatal(err)
	}
	if r, err := auth.Open(t.Context(), t.TempDir(), deviceStore{s}, time.Now); err == nil {
		r.Close()
		t.Error("it is opened")
	}
	if err := s.AddCode(t.Context(), store.Code{Hash: []byte("h"), User: "bot", Expires: time.Now().Add(time.Hour), Scope: "robots"}, time.Now(), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := (deviceStore{s}).Code(t.Context(), []byte("h")); err == nil || errors.Is(err, auth.ErrCodeUnknown) {
		t.Errorf("a code: %v", err)
	}
}

// TestRobot: root and an administrator make codes for robots, which reach what their codes are for, and only until their end.
func TestRobot(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Node process")
	}
	e := newEntrance(t)
	robot := func(name, code string) *client.Direct {
		home, err := client.OpenHome(filepath.Join(e.demo.dir, "home-"+name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Login(t.Context(), home, client.LoginOptions{URL: e.url, Code: code, Fingerprint: e.pin}); err != nil {
			t.Fatal(err)
		}
		return e.dialer(home)
	}
	path := filepath.Join(e.demo.dir, "sallyport.yaml")
	if err := os.WriteFile(path, []byte("tls: {self_signed: true}\nstate: state\naccess: access\nvnets: {demo: {link: {kernel: {}}, prefixes: ["+demoPrefix+"]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if exit := run(t.Context(), env{[]string{"sallyportd", "enrol-code", "--config", path, "--user", "bob", "--target", "demo-9", "--target", "demo-1", "--protocol", "ssh"},
		nil, &out, &errs}); exit != 1 || errs.String() != "sallyportd: there is no target \"demo-9\"\nsallyportd: hint: the access files name the targets\n" {
		t.Errorf("exit %d: %s", exit, &errs)
	}
	if exit := run(t.Context(), env{[]string{"sallyportd", "enrol-code", "--config", path, "--user", "bob", "--target", "demo-1", "--protocol", "ssh", "--json"},
		nil, &out, &errs}); exit != 0 {
		t.Fatalf("exit %d: %s", exit, &errs)
	}
	var made enrolAnswer
	if err := json.Unmarshal(out.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	narrow := robot("narrow", made.Code)
	e.opens(narrow, "demo-1")
	e.refused(narrow, "demo-2", "E_TARGET_UNKNOWN")
	list, err := client.NewAPI(narrow).Targets(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "demo-1" {
		t.Errorf("%+v, %v", list, err)
	}

	root := e.root()
	const life = 4 * time.Second
	code, err := client.NewAPI(root).NewCode(t.Context(), api.AskCode{User: "bob", Expires: life})
	if err != nil {
		t.Fatal(err)
	}
	short := robot("short", code.Code)
	flow := e.opens(short, "demo-1")
	e.ends(flow, "E_DEVICE_EXPIRED", "this device has expired at ")
	if late := time.Since(code.Scope.Expires); late < 0 || late > 5*time.Second {
		t.Errorf("it ended %v after the device's end", late)
	}
	e.refused(short, "demo-1", "E_DEVICE_EXPIRED")
	e.opens(narrow, "demo-1")
	devices, err := client.NewAPI(root).Devices(t.Context())
	if err != nil || len(devices) != 3 {
		t.Fatalf("%+v, %v", devices, err)
	}
	for _, d := range devices {
		if d.User == "bob" && d.Scope.IsZero() || d.User == "root" && !d.Scope.IsZero() {
			t.Errorf("%+v", d)
		}
	}
}
