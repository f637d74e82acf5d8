package portal

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/passkey/passkeytest"
	"sallyport/appliance/store"
)

const anotherSentence = "five words that nobody knows"

// proves has somebody show what they sign in with, to change it.
func (h *house) proves(user, password, secret string) {
	h.t.Helper()
	h.clock = h.clock.Add(time.Minute) // the code of before is used up
	h.want(200, `name="for" value="account"`)(h.post("/login/password", url.Values{"user": {user}, "password": {password}, "for": {forAccount}}))
	h.want(200, "url=/login/account")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}, "for": {forAccount}}))
}

func (h *house) changes(pairs ...string) (int, string) {
	h.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return h.post("/login/account", form)
}

func (h *house) accountPage() (int, string) {
	h.t.Helper()
	return h.send("GET", "/login/account", "", "", "")
}

// idOf is what a factor that can be removed is known by on the page.
func (h *house) idOf(name string) string {
	h.t.Helper()
	_, page := h.accountPage()
	m := regexp.MustCompile(`name="id" value="([^"]+)">\s*<p>[^<]*</p>\s*<button class="wide plain">Remove ` + name + "<").FindStringSubmatch(page)
	if m == nil {
		h.t.Fatalf("there is no %s:\n%s", name, page)
	}
	return m[1]
}

// isDevice signs the browser in.
func (h *house) isDevice(device, user string) {
	h.t.Helper()
	secret, err := h.remember(device)
	if err != nil {
		h.t.Fatal(err)
	}
	h.users[device] = user
	u, _ := url.Parse(h.url)
	h.browser.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: secret, Path: "/", Secure: true}})
}

// TestProofOfAnAccount: only who has just shown what they sign in with may change it. That a browser is signed in is nothing.
func TestProofOfAnAccount(t *testing.T) {
	h := newHouse(t)
	secret, _ := h.setUp("ann")
	password := []string{"do", "password", "password", anotherSentence, "again", anotherSentence}
	unproved := func(what string) {
		t.Helper()
		h.want(200, "Is it you?")(h.accountPage())
		for _, change := range [][]string{password, {"do", "codes"}, {"do", "app"}, {"do", "remove", "id", "x"}, {"do", "passkey"}, {"do", "others", "others", "yes"}, {"do", "done"}} {
			if status, page := h.changes(change...); status != 403 || !strings.Contains(page, "this page is too old") {
				t.Errorf("%s: %v: %d %s", what, change, status, page)
			}
		}
		h.want(403, "E_LOGIN_AGAIN")(h.send("POST", "/login/account/passkey", "application/json", "{}", h.url))
	}
	unproved("a stranger")
	h.isDevice("dev-1", "ann")
	unproved("a browser that is signed in")
	if _, page := h.accountPage(); !strings.Contains(page, `name="user" value="ann"`) {
		t.Errorf("it is not asked for ann: %s", page)
	}
	h.want(403, "the user name or the password is wrong")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {"wrong"}, "for": {forAccount}}))
	h.clock = h.clock.Add(time.Minute)
	page := h.want(200, "authenticator app")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}, "for": {forAccount}}))
	if !strings.Contains(page, `name="for" value="account"`) {
		t.Errorf("the second step does not know what it is for: %s", page)
	}
	unproved("a password alone")
	h.want(403, `name="for" value="account"`)(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {"000000"}, "for": {forAccount}}))
	h.want(200, "url=/login/account")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}, "for": {forAccount}}))
	h.want(200, "What you sign in with, ann")(h.accountPage())

	h.clock = h.clock.Add(5 * time.Minute)
	unproved("a proof that is old")
	h.proves("ann", secretSentence, secret)
	h.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if status, _ := h.changes("do", "done"); status != 303 {
		t.Errorf("done: %d", status)
	}
	unproved("who is done")

	// An administrator is faster.
	h.proves("ann", secretSentence, secret)
	sum := sha256.Sum256([]byte("again"))
	if err := h.db.ResetAccount(t.Context(), "ann", nil, sum[:], time.Now().Add(time.Hour), h.clock.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	unproved("a proof of before a reset")
	h.proves("ann", secretSentence, secret)
	if err := h.db.DisableAccount(t.Context(), "ann", h.clock.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	h.want(403, "this account is locked")(h.changes(password...))
	if err := h.db.DisableAccount(t.Context(), "ann", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if len(h.changed) > 0 || len(h.left) > 0 {
		t.Errorf("%v, %v", h.changed, h.left)
	}

	// Guesses are those of a sign-in.
	h.browser, h.clock = h.newBrowser(h.handler), h.clock.Add(time.Hour)
	for range 5 {
		h.want(403, "is wrong")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {"wrong"}, "for": {forAccount}}))
	}
	h.want(429, "too many failed attempts")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}, "for": {forAccount}}))
}

