package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pquerna/otp/totp"

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

// A witness sees what browsers send and get.
type witness struct {
	mu        sync.Mutex
	secrets   []string // that must be nowhere: those of the test, and cookies
	addresses []string // that pages were at, came from and led to
}

func (w *witness) hide(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, secrets...)
}

// witnessed is the way of a browser.
type witnessed struct {
	*witness
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w witnessed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses = append(w.addresses, r.URL.String(), r.Referer(), resp.Header.Get("Location"))
	for _, c := range resp.Cookies() {
		if c.Value != "" {
			w.secrets = append(w.secrets, c.Value)
		}
	}
	return resp, nil
}

// logBuffer is what the appliance has logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const entranceAccess = `
admins: [root]
groups: {ops: []}
targets:
  - {name: demo-1, vnet: demo, address: 10.99.0.11, protocols: {ssh: 22}}
  - {name: demo-2, vnet: demo, address: 10.99.0.12, protocols: {ssh: 22}, labels: {tier: secret}}
rules:
  - {name: operators, who: ["group:ops"], targets: [demo-1, demo-2], protocols: [ssh]}
  - {name: bob, who: [bob, carol], targets: [demo-1, demo-2], protocols: [ssh]}
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

// A browser is somebody's.
type browser struct {
	*entrance
	*http.Client
}

func (e *entrance) browser() *browser {
	e.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		e.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	e.t.Cleanup(transport.CloseIdleConnections)
	return &browser{e, &http.Client{Jar: jar, Transport: witnessed{&e.witness, transport}, Timeout: 30 * time.Second}}
}

