// Package desktops holds what is tested about desktops in a browser: the real appliance, its page in a real Chromium, and
// real RDP servers.
package desktops

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/chaoslink/chaos"
	"sallyport/tests/chromium"
	"sallyport/tests/lab"
)

// programs are the commands, built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-desktops-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the worker's user runs from here
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", dir+"/", "sallyport/cmd/sallyportd").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// The appliance as browsers have it. Its name leads to the link, by which networks break.
const name = "bastion.example"

// Ports of the targets, all of which are one machine.
const (
	shadowNLA = 3389 + iota
	shadowTLS
	westonTLS
	xrdpTLS
	xrdpNegotiate
	xrdpClassic
)

const access = `
admins: [ann]
targets:
  - {name: nla, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3389}}
  - {name: tls, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3390}}
  - {name: weston, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3391}}
  - {name: xrdp, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3392}}
  - {name: negotiate, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3393}}
  - {name: classic, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3394}}
  - {name: sealed, vnet: hub, address: 10.99.0.10, protocols: {rdp: 3392}}
rules:
  - {name: desktops, who: [ann], targets: [nla, tls, weston, xrdp, negotiate, classic, sealed], protocols: [rdp]}
`

const noClipboard = `
@id("nothing passes") forbid (principal, action in [Action::"clipboard_in", Action::"clipboard_out"], resource is Target) when { resource.name == "sealed" };
`

// A bastion is an appliance in the lab, and a browser of ann's behind a link.
type bastion struct {
	*lab.Lab
	t       *testing.T
	daemon  *lab.Process
	link    *chaos.Link
	browser *chromium.Browser
}

func start(t *testing.T) *bastion {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	b := &bastion{Lab: l, t: t}
	dir := filepath.Join(l.Dir, "appliance")
	if err := os.MkdirAll(filepath.Join(dir, "access"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "sallyport.yaml")
	for file, content := range map[string]string{filepath.Join(dir, "access/access.yaml"): access, filepath.Join(dir, "access/clipboard.cedar"): noClipboard, config: fmt.Sprintf(`
name: lab
listen: {address: ":443"}
tls: {self_signed: true}
identity: {url: "https://%s"}
state: %s
access: access
vnets:
  hub:
    link: {packet: %s}
    addresses: [10.99.0.4/16]
    prefixes: [10.99.0.0/16]
`, name, filepath.Join(l.Dir, "state"), l.VNet.Interface)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.daemon = lab.Start(t, b.Appliance.Command(context.Background(), bin+"/sallyportd", "serve", "--config", config, "--run-dir", filepath.Join(l.Dir, "run")))
	b.until("appliance", time.Minute, func() error {
		if !strings.Contains(b.daemon.Output(), "msg=serving") {
			return errors.New(b.daemon.Output())
		}
		return nil
	})
	b.link = &chaos.Link{To: lab.ApplianceAddr4.String() + ":443", Seed: 4711, Log: t.Logf, Listen: b.Client.Listen,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return b.Client.DialContext(ctx, network, address)
		}}
	t.Cleanup(func() { b.link.Close() })
	near, err := b.link.ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.browser = chromium.In(t, b.Client.Command, fmt.Sprintf("--host-resolver-rules=MAP %s %s", name, near), "--window-size=1024,720", "--disable-popup-blocking")
	b.browser.Call("Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
	b.browser.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{
		"source": "window.broken = []; document.addEventListener('securitypolicyviolation', e => window.broken.push(e.violatedDirective + ' ' + e.blockedURI))"})
	b.browser.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": keepMemory})
	b.window(1024, 768)
	var code struct{ Code string }
	if err := json.Unmarshal([]byte(b.Appliance.Run(bin+"/sallyportd", "enrol-code", "--user", "ann", "--json", "--config", config)), &code); err != nil {
		t.Fatal(err)
	}
	b.browser.Go("https://" + name + "/login/code#" + code.Code)
	b.says("Targets")
	return b
}

// keepMemory gives a page the memory of the client in it, as window.memory.
const keepMemory = `for (const name of ['instantiate', 'instantiateStreaming']) {
	const was = WebAssembly[name];
	WebAssembly[name] = async (...given) => {
		const made = await was.apply(WebAssembly, given);
		window.memory = (made.instance ?? made).exports.memory;
		return made;
	};
}`

// on is b for a subtest.
func (b *bastion) on(t *testing.T) *bastion {
	c := *b
	c.t = t
	return &c
}

func (b *bastion) until(what string, limit time.Duration, ok func() error) {
	b.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.screenshot("failed")
			b.t.Fatalf("no %s in %v: %v", what, limit, err)
		}
	}
}

// reads is a script's value, for what waits: while the page is loaded again it is what the browser says of that.
func (b *bastion) reads(script string) string {
	b.t.Helper()
	text, err := b.browser.TryRun(script)
	if err != nil {
		return err.Error()
	}
	return text
}

// window is how large the page is.
func (b *bastion) window(width, height int) {
	b.t.Helper()
	b.browser.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
}

// says waits until the page says something.
func (b *bastion) says(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%q on the page", text), time.Minute, func() error {
		if page := b.reads("document.body?.innerText"); !strings.Contains(page, text) {
			return errors.New(page)
		}
		return nil
	})
}

