package portal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/auth/signin"
)

// A chromium is a real browser with one page, driven by its DevTools protocol over a pipe.
type chromium struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Reader
	id      int
	session string
}

// newChromium starts the browser. Where there is none the test is skipped, but not for root, whose machine has all that is tested with.
func newChromium(t *testing.T) *chromium {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	hear, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--ignore-certificate-errors",
		"--no-proxy-server", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{hear, say} // 3 and 4, where it looks for them
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hear.Close()
	say.Close()
	c := &chromium{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
	t.Cleanup(func() {
		c.session = ""
		c.call("Browser.close", nil)
		cmd.Wait()
		in.Close()
		out.Close()
	})
	out.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var target struct{ TargetID string }
	c.into(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	c.into(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	c.session = attached.SessionID
	return c
}

// try sends one command and returns its result, or why the browser refused it.
func (c *chromium) try(method string, params any) (json.RawMessage, error) {
	c.t.Helper()
	c.id++
	if params == nil {
		params = struct{}{}
	}
	text, err := json.Marshal(map[string]any{"id": c.id, "method": method, "params": params, "sessionId": c.session})
	if c.session == "" {
		text, err = json.Marshal(map[string]any{"id": c.id, "method": method, "params": params})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(text, 0)); err != nil {
		c.t.Fatal(err)
	}
	for {
		text, err := c.out.ReadBytes(0)
		if err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		var said struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &said); err != nil {
			c.t.Fatal(err)
		}
		if said.ID != c.id {
			continue // an event
		}
		if said.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, said.Error.Message)
		}
		return said.Result, nil
	}
}

// call sends one command and returns its result.
func (c *chromium) call(method string, params any) json.RawMessage {
	c.t.Helper()
	result, err := c.try(method, params)
	if err != nil {
		c.t.Fatal(err)
	}
	return result
}

func (c *chromium) into(v any, method string, params any) {
	c.t.Helper()
	if err := json.Unmarshal(c.call(method, params), v); err != nil {
		c.t.Fatal(err)
	}
}

// run has the page run a script, and returns its value as text.
func (c *chromium) run(script string) string {
	c.t.Helper()
	text, err := c.tryRun(script)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// tryRun is run, and reports that the page went away while the script ran.
func (c *chromium) tryRun(script string) (string, error) {
	c.t.Helper()
	result, err := c.try("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true})
	if err != nil {
		return "", err
	}
	var said struct{ Result struct{ Value any } }
	err = json.Unmarshal(result, &said)
	return fmt.Sprint(said.Result.Value), err
}

// sees waits until the page says something. The page that is looked at may be on its way to another.
func (c *chromium) sees(text string) {
	c.t.Helper()
	var page string
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if page, err = c.tryRun("document.readyState === 'complete' ? document.body.innerText : ''"); err == nil && strings.Contains(page, text) {
			return
		}
	}
	c.t.Fatalf("the page does not say %q at %s (%v):\n%s", text, c.run("location.href"), err, page)
}

// fill types into a field.
func (c *chromium) fill(name, value string) {
	c.t.Helper()
	c.run(fmt.Sprintf("document.querySelector('[name=%s]:not([type=hidden])').value = %q", name, value))
}

// press presses the button that says this, once the script has answered: the page may be gone before the answer is.
func (c *chromium) press(text string) {
	c.t.Helper()
	if c.run(fmt.Sprintf("(b => b ? (setTimeout(() => b.click()), 'yes') : 'no')([...document.querySelectorAll('button')].find(b => b.innerText === %q))", text)) != "yes" {
		c.t.Fatalf("there is no button %q:\n%s", text, c.run("document.body.innerText"))
	}
}

// TestChromium: a real browser sets an account up from its link, with a passkey, and signs in by password and by passkey,
// with the pages' script and under their policies. No page breaks its own policy.
func TestChromium(t *testing.T) {
	c := newChromium(t)
	server := httptest.NewUnstartedServer(nil)
	address := "https://localhost:" + server.Listener.Addr().String()[strings.LastIndex(server.Listener.Addr().String(), ":")+1:]
	h := newHouseAt(t, address, "localhost")
	server.Config.Handler = h.handler
	server.StartTLS()
	defer server.Close()

	c.call("Page.enable", nil)
	c.call("WebAuthn.enable", nil)
	c.call("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{"protocol": "ctap2", "transport": "internal",
		"hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true}})
	c.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{
		"source": "window.broken = []; document.addEventListener('securitypolicyviolation', e => window.broken.push(e.violatedDirective + ' ' + e.blockedURI))"})
	sound := func() {
		t.Helper()
		if broken := c.run("JSON.stringify(window.broken)"); broken != "[]" {
			t.Errorf("%s breaks its policy: %s", c.run("location.href"), broken)
		}
	}

	code := h.newAccount("ann")
	c.call("Page.navigate", map[string]any{"url": address + "/setup#" + code})
	c.sees("Welcome, ann")
	sound()
	if href := c.run("location.href"); strings.Contains(href, code) {
		t.Errorf("the code stays in the address: %s", href)
	}
	c.press("Make a passkey")
	c.sees("The passkey is made")
	c.fill("password", secretSentence)
	c.fill("again", secretSentence)
	c.press("Finish")
	c.sees("Your account is ready")
	sound()

	// The password first, and the passkey as the second step.
	d := h.device()
	c.call("Page.navigate", map[string]any{"url": address + d.started.Path})
	c.sees("Sign in")
	sound()
	c.fill("user", "ann")
	c.fill("password", secretSentence)
	c.press("Sign in")
	c.sees("One more step")
	c.press("Use a passkey")
	c.sees("Which device is it?")
	if got := c.run("document.getElementById('device-code').value"); got != d.started.Code {
		t.Errorf("the code of the address became %q, not %q", got, d.started.Code)
	}
	c.press("Go on")
	c.sees("Is this your device?")
	sound()
	c.press("Yes, this is my device")
	c.sees("goes on by itself")
	if state, _ := d.poll(); state.State != "enrolled" || h.enrolled[0].Person.Method != "password+passkey" {
		t.Errorf("%+v, %+v", state, h.enrolled)
	}

	// The passkey alone.
	d = h.device()
	c.call("Page.navigate", map[string]any{"url": address + "/login?next=/login/device"})
	c.sees("Sign in")
	c.sees("For <work> only.")
	c.press("Use a passkey")
	c.sees("Which device is it?")
	c.fill("code", d.started.Code)
	c.press("Go on")
	c.sees("Is this your device?")
	c.press("No, I did not begin this")
	c.sees("Denied")
	if _, code := d.poll(); code != "E_LOGIN_DENIED" {
		t.Errorf("a denied login: %s", code)
	}
	if len(h.refused) != 1 || !errors.Is(h.refused[0], signin.ErrDenied) {
		t.Errorf("more was refused than the login that was denied: %v", h.refused)
	}
}
