package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/config"
	"sallyport/client"
	"sallyport/frame"
	"sallyport/host/metadata"
	oidcprovider "sallyport/tests/oidc-provider"
)

// An entrance is an appliance at which people sign in, with an identity provider and two machines.
type entrance struct {
	t    *testing.T
	demo *demo
	idp  *oidcprovider.Provider
	cfg  *config.Config
	url  string
	pin  string

	log     *logBuffer
	witness witness
}

const entranceAccess = `
admins: [root]
groups: {ops: []}
targets:
  - {name: demo-1, vnet: demo, address: 10.99.0.11, protocols: {ssh: 22}}
  - {name: demo-2, vnet: demo, address: 10.99.0.12, protocols: {ssh: 22}, labels: {tier: secret}}
rules:
  - {name: operators, who: ["group:ops"], targets: [demo-1, demo-2], protocols: [ssh]}
  - {name: bob, who: [bob, carol], targets: [demo-1, demo-2], protocols: [ssh], share: true}
`

// newEntrance starts one, with further keys of identity.
func newEntrance(t *testing.T, keys ...string) *entrance {
	t.Helper()
	var idp *oidcprovider.Provider
	e := entranceAt(t, func(redirect string) string {
		idp = oidcprovider.Start(t, redirect)
		return idp.Issuer
	}, keys...)
	e.idp = idp
	return e
}

// entranceAt starts one at another identity provider, which is told where it sends people back to, and tells its issuer.
func entranceAt(t *testing.T, provider func(redirect string) (issuer string), keys ...string) *entrance {
	t.Helper()
	out := &logBuffer{}
	d, err := newDemo(env{stdout: io.Discard, stderr: out}, "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	_, port, _ := net.SplitHostPort(d.tcp.Addr().String())
	e := &entrance{t: t, demo: d, log: out, url: "https://localhost:" + port}
	issuer := provider(e.url + "/login/corp")
	folder := filepath.Join(d.dir, "access")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(d.dir, "secret")
	for path, text := range map[string]string{filepath.Join(folder, "access.yaml"): entranceAccess, filepath.Join(folder, "secrets.cedar"): demoPolicy,
		secret: oidcprovider.ClientSecret + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse(filepath.Join(d.dir, "sallyport.yaml"), fmt.Appendf(nil, `
name: demo
listen: {address: %q}
tls: {self_signed: true}
state: state
access: access
drain: {grace: 1s}
identity:
  url: %s
  refresh: 1s
  %s
  providers:
    - {name: corp, issuer: %q, client_id: %s, client_secret_file: %s}
vnets:
  demo: {link: {kernel: {}}, prefixes: [%s]}
`, d.tcp.Addr().String(), e.url, strings.Join(keys, "\n  "), issuer, oidcprovider.ClientID, secret, demoPrefix))
	if err != nil {
		t.Fatal(err)
	}
	e.cfg = cfg
	for i, m := range demoMachines {
		l, err := d.far.Listen(t.Context(), "tcp", net.JoinHostPort(m.addr, "22"))
		if err != nil {
			t.Fatal(err)
		}
		go d.machines[i].serve(l)
		t.Cleanup(func() { l.Close() })
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runDaemon(ctx, cfg, demoSupply{d}, metadata.None, d.log) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the appliance says:\n%s", out)
		}
	})
	e.eventually("the appliance serves", func() error {
		code, err := askForCode(t.Context(), cfg, api.AskCode{User: "root", Valid: time.Minute})
		e.pin = code.Fingerprint
		return err
	})
	return e
}

func (e *entrance) eventually(what string, try func() error) {
	e.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("%s: %v", what, err)
		}
	}
}