// screenshot keeps what the browser shows, for people to look at.
func (b *bastion) screenshot(what string) {
	b.t.Helper()
	if b.browser == nil {
		return
	}
	var shot struct{ Data []byte }
	if err := json.Unmarshal(b.browser.Call("Page.captureScreenshot", nil), &shot); err != nil {
		b.t.Fatal(err)
	}
	dir := os.Getenv("SALLYPORT_SCREENSHOTS")
	if dir == "" {
		dir = b.Dir
	}
	file := strings.ReplaceAll(b.t.Name()+" "+what, "/", " ") + ".png"
	if err := os.WriteFile(filepath.Join(dir, file), shot.Data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// A login is what a person types.
type login struct {
	user, password string
	browser        bool // the browser does the password exchange
}

// sign opens the page of a target's desktop, anew, and signs on.
func (b *bastion) sign(target string, l login) {
	b.t.Helper()
	b.open(target)
	b.fill(l)
}

// open opens the page of a target's desktop, in a tab that knows of none.
func (b *bastion) open(target string) {
	b.t.Helper()
	b.browser.Run("sessionStorage.clear(), localStorage.clear()")
	b.browser.Go("https://" + name + "/session/" + target + "/desktop")
	b.says("Let the browser do the password exchange")
}

func (b *bastion) fill(l login) {
	b.t.Helper()
	b.browser.Run(fmt.Sprintf(`(() => {
		const put = (name, value) => { const f = document.querySelector('[name=' + name + ']'); f.value = value; f.dispatchEvent(new Event('input', { bubbles: true })); };
		put('user', %q); put('password', %q);
		if (document.querySelector('[name=exchange]').checked !== %v) document.querySelector('[name=exchange]').click();
		document.querySelector('form button').click();
	})()`, l.user, l.password, l.browser))
}

// follow goes to a page of the portal by a link, without loading it.
func (b *bastion) follow(path string) {
	b.t.Helper()
	b.browser.Run(fmt.Sprintf("(a => { a.href = %q; document.body.append(a); a.click(); a.remove(); })(document.createElement('a'))", path))
}

// otherConnects waits for the desktop in the tab that is window.other.
func (b *bastion) otherConnects() {
	b.t.Helper()
	b.until("desktop in the other tab", time.Minute, func() error {
		if page := b.reads("other.document.body?.innerText"); !strings.Contains(page, "Connected") {
			return errors.New(page)
		}
		return nil
	})
}

// press presses a button of the page, which may be in a menu.
func (b *bastion) press(text string) {
	b.t.Helper()
	b.until("button "+text, time.Minute, func() error {
		if b.reads(fmt.Sprintf("(x => x ? (x.closest('details')?.setAttribute('open', ''), x.click(), 'yes') : 'no')([...document.querySelectorAll('button')].find(x => x.textContent === %q))", text)) != "yes" {
			return errors.New(b.reads("document.body.innerText"))
		}
		return nil
	})
}

// sees waits until the desktop shows a text, as far as OCR can read it: choose words of plain capitals and digits.
func (b *bastion) sees(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%q on the desktop", text), time.Minute, func() error {
		if page := b.reads("document.body?.innerText"); !strings.Contains(page, "Connected") {
			return errors.New(page)
		}
		if seen := lab.OCR(b.t, b.picture()); !strings.Contains(seen, text) {
			return fmt.Errorf("it shows %q", seen)
		}
		return nil
	})
}

// picture is a file with what the desktop shows, whatever the page makes of it.
func (b *bastion) picture() string {
	b.t.Helper()
	var data []byte
	b.until("a picture", time.Minute, func() error { // none while a page is loaded again
		text, err := b.browser.TryRun("document.querySelector('canvas').toDataURL('image/png').split(',')[1]")
		if err == nil {
			data, err = base64.StdEncoding.DecodeString(text)
		}
		return err
	})
	path := filepath.Join(b.Dir, "picture.png")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// size waits until the picture of the desktop is so large, as far as it is said.
func (b *bastion) size(want string) {
	b.t.Helper()
	b.until("size "+want, time.Minute, func() error {
		if got := b.reads("(c => c.width + 'x' + c.height)(document.querySelector('canvas'))"); !strings.HasPrefix(got, want) {
			return errors.New(got)
		}
		return nil
	})
}

// sound says that the page has not broken its policy.
func (b *bastion) sound() {
	b.t.Helper()
	if broken := b.browser.Run("JSON.stringify(window.broken)"); broken != "[]" {
		b.t.Errorf("the page breaks its policy: %s", broken)
	}
}

// folder is one that everybody may write to.
func (b *bastion) folder() string {
	b.t.Helper()
	dir := filepath.Join(b.Dir, "exchange")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// writes is a program for a desktop's terminal that shows a title and writes each line that is typed to a file.
func (b *bastion) writes(title, file string) (program, path string) {
	path = filepath.Join(b.folder(), file)
	return fmt.Sprintf("echo %s; while read line; do echo $line > %s; echo $line; done", title, path), path
}

// file waits until a file has a text.
func (b *bastion) file(path, want string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%q in %s", want, path), time.Minute, func() error {
		got, _ := os.ReadFile(path)
		if strings.TrimSpace(string(got)) != want {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
}
