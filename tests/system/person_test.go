package system

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pquerna/otp/totp"

	"sallyport/frame"
	"sallyport/tests/lab"
)

// entranceURL is the appliance as browsers of these tests have it. No resolver knows the name.
const entranceURL = "https://bastion.example"

// signsIn are the lines of sallyport.yaml by which people sign in to accounts of the appliance's own.
const signsIn = "identity: {url: " + entranceURL + "}\n"

// A webBrowser is somebody's, where the person is. No address that it shows may have a secret.
type webBrowser struct {
	*bastion
	*http.Client
}

func (b *bastion) browser() *webBrowser {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	way := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return b.Client.DialContext(ctx, network, b.address)
	}}
	b.t.Cleanup(way.CloseIdleConnections)
	return &webBrowser{b, &http.Client{Jar: jar, Transport: way, Timeout: time.Minute}}
}

// form sends a form, and returns the page that answers, which must say something.
func (w *webBrowser) form(path string, form url.Values, says string) string {
	w.t.Helper()
	req, err := http.NewRequest("POST", entranceURL+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", entranceURL)
	resp, err := w.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(page), says) {
		w.t.Fatalf("%s does not say %q: %v\n%s", path, says, err, page)
	}
	for _, c := range resp.Cookies() {
		w.hide("a cookie", c.Value)
	}
	addresses := []string{resp.Request.URL.String(), resp.Request.Referer(), resp.Header.Get("Location")}
	for _, link := range linked.FindAllStringSubmatch(string(page), -1) {
		addresses = append(addresses, link[1])
	}
	for _, address := range addresses {
		w.complain("the address "+address, []byte(address))
	}
	return string(page)
}

var (
	linkCode      = regexp.MustCompile(`/setup#(\S{22})`)
	linked        = regexp.MustCompile(`(?:href|src|action|content)="([^"]*)"`)
	shownSecret   = regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`)
	shownCode     = regexp.MustCompile(`confirm the device with the code (\S+)`)
	shownRecovery = regexp.MustCompile(`<li>([^<]+)</li>`)
)

// hide adds secrets that have no home.
func (b *bastion) hide(what string, texts ...string) {
	for _, text := range texts {
		b.secrets.hide(what, []byte(text), "")
	}
}

// A person has an account of the appliance's own, and a browser.
type person struct {
	*webBrowser
	user, password string
	secret         string // of one-time codes
	recovery       []string
}

// signUp makes an account of somebody, has them set it up, and signs their device in.
func (b *bastion) signUp(user, home string) *person {
	b.t.Helper()
	code := linkCode.FindStringSubmatch(b.mustClient("admin", "accounts", "add", user).stdout)[1]
	p := &person{webBrowser: b.browser(), user: user, password: "an owl in the attic of " + user}
	p.secret = shownSecret.FindStringSubmatch(p.form("/setup", url.Values{"code": {code}}, "Welcome, "+user))[1]
	b.hide("a set-up code", code)
	b.hide("a password", p.password)
	b.hide("the secret of one-time codes", p.secret)
	done := p.form("/setup/finish", url.Values{"code": {code}, "secret": {p.secret}, "password": {p.password}, "again": {p.password}, "totp": {p.oneTime(0)}}, "Your account is ready")
	for _, c := range shownRecovery.FindAllStringSubmatch(done, -1) {
		p.recovery = append(p.recovery, c[1])
		b.hide("a recovery code", c[1])
	}
	if len(p.recovery) != 10 {
		b.t.Fatalf("%d recovery codes on\n%s", len(p.recovery), done)
	}
	l := b.startLogin(home)
	p.signIn("totp", p.oneTime(30*time.Second), "/login/browser")
	p.form("/login/device", url.Values{"code": {l.code}}, "this is my device")
	p.form("/login/confirm", url.Values{"code": {l.code}}, "Signed in")
	select {
	case <-l.Done():
		if l.Wait() != nil {
			b.t.Fatalf("login: %s", l.Output())
		}
	case <-time.After(time.Minute):
		b.t.Fatalf("the login goes on: %s", l.Output())
	}
	return p
}

// oneTime is the code that the person's authenticator shows in a while.
func (p *person) oneTime(in time.Duration) string {
	p.t.Helper()
	code, err := totp.GenerateCode(p.secret, time.Now().Add(in))
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// signIn gives password and second factor, and the page then says something.
func (p *person) signIn(method, code, says string) {
	p.t.Helper()
	p.form("/login/password", url.Values{"user": {p.user}, "password": {p.password}}, "authenticator app")
	p.form("/login/factor", url.Values{"method": {method}, "code": {code}}, says)
}

// A login waits for somebody to confirm it.
type login struct {
	*lab.Process
	code string
}

func (b *bastion) startLogin(home string) login {
	b.t.Helper()
	if err := os.MkdirAll(home, 0o700); err != nil {
		b.t.Fatal(err)
	}
	cmd := b.Client.Command(context.Background(), b.bin+"/sallyport", "login", b.url, "--fingerprint", b.pinned, "--no-browser", "--key-store", "file")
	cmd.Env = b.environ(home)
	l := login{Process: lab.Start(b.t, cmd)}
	b.eventually(20*time.Second, "the login shows a code", func() error {
		found := shownCode.FindStringSubmatch(l.Output())
		if found == nil {
			return errors.New(l.Output())
		}
		l.code = found[1]
		return nil
	})
	return l
}

// rawOf is the raw client of a device that a real one has enrolled.
func (b *bastion) rawOf(home string) *raw {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "*.key"))
	if err != nil || len(files) != 1 {
		b.t.Fatalf("the device keys are %q, %v", files, err)
	}
	block, _ := pem.Decode([]byte(readFile(b.t, files[0])))
	if block == nil {
		b.t.Fatalf("%s is no PEM", files[0])
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	return &raw{b, frame.PrivateKey(key.(ed25519.PrivateKey))}
}