// login runs sallyport login in a home of its own; sign does what the person does in their browser.
func (e *entrance) login(name string, sign func(*browser)) client.Home {
	e.t.Helper()
	home, err := client.OpenHome(filepath.Join(e.demo.dir, "home-"+name))
	if err != nil {
		e.t.Fatal(err)
	}
	type ask struct{ url, code string }
	asked, ended := make(chan ask, 1), make(chan error, 1)
	go func() {
		_, err := client.Login(e.t.Context(), home, client.LoginOptions{URL: e.url, Device: "laptop of " + name, Fingerprint: e.pin,
			Browse: func(url, code string) { asked <- ask{url, code} }})
		ended <- err
	}()
	var a ask
	select {
	case a = <-asked:
	case err := <-ended:
		e.t.Fatal(err)
	}
	if a.url != e.url+"/login#"+a.code {
		e.t.Errorf("the page is %s, the code %s", a.url, a.code)
	}
	b := e.browser()
	sign(b)
	b.form("/login/device", url.Values{"code": {a.code}}, "laptop of "+name)
	b.form("/login/confirm", url.Values{"code": {a.code}}, "Signed in")
	if err := <-ended; err != nil {
		e.t.Fatal(err)
	}
	return home
}

// dialer is a client that is signed in.
func (e *entrance) dialer(home client.Home) *client.Direct {
	e.t.Helper()
	p, err := home.Profile("")
	if err != nil {
		e.t.Fatal(err)
	}
	d, err := client.NewDirect(home, p, client.Options{})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { d.Close() })
	return d
}

// opens connects to a target, and reads the greeting of its SSH server.
func (e *entrance) opens(d *client.Direct, target string) client.Flow {
	e.t.Helper()
	flow, _, err := d.Open(e.t.Context(), frame.OpenRequest{Target: target, Protocol: "ssh"}, nil)
	if err != nil {
		e.t.Fatalf("%s: %v", target, err)
	}
	e.t.Cleanup(func() { flow.Close() })
	hello := make([]byte, 4)
	if _, err := io.ReadFull(flow, hello); err != nil || string(hello) != "SSH-" {
		e.t.Fatalf("%s says %q, %v", target, hello, err)
	}
	return flow
}

// refused wants a target to be refused for one of some reasons.
func (e *entrance) refused(d *client.Direct, target string, codes ...frame.Code) {
	e.t.Helper()
	_, _, err := d.Open(e.t.Context(), frame.OpenRequest{Target: target, Protocol: "ssh"}, nil)
	if r, _ := frame.ReasonOf(err); !slices.Contains(codes, r.Code) {
		e.t.Fatalf("%s: %v, want %q", target, err, codes)
	}
}

// ends waits for the end of a flow and its reason, one of some codes.
func (e *entrance) ends(flow client.Flow, codes, says string) {
	e.t.Helper()
	begin := time.Now()
	flow.SetReadDeadline(begin.Add(20 * time.Second))
	_, err := io.Copy(io.Discard, flow)
	if r, _ := frame.ReasonOf(err); !strings.Contains(codes, string(r.Code)) || !strings.Contains(r.Sentence, says) {
		e.t.Fatalf("the flow ended with %v, want %s with %q", err, codes, says)
	}
	took := time.Since(begin)
	e.t.Logf("ended after %v: %v", took.Round(time.Millisecond), err)
	if took > 6*time.Second { // five, and a second in which the provider is not asked
		e.t.Errorf("the flow ended after %v", took)
	}
}

// root is the first administrator, who has a code.
func (e *entrance) root() *client.Direct {
	e.t.Helper()
	home, err := client.OpenHome(filepath.Join(e.demo.dir, "home-root"))
	if err != nil {
		e.t.Fatal(err)
	}
	code, err := askForCode(e.t.Context(), e.cfg, api.AskCode{User: "root", Valid: time.Minute})
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := client.Login(e.t.Context(), home, client.LoginOptions{URL: e.url, Code: code.Code, Fingerprint: e.pin}); err != nil {
		e.t.Fatal(err)
	}
	return e.dialer(home)
}

// kinds counts what the audit log has, by kind and person.
func (e *entrance) kinds(admin *client.Direct) map[string]int {
	e.t.Helper()
	kinds := map[string]int{}
	page, err := client.NewAPI(admin).Audit(e.t.Context(), client.AuditQuery{Since: time.Now().Add(-time.Hour)})
	for err == nil && len(page.Events) > 0 {
		for _, line := range page.Events {
			var event struct{ Event, User string }
			if err := json.Unmarshal(line, &event); err != nil {
				e.t.Fatal(err)
			}
			kinds[event.Event+" "+event.User]++
		}
		page, err = client.NewAPI(admin).Audit(e.t.Context(), client.AuditQuery{Since: time.Now().Add(-time.Hour), After: page.Next})
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return kinds
}