func (b *browser) page(resp *http.Response, err error) string {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func (b *browser) form(path string, form url.Values, says string) string {
	b.t.Helper()
	req, err := http.NewRequest("POST", b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.url)
	text := b.page(b.Do(req))
	if !strings.Contains(text, says) {
		b.t.Fatalf("%s does not say %q:\n%s", path, says, text)
	}
	return text
}

var onward = regexp.MustCompile(`content="0;url=([^"]+)"`)

// atProvider signs in at the identity provider.
func (b *browser) atProvider(user string) {
	b.t.Helper()
	to := html.UnescapeString(onward.FindStringSubmatch(b.form("/login/at/corp", nil, "0;url="))[1])
	back := b.idp.Login(b.t, to, user)
	if text := b.page(b.Get(b.url + "/login/corp?" + back.Encode())); !strings.Contains(text, "/login/browser") {
		b.t.Fatalf("back from the provider: %s", text)
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

// TestSignIn: people sign in at a real identity provider and with accounts of the appliance's own. What the provider says of
// them decides, now and later; what ends a sign-in ends what it carries.
func TestSignIn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Node process")
	}
	e := newEntrance(t)

	// By the provider, whose groups open a target, and who knows of no second factor.
	annsHome := e.login("ann", func(b *browser) { b.atProvider("ann") })
	ann := e.dialer(annsHome)
	flow := e.opens(ann, "demo-1")
	e.refused(ann, "demo-2", "E_DENIED")
	me, err := client.NewAPI(ann).Me(t.Context())
	if err != nil || me.User != "ann" || strings.Join(me.Groups, " ") != "dev ops" || me.SignedInUntil.IsZero() {
		t.Errorf("%+v, %v", me, err)
	}
	e.again(annsHome, flow, func(b *browser) { b.atProvider("ann") })
	// Who is in no group sees nothing.
	dave := e.dialer(e.login("dave", func(b *browser) { b.atProvider("dave") }))
	e.refused(dave, "demo-1", "E_TARGET_UNKNOWN")

	// An administrator makes accounts; their owners set them up.
	root := e.root()
	bobsSecret := e.setUp(root, "bob")
	bob := e.dialer(e.login("bob", func(b *browser) { b.byPassword("bob", bobsSecret) }))
	bobs := e.opens(bob, "demo-2") // which wants a second factor
	list, err := client.NewAPI(root).Accounts(t.Context())
	if err != nil || len(list) != 3 || list[1].User != "bob" || strings.Join(list[1].Has, " ") != "password recovery totp" && strings.Join(list[1].Has, " ") != "password totp recovery" || list[0].Source != e.idp.Issuer {
		t.Errorf("%+v, %v", list, err)
	}
	// A name belongs to whoever had it first.
	b := e.browser()
	to := html.UnescapeString(onward.FindStringSubmatch(b.form("/login/at/corp", nil, "0;url="))[1])
	if text := b.page(b.Get(b.url + "/login/corp?" + b.idp.Login(t, to, "bob").Encode())); !strings.Contains(text, "belongs to somebody else") {
		t.Errorf("the provider's bob: %s", text)
	}

	e.stolen(annsHome, bob)

	e.byBrowser()

	// The provider is away: what there is goes on, nobody signs in anew.
	b = e.browser()
	to = html.UnescapeString(onward.FindStringSubmatch(b.form("/login/at/corp", nil, "0;url="))[1])
	back := b.idp.Login(t, to, "ann")
	e.idp.Do(t, "down")
	time.Sleep(3 * time.Second) // it is asked each second
	if text := b.page(b.Get(b.url + "/login/corp?" + back.Encode())); !strings.Contains(text, "the identity provider does not answer") {
		t.Errorf("while the provider is away: %s", text)
	}
	e.opens(ann, "demo-1")
	e.idp.Do(t, "up")

	// It takes ann out of her groups.
	e.idp.Do(t, "demote")
	e.ends(flow, "E_TARGET_UNKNOWN", "what is known of you has changed")
	e.refused(ann, "demo-1", "E_TARGET_UNKNOWN")

	// An administrator bars bob.
	if err := client.NewAPI(root).SetAccount(t.Context(), "bob", api.SetAccount{Disabled: true}); err != nil {
		t.Fatal(err)
	}
	e.ends(bobs, "E_SIGNED_OUT E_DEVICE_REVOKED", "")
	e.refused(bob, "demo-1", "E_SIGNED_OUT", "E_DEVICE_REVOKED") // the one is known a moment before the other
	e.browser().form("/login/password", url.Values{"user": {"bob"}, "password": {bobsPassword}}, "this account is locked")

	// She signs out everywhere.
	if err := client.NewAPI(ann).Logout(t.Context(), true); err != nil {
		t.Errorf("logout everywhere: %v", err)
	}
	e.refused(ann, "demo-1", "E_DEVICE_REVOKED")

	e.traces(root)
}

const bobsPassword = "an owl in the attic"

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

var (
	shownSecret   = regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`)
	shownRecovery = regexp.MustCompile(`<li>([^<]+)</li>`)
)

// setUp makes an account, and has its owner set it up. It returns the secret of their one-time codes.
func (e *entrance) setUp(admin *client.Direct, user string) string {
	e.t.Helper()
	made, err := client.NewAPI(admin).AddAccount(e.t.Context(), api.AddAccount{User: user})
	if err != nil {
		e.t.Fatal(err)
	}
	code, ours := strings.CutPrefix(made.Path, "/setup#")
	if !ours {
		e.t.Fatalf("the path is %s", made.Path)
	}
	b := e.browser()
	secret := shownSecret.FindStringSubmatch(b.form("/setup", url.Values{"code": {code}}, "Welcome, "+user))[1]
	one, err := totp.GenerateCode(secret, time.Now()) // the next one is for the login
	if err != nil {
		e.t.Fatal(err)
	}
	e.witness.hide(code, secret, bobsPassword)
	done := b.form("/setup/finish", url.Values{"code": {code}, "secret": {secret}, "password": {bobsPassword}, "again": {bobsPassword}, "totp": {one}}, "Your account is ready")
	recovery := shownRecovery.FindAllStringSubmatch(done, -1)
	if len(recovery) != 10 {
		e.t.Fatalf("%d recovery codes are on\n%s", len(recovery), done)
	}
	for _, c := range recovery {
		e.witness.hide(c[1], strings.ReplaceAll(c[1], "-", ""))
	}
	return secret
}

func (b *browser) byPassword(user, secret string) {
	b.t.Helper()
	one, err := totp.GenerateCode(secret, time.Now().Add(30*time.Second))
	if err != nil {
		b.t.Fatal(err)
	}
	b.form("/login/password", url.Values{"user": {user}, "password": {bobsPassword}}, "authenticator app")
	b.form("/login/factor", url.Values{"method": {"totp"}, "code": {one}}, "/login/browser")
}

// stolen puts one person's token beside another's key.
func (e *entrance) stolen(from client.Home, thief *client.Direct) {
	e.t.Helper()
	tokens, err := filepath.Glob(filepath.Join(from.Dir(), "*.token"))
	if err != nil || len(tokens) != 1 {
		e.t.Fatalf("%q, %v", tokens, err)
	}
	token, err := os.ReadFile(tokens[0])
	if err != nil || len(token) == 0 {
		e.t.Fatalf("%q, %v", token, err)
	}
	if info, err := os.Stat(tokens[0]); err != nil || info.Mode() != 0o600 {
		e.t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	home := e.login("eve", func(b *browser) { b.atProvider("eve") })
	if err := os.WriteFile(filepath.Join(home.Dir(), filepath.Base(tokens[0])), token, 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.refused(e.dialer(home), "demo-1", frame.Auth)
	if text := e.log.String(); !strings.Contains(text, "the token is bound to the device key") || strings.Contains(text, string(token)) {
		e.t.Error("the log does not say why the token was refused, or says too much")
	}
	e.refused(e.dialer(home), "demo-1", "E_TARGET_UNKNOWN") // eve is who she is, without the token
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

// traces looks at what all this has left. Who logs out is cut off before that is written.
func (e *entrance) traces(admin *client.Direct) {
	e.t.Helper()
	wants := []string{"device.enrolled ann", "device.enrolled bob", "sign-in.ended ann", "sign-in.ended bob", "account.created bob", "account.ready bob", "account.disabled bob", "device.revoked ann"}
	missing := func(kinds map[string]int) []string {
		return slices.DeleteFunc(slices.Clone(wants), func(want string) bool { return kinds[want] > 0 })
	}
	kinds := e.kinds(admin)
	for end := time.Now().Add(20 * time.Second); len(missing(kinds)) > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		kinds = e.kinds(admin)
	}
	if m := missing(kinds); len(m) > 0 {
		e.t.Errorf("no %q in the audit log: %v", m, kinds)
	}
	e.betrayed()
}

// betrayed looks for secrets in what the appliance keeps and says and in the addresses of its pages: passwords, codes, the
// secrets of one-time codes, cookies, tokens, the identity provider's too.
func (e *entrance) betrayed() {
	e.t.Helper()
	tokens, err := filepath.Glob(filepath.Join(e.demo.dir, "home-*", "*.token"))
	if err != nil || len(tokens) == 0 {
		e.t.Errorf("%d tokens, %v", len(tokens), err)
	}
	for _, path := range tokens {
		token, err := os.ReadFile(path)
		if err != nil {
			e.t.Fatal(err)
		}
		e.witness.hide(string(token))
	}
	issued := e.idp.Issued(e.t)
	e.witness.hide(oidcprovider.ClientSecret)
	e.witness.hide(issued...)
	e.witness.mu.Lock()
	defer e.witness.mu.Unlock()
	if len(issued) < 4 || len(e.witness.secrets) < 30 || len(e.witness.addresses) < 30 {
		e.t.Errorf("only %d tokens of the provider, %d secrets, %d addresses", len(issued), len(e.witness.secrets), len(e.witness.addresses))
	}
	search := func(place, text string) {
		for _, secret := range e.witness.secrets {
			if strings.Contains(text, secret) {
				e.t.Errorf("a secret stands in %s", place)
			}
		}
	}
	err = filepath.WalkDir(filepath.Join(e.demo.dir, "state"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) { // a file of the database's that has come and gone
			search(path, string(data))
			return err
		}
		return nil
	})
	if err != nil {
		e.t.Error(err)
	}
	search("the log", e.log.String())
	for _, address := range e.witness.addresses {
		search("the address "+address, address)
	}
}

// fromElsewhere asks every route as another page would have a browser ask, whose cookie is good.
func (e *entrance) fromElsewhere(b *browser, paths map[string]map[string]any) {
	e.t.Helper()
	for path, methods := range paths {
		for method := range methods {
			for _, header := range [][2]string{{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
				if method == "get" && header[0] == "Origin" { // which browsers keep from the other page, and which changes nothing
					continue
				}
				req, err := http.NewRequest(strings.ToUpper(method), e.url+strings.NewReplacer("{", "", "}", "").Replace(path), strings.NewReader("{}"))
				if err != nil {
					e.t.Fatal(err)
				}
				req.Header.Set(header[0], header[1])
				resp, err := b.Do(req)
				if text := b.page(resp, err); resp.StatusCode != http.StatusForbidden || !strings.Contains(text, "another page") {
					e.t.Errorf("%s %s with %v: %d %s", method, path, header, resp.StatusCode, text)
				}
			}
		}
	}
}

// byBrowser has a browser ask the API itself, by a cookie, until its device is given up.
func (e *entrance) byBrowser() {
	e.t.Helper()
	b := e.browser()
	b.atProvider("fay")
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		e.t.Fatal(err)
	}
	post := func(path, body string) string {
		e.t.Helper()
		req, err := http.NewRequest("POST", b.url+path, strings.NewReader(body))
		if err != nil {
			e.t.Fatal(err)
		}
		req.Header.Set("Origin", b.url)
		return b.page(b.Do(req))
	}
	if text := post("/login/browser", fmt.Sprintf(`{"key":%q,"name":"browser of fay","platform":"browser"}`, base64.RawURLEncoding.EncodeToString(pub))); !strings.Contains(text, `"state":"enrolled"`) {
		e.t.Fatal(text)
	}
	if text := b.page(b.Get(b.url + "/api/v1/me")); !strings.Contains(text, `"user":"fay"`) || !strings.Contains(text, `"transport":"websocket"`) {
		e.t.Error(text)
	}
	if text := b.page(b.Get(b.url + "/api/v1/devices")); !strings.Contains(text, "E_ADMIN") {
		e.t.Error(text)
	}
	var document struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal([]byte(b.page(b.Get(b.url+"/api/v1/openapi.json"))), &document); err != nil || len(document.Paths) < 20 {
		e.t.Errorf("%d paths, %v", len(document.Paths), err)
	}
	if user, _, err := b.socket(b.url, key); user != "fay" || err != nil {
		e.t.Errorf("a WebSocket of the browser's is %q's, %v", user, err)
	}
	if _, status, err := b.socket("https://evil.example", key); status != http.StatusForbidden {
		e.t.Errorf("a WebSocket from another page: %d, %v", status, err)
	}
	e.fromElsewhere(b, document.Paths)
	if text := post("/api/v1/logout", ""); text != "{}\n" {
		e.t.Error(text)
	}
	if _, _, err := b.socket(b.url, key); !strings.Contains(fmt.Sprint(err), "has been revoked") {
		e.t.Errorf("a WebSocket of a browser that has left: %v", err)
	}
	if _, status, err := e.browser().socket(b.url, key); status != http.StatusUnauthorized {
		e.t.Errorf("a WebSocket of a browser in which nobody has signed in: %d, %v", status, err)
	}
	// No route answers a browser that has left, or one in which nobody has signed in.
	stranger := e.browser()
	for path, methods := range document.Paths {
		for method := range methods {
			for _, c := range []struct {
				*browser
				status int
				code   string
			}{{b, http.StatusForbidden, "E_DEVICE_REVOKED"}, {stranger, http.StatusUnauthorized, "E_SIGNED_OUT"}} {
				req, err := http.NewRequest(strings.ToUpper(method), e.url+strings.NewReplacer("{", "", "}", "").Replace(path), strings.NewReader("{}"))
				if err != nil {
					e.t.Fatal(err)
				}
				req.Header.Set("Origin", e.url)
				resp, err := c.Do(req)
				if text := c.page(resp, err); resp.StatusCode != c.status || !strings.Contains(text, `"code":"`+c.code+`"`) {
					e.t.Errorf("%s %s: %d %s, want %d %s", method, path, resp.StatusCode, text, c.status, c.code)
				}
			}
		}
	}
}

// socket opens a WebSocket as a page of an origin does, and says whose it is by its WELCOME, or else the status of the answer.
func (b *browser) socket(origin string, key ed25519.PrivateKey) (user string, status int, err error) {
	c := *b.Client
	c.Timeout = 0 // that of the library counts
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, b.url+"/v1/ws", &websocket.DialOptions{HTTPClient: &c, HTTPHeader: http.Header{"Origin": {origin}}})
	if err != nil {
		if resp != nil {
			status = resp.StatusCode
		}
		return "", status, err
	}
	defer ws.CloseNow()
	conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	in, hello, err := frame.Introduce(frame.Hello{Software: "page"}, frame.PrivateKey(key), frame.Channel{})
	if err == nil {
		_, err = conn.Write(hello)
	}
	if err != nil {
		return "", 0, err
	}
	w, err := in.ReadWelcome(conn)
	if err != nil {
		return "", 0, err
	}
	return w.User, 0, nil
}
