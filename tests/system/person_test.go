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
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"sallyport/frame"
	"sallyport/tests/lab"
)

// entranceURL is the appliance as browsers of these tests have it. No resolver knows the name.
const entranceURL = "https://bastion.example"

// signsIn are the lines of sallyport.yaml by which people sign in to accounts of the appliance's own.
const signsIn = "identity: {url: " + entranceURL + "}\n"

// A webBrowser is somebody's, where the person is.
type webBrowser struct {
	*bastion
	*http.Client
	addresses addresses
}

// addresses are those that a browser has shown, in its address bar and to the pages that it came to.
type addresses struct {
	mu  sync.Mutex
	all []string
}

func (a *addresses) note(list ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, list...)
}

func (b *bastion) browser() *webBrowser {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	w := &webBrowser{bastion: b}
	way := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return b.Client.DialContext(ctx, network, b.address)
	}}
	b.t.Cleanup(way.CloseIdleConnections)
	w.Client = &http.Client{Jar: jar, Transport: way, Timeout: time.Minute}
	return w
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
	w.addresses.note(resp.Request.URL.String(), resp.Header.Get("Location"), req.Referer())
	for _, link := range linked.FindAllStringSubmatch(string(page), -1) {
		w.addresses.note(link[1])
	}
	w.hide("a cookie", cookiesOf(w.Jar)...)
	return string(page)
}

var (
	linked       = regexp.MustCompile(`(?:href|src|action|content)="([^"]*)"`)
	shownSecret  = regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`)
	shownCode    = regexp.MustCompile(`confirm the device with the code (\S+)`)
	shownRecover = regexp.MustCompile(`<li>([^<]+)</li>`)
)

func cookiesOf(jar http.CookieJar) (values []string) {
	u, _ := url.Parse(entranceURL)
	for _, c := range jar.Cookies(u) {
		values = append(values, c.Value)
	}
	return values
}

// hide adds secrets that have no home.
func (b *bastion) hide(what string, texts ...string) {
	for _, text := range texts {
		b.secrets.hide(what, []byte(text), "")
	}
}

// signUp makes an account of somebody, has them set it up, and signs their device in.
func (b *bastion) signUp(user, home string) {
	b.t.Helper()
	link := strings.TrimSpace(b.mustClient("admin", "accounts", "add", user).stdout)
	_, code, ok := strings.Cut(link, "/setup#")
	if !ok {
		b.t.Fatalf("the link is %q", link)
	}
	w := b.browser()
	password := "an owl in the attic of " + user
	secret := shownSecret.FindStringSubmatch(w.form("/setup", url.Values{"code": {code}}, "Welcome, "+user))[1]
	b.hide("a set-up code", code)
	b.hide("a password", password)
	b.hide("the secret of one-time codes", secret)
	one := func(in time.Duration) string {
		code, err := totp.GenerateCode(secret, time.Now().Add(in))
		if err != nil {
			b.t.Fatal(err)
		}
		return code
	}
	done := w.form("/setup/finish", url.Values{"code": {code}, "secret": {secret}, "password": {password}, "again": {password}, "totp": {one(0)}}, "Your account is ready")
	codes := shownRecover.FindAllStringSubmatch(done, -1)
	if len(codes) != 10 {
		b.t.Fatalf("%d recovery codes on\n%s", len(codes), done)
	}
	for _, c := range codes {
		b.hide("a recovery code", c[1])
	}
	login := b.startLogin(home)
	w.form("/login/password", url.Values{"user": {user}, "password": {password}}, "authenticator app")
	w.form("/login/factor", url.Values{"method": {"totp"}, "code": {one(30 * time.Second)}}, "/login/device")
	w.form("/login/device", url.Values{"code": {login.code}}, "this is my device")
	w.form("/login/confirm", url.Values{"code": {login.code}}, "Signed in")
	select {
	case <-login.Done():
		if login.Wait() != nil {
			b.t.Fatalf("login: %s", login.Output())
		}
	case <-time.After(time.Minute):
		b.t.Fatalf("the login goes on: %s", login.Output())
	}
	for _, address := range w.addresses.all {
		for _, what := range b.secrets.in([]byte(address), "") {
			b.t.Errorf("%s stands in the address %s", what, address)
		}
	}
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
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+home, "HOME="+home)
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

// TestPerson: somebody signs up and in, and connects.
func TestPerson(t *testing.T) {
	b := start(t, settings{extra: signsIn, access: strings.ReplaceAll(usualAccess, "who: [ann]", "who: [ann, bob]")})
	bob := filepath.Join(b.Dir, "bob")
	b.signUp("bob", bob)
	if err := b.asBob(bob); err != nil {
		t.Error(err)
	}
}