// TestChangingAnAccount: a person changes all that they sign in with; what was before is worth nothing.
func TestChangingAnAccount(t *testing.T) {
	h := newHouse(t)
	secret, codes := h.setUp("ann")
	bobsSecret, _ := h.setUp("bob")
	h.isDevice("dev-1", "ann")
	h.proves("ann", secretSentence, secret)

	// The password, and all others are out.
	h.want(403, "the two passwords differ")(h.changes("do", "password", "password", anotherSentence, "again", "x"))
	h.want(403, "<details open><summary>Password")(h.changes("do", "password", "password", "short", "again", "short", "others", "yes"))
	h.unwritten = &auth.Error{Code: "E_AUDIT", Sentence: "nothing can be written"}
	h.want(403, "nothing can be written")(h.changes("do", "password", "password", anotherSentence, "again", anotherSentence, "others", "yes"))
	if h.unwritten = nil; len(h.left) > 0 {
		t.Errorf("others are out, and nothing has changed: %v", h.left)
	}
	h.want(200, "Your password is changed. You are signed out everywhere else.")(h.changes("do", "password", "password", anotherSentence, "again", anotherSentence, "others", "yes"))
	mine := h.browser
	h.browser = h.newBrowser(h.handler)
	h.want(403, "the password is wrong")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}}))
	h.want(200, "authenticator app")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {anotherSentence}}))
	h.isDevice("dev-2", "bob") // in whose browser she does it
	h.proves("ann", anotherSentence, secret)
	h.want(200, "You are signed out everywhere else.")(h.changes("do", "others", "others", "yes"))
	if want := []string{"all of ann but dev-1", "all of ann but "}; !slices.Equal(h.left, want) {
		t.Errorf("left %q, want %q", h.left, want)
	}
	h.browser = mine
	h.want(200, "Is it you?")(h.accountPage()) // she was here before

	// A passkey, which signs her in, and proves it is her.
	h.proves("ann", anotherSentence, secret)
	key := passkeytest.New(t, "bastion.example")
	ask := h.asked("/login/account/passkey", "{}")
	made := fmt.Sprintf(`{"id":%q,"response":%s}`, ask.ID, key.Create(ask.Options))
	h.want(403, "a name of a passkey is at most")(h.changes("do", "passkey", "passkey", made, "name", strings.Repeat("x", 100)))
	h.want(403, "the passkey was not accepted")(h.changes("do", "passkey", "passkey", "{", "name", "Phone"))
	h.want(200, "The passkey is added.")(h.changes("do", "passkey", "passkey", made, "name", "Phone <1>"))
	h.want(403, "the passkey was not accepted")(h.changes("do", "passkey", "passkey", made, "name", "Phone"))
	if len(key.Read(h.asked("/login/account/passkey", "{}").Options).PublicKey.ExcludeCredentials) != 1 {
		t.Error("an authenticator is asked for a second one")
	}
	ask = h.asked("/login/passkey", `{"visit":false,"for":"account"}`)
	h.want(200, `"to":"/login/account"`)(h.send("POST", "/login/passkey/answer", "application/json", fmt.Sprintf(`{"id":%q,"for":"account","response":%s}`, ask.ID, key.Get(ask.Options)), h.url))
	h.want(200, "Phone &lt;1&gt;")(h.accountPage())

	// Another app; of the one before no code is good.
	next := hiddenSecret.FindStringSubmatch(h.want(200, "Scan this with the app")(h.changes("do", "app")))[1]
	h.want(403, `value="`+next+`"`)(h.changes("do", "app", "secret", next, "code", "000000"))
	one, err := totp.GenerateCode(next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h.want(403, "the code is wrong")(h.changes("do", "app", "secret", "AAAA", "code", one))
	h.want(200, "Your authenticator app is set up.")(h.changes("do", "app", "secret", next, "code", one))
	h.clock = h.clock.Add(time.Minute)
	h.post("/login/password", url.Values{"user": {"ann"}, "password": {anotherSentence}})
	h.want(403, "the code is wrong")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}}))
	h.proves("ann", anotherSentence, next)

	// New recovery codes.
	page := h.want(200, "shown only now")(h.changes("do", "codes"))
	shown := regexp.MustCompile(`<li>([0-9A-Z-]{19,})</li>`).FindAllStringSubmatch(page, -1)
	if len(shown) != 10 {
		t.Fatalf("%d codes: %s", len(shown), page)
	}
	h.post("/login/password", url.Values{"user": {"ann"}, "password": {anotherSentence}})
	h.want(403, "the code is wrong")(h.post("/login/factor", url.Values{"method": {"recovery"}, "code": {codes[0]}}))
	h.want(200, "/login/browser")(h.post("/login/factor", url.Values{"method": {"recovery"}, "code": {shown[0][1]}}))

	// Of the second steps one is left, and nobody removes another's.
	h.want(200, ", 9 left")(h.accountPage())
	app, phone := h.idOf("Authenticator app"), h.idOf("Phone &lt;1&gt;")
	h.proves("bob", secretSentence, bobsSecret)
	h.want(403, "does not have this any more")(h.changes("do", "remove", "id", phone))
	h.proves("ann", anotherSentence, next)
	factors, err := h.accounts.Factors(t.Context(), "ann")
	if err != nil || factors[0].Kind != store.Password {
		t.Fatalf("%+v, %v", factors, err)
	}
	h.want(403, "does not have this any more")(h.changes("do", "remove", "id", factors[0].ID))
	h.want(403, "does not have this any more")(h.changes("do", "remove"))
	h.want(200, "The authenticator app is removed.")(h.changes("do", "remove", "id", app))
	h.want(403, "this is the only second step")(h.changes("do", "remove", "id", phone))
	h.want(200, "What you sign in with")(h.changes("do", "nonsense"))

	want := []string{"ann: password", "ann: passkey added Phone <1>", "ann: authenticator app", "ann: recovery codes", "ann: authenticator app removed", "ann: passkey removed Phone <1>"}
	if !slices.Equal(h.changed, want) {
		t.Errorf("written %q, want %q", h.changed, want)
	}
}
