package portal

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/appliance/auth/signin"
	"sallyport/tests/chromium"
)

// A hand is at a browser: it fills in forms and presses buttons.
type hand struct {
	*chromium.Browser
	t *testing.T
}

// fill types into a field.
func (c hand) fill(name, value string) {
	c.t.Helper()
	c.Run(fmt.Sprintf("document.querySelector('[name=%s]:not([type=hidden])').value = %q", name, value))
}

// press presses the button that says this, once the script has answered: the page may be gone before the answer is.
func (c hand) press(text string) {
	c.t.Helper()
	if c.Run(fmt.Sprintf("(b => b ? (setTimeout(() => b.click()), 'yes') : 'no')([...document.querySelectorAll('button')].find(b => b.innerText === %q))", text)) != "yes" {
		c.t.Fatalf("there is no button %q:\n%s", text, c.Run("document.body.innerText"))
	}
}

// TestChromium: a real browser sets an account up from its link, with a passkey, and signs in by password and by passkey,
// with the pages' script and under their policies. No page breaks its own policy.
func TestChromium(t *testing.T) {
	c := hand{chromium.New(t), t}
	server := httptest.NewUnstartedServer(nil)
	address := "https://localhost:" + server.Listener.Addr().String()[strings.LastIndex(server.Listener.Addr().String(), ":")+1:]
	h := newHouseAt(t, address, "localhost")
	server.Config.Handler = h.handler
	server.StartTLS()
	defer server.Close()

	c.Call("Page.enable", nil)
	c.Call("WebAuthn.enable", nil)
	c.Call("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{"protocol": "ctap2", "transport": "internal",
		"hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true}})
	c.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{
		"source": "window.broken = []; document.addEventListener('securitypolicyviolation', e => window.broken.push(e.violatedDirective + ' ' + e.blockedURI))"})
	sound := func() {
		t.Helper()
		if broken := c.Run("JSON.stringify(window.broken)"); broken != "[]" {
			t.Errorf("%s breaks its policy: %s", c.Run("location.href"), broken)
		}
	}

	code := h.newAccount("ann")
	c.Call("Page.navigate", map[string]any{"url": address + "/setup#" + code})
	c.Sees("Welcome, ann")
	sound()
	if href := c.Run("location.href"); strings.Contains(href, code) {
		t.Errorf("the code stays in the address: %s", href)
	}
	c.press("Make a passkey")
	c.Sees("The passkey is made")
	c.fill("password", secretSentence)
	c.fill("again", secretSentence)
	c.press("Finish")
	c.Sees("Your account is ready")
	sound()

	// The password first, and the passkey as the second step.
	d := h.device()
	c.Call("Page.navigate", map[string]any{"url": address + d.started.Path})
	c.Sees("Sign in")
	sound()
	c.fill("user", "ann")
	c.fill("password", secretSentence)
	c.press("Sign in")
	c.Sees("One more step")
	c.press("Use a passkey")
	c.Sees("Which device is it?")
	if got := c.Run("document.getElementById('device-code').value"); got != d.started.Code {
		t.Errorf("the code of the address became %q, not %q", got, d.started.Code)
	}
	c.press("Continue")
	c.Sees("Is this your device?")
	sound()
	c.press("Yes, this is my device")
	c.Sees("goes on by itself")
	if state, _ := d.poll(); state.State != "enrolled" || h.enrolled[0].Person.Method != "password+passkey" {
		t.Errorf("%+v, %+v", state, h.enrolled)
	}

	// The passkey alone.
	d = h.device()
	c.Call("Page.navigate", map[string]any{"url": address + "/login?next=/login/device"})
	c.Sees("Sign in")
	c.Sees("For <work> only.")
	c.press("Use a passkey")
	c.Sees("Which device is it?")
	c.fill("code", d.started.Code)
	c.press("Continue")
	c.Sees("Is this your device?")
	c.press("No, I did not begin this")
	c.Sees("Denied")
	if _, code := d.poll(); code != "E_LOGIN_DENIED" {
		t.Errorf("a denied login: %s", code)
	}
	if len(h.refused) != 1 || !errors.Is(h.refused[0], signin.ErrDenied) {
		t.Errorf("more was refused than the login that was denied: %v", h.refused)
	}
}
