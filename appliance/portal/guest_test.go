package portal

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/signin"
	"sallyport/tests/chromium"
)

// A door lets in who knows a secret, as often as its link says.
type door struct {
	mu     sync.Mutex
	links  map[string]*auth.GuestLink
	looked int
	opened []Opening
}

func (d *door) Look(_ context.Context, secret string, _ netip.Addr) (auth.GuestLink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked++
	l, known := d.links[secret]
	if !known || l.Used >= l.Uses || !l.Good(time.Now()) {
		return auth.GuestLink{}, auth.ErrGuestLink
	}
	return *l, nil
}

func (d *door) Open(ctx context.Context, o Opening) (auth.Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	made := auth.Device{ID: auth.DeviceID(o.Device.Key), User: "guest:" + o.Link.ID + "-1", Key: o.Device.Key}
	if o.Link.SignIn {
		e, err := o.SignedIn(ctx)
		if err != nil {
			return auth.Device{}, err
		}
		made.User = e.Person.User
	}
	for _, l := range d.links {
		if l.ID == o.Link.ID && l.Used < l.Uses {
			l.Used++
			d.opened = append(d.opened, o)
			return made, nil
		}
	}
	return auth.Device{}, auth.ErrGuestLink
}

// adds makes a link of ann's to db-1.
func (d *door) adds(secret string, l auth.GuestLink) string {
	l.ID, l.Maker, l.Target, l.Protocol = "link-"+secret, "ann", "db-1", "ssh"
	if l.Uses == 0 {
		l.Uses = 1
	}
	if l.Expires.IsZero() {
		l.Expires = time.Now().Add(10 * time.Minute)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links[secret] = &l
	return secret
}

func newKey(t *testing.T) string {
	t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return b64.EncodeToString(key)
}

func (h *house) opens(secret string) (int, string) {
	h.t.Helper()
	body, err := json.Marshal(api.OpenGuest{Secret: secret, Key: newKey(h.t), Name: "a guest's browser", Platform: "Linux"})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.send("POST", "/guest/open", "application/json", string(body), h.url)
}

func (h *house) looks(secret string) (int, string) {
	h.t.Helper()
	return h.send("POST", "/guest/look", "application/json", fmt.Sprintf(`{"secret":%q}`, secret), h.url)
}

// TestGuestLink: a link is opened by a click and by nothing else, and the browser is a guest's then.
func TestGuestLink(t *testing.T) {
	h := newHouse(t)
	secret := h.door.adds("good", auth.GuestLink{})
	// A preview of the link, by whatever it is: nothing happens.
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		for _, path := range []string{"/guest", "/guest?" + secret, "/guest/look", "/guest/open"} {
			h.send(method, path, "", "", "")
		}
	}
	if h.door.looked != 0 {
		t.Errorf("a preview has used the link: %d", h.door.looked)
	}
	h.want(200, "Guest access")(h.send("GET", "/guest", "", "", ""))
	page := h.want(200, `"maker":"ann","target":"db-1","protocol":"ssh"`)(h.looks(secret))
	if strings.Contains(page, "instead") {
		t.Error(page)
	}
	// Other pages open nothing.
	for _, origin := range []string{"https://evil.example", "null", "https://bastion.example.evil.example"} {
		h.want(403, "another page")(h.send("POST", "/guest/open", "application/json", fmt.Sprintf(`{"secret":%q}`, secret), origin))
	}
	h.want(201, `"user":"guest:link-good-1"`)(h.opens(secret))
	device := auth.DeviceID(h.door.opened[0].Device.Key)
	h.want(200, "GET /api/v1/me as "+device)(h.send("GET", "/api/v1/me", "", "", ""))
	h.want(403, "this link does not work")(h.opens(secret))
	h.want(403, "this link does not work")(h.looks(secret))
	h.door.adds("second", auth.GuestLink{})
	h.want(200, `"instead":true`)(h.looks("second"))
}

// TestGuestCookie: the browser's cookie ends with the link.
func TestGuestCookie(t *testing.T) {
	h := newHouse(t)
	h.door.adds("short", auth.GuestLink{Expires: time.Now().Add(90 * time.Second)})
	h.door.adds("long", auth.GuestLink{Expires: time.Now().Add(900 * time.Hour)})
	for secret, most := range map[string]int{"short": 90, "long": 3600} {
		body, err := json.Marshal(api.OpenGuest{Secret: secret, Key: newKey(t), Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", h.url+"/guest/open", strings.NewReader(string(body)))
		r.Header.Set("Origin", h.url)
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, r)
		found := false
		for _, c := range w.Result().Cookies() {
			if c.Name == sessionCookie {
				found = true
				if c.MaxAge > most || c.MaxAge < most-10 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode {
					t.Errorf("%s: %+v", secret, c)
				}
			}
		}
		if !found {
			t.Errorf("%s: %d %s", secret, w.Code, w.Body)
		}
	}
}

// TestBadGuestLinks: whatever is wrong with a link, the answer is the same, and takes as long.
func TestBadGuestLinks(t *testing.T) {
	h := newHouse(t)
	h.door.adds("used", auth.GuestLink{Used: 1})
	h.door.adds("expired", auth.GuestLink{Expires: time.Now().Add(-time.Minute)})
	h.door.adds("revoked", auth.GuestLink{Revoked: time.Now()})
	first := ""
	for _, secret := range []string{"unknown", "used", "expired", "revoked", "", strings.Repeat("x", 10_000)} {
		for what, ask := range map[string]func(string) (int, string){"look": h.looks, "open": h.opens} {
			begun := time.Now()
			status, said := ask(secret)
			if took := time.Since(begun); took < badLink || took > badLink+250*time.Millisecond {
				t.Errorf("%s %.10q took %v", what, secret, took)
			}
			if first == "" {
				first = said
			}
			if status != 403 || said != first || !strings.Contains(said, "E_GUEST_LINK") {
				t.Errorf("%s %.10q: %d %s", what, secret, status, said)
			}
		}
	}
}

// TestGuestsAreCounted: who guesses is stopped.
func TestGuestsAreCounted(t *testing.T) {
	h := newHouse(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for i := range 2 * perSource {
		wg.Go(func() {
			r := httptest.NewRequest("POST", h.url+"/guest/look", strings.NewReader(fmt.Sprintf(`{"secret":"guess %d"}`, i)))
			r.Header.Set("Origin", h.url)
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r)
			mu.Lock()
			defer mu.Unlock()
			got[w.Code]++
		})
	}
	wg.Wait()
	if got[403] != perSource || got[429] != perSource {
		t.Errorf("%v", got)
	}
}

// TestGuestSignsIn: a link that wants it opens for who has signed in in the same browser, once.
func TestGuestSignsIn(t *testing.T) {
	h := newHouse(t)
	secret, _ := h.setUp("carl")
	h.door.adds("signed", auth.GuestLink{SignIn: true})
	h.want(200, `"sign_in":true`)(h.looks("signed"))
	h.want(403, signin.ErrVisit.Code)(h.opens("signed"))
	h.want(200, "One more step")(h.post("/login/password", url.Values{"user": {"carl"}, "password": {secretSentence}}))
	h.want(403, signin.ErrVisit.Code)(h.opens("signed")) // half of it is nothing
	h.clock = h.clock.Add(time.Minute)
	h.want(200, `url=/guest"`)(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}}))
	h.want(201, `"user":"carl"`)(h.opens("signed"))
}

// TestGuestInChromium: a real browser opens a link. The secret leaves the address bar, the key cannot be read, and the page
// keeps to its policy.
func TestGuestInChromium(t *testing.T) {
	c := hand{chromium.New(t), t}
	server := httptest.NewUnstartedServer(nil)
	address := "https://localhost:" + server.Listener.Addr().String()[strings.LastIndex(server.Listener.Addr().String(), ":")+1:]
	h := newHouseAt(t, address, "localhost")
	server.Config.Handler = h.handler
	server.StartTLS()
	defer server.Close()
	c.Call("Page.enable", nil)
	c.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{
		"source": "window.broken = []; document.addEventListener('securitypolicyviolation', e => window.broken.push(e.violatedDirective + ' ' + e.blockedURI))"})

	evil := auth.GuestLink{Approval: `<img src=x onerror="window.broken.push('xss')">`}
	h.door.adds("secret-of-the-link", evil)
	c.Call("Page.navigate", map[string]any{"url": address + "/guest#secret-of-the-link"})
	c.Sees("ann lets you connect to db-1.")
	c.Sees("terminal (SSH)")
	c.Sees("Somebody in <img src=x")
	if href := c.Run("location.href"); strings.Contains(href, "secret") {
		t.Errorf("the secret stays in the address: %s", href)
	}
	if broken := c.Run("JSON.stringify(window.broken)"); broken != "[]" {
		t.Errorf("the page breaks its policy: %s", broken)
	}
	if len(h.door.opened) != 0 {
		t.Error("it was opened before the click")
	}
	c.press("Connect")
	for end := time.Now().Add(20 * time.Second); c.Run("location.pathname") != "/connect/db-1"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("at %s: %s", c.Run("location.href"), c.Run("document.body.innerText"))
		}
	}
	if len(h.door.opened) != 1 {
		t.Fatalf("opened %d times", len(h.door.opened))
	}
	// From another page of the same origin: the key is there, signs for the device, and is not to be had.
	c.Call("Page.navigate", map[string]any{"url": address + "/login"})
	c.Sees("Sign in")
	c.Run(`window.found = ""; (async () => {
		const open = indexedDB.open("sallyport");
		const db = await new Promise(r => open.onsuccess = () => r(open.result));
		const get = db.transaction("device").objectStore("device").get("key");
		const pair = await new Promise(r => get.onsuccess = () => r(get.result));
		const raw = pair.publicKey;
		const refused = await crypto.subtle.exportKey("pkcs8", pair.privateKey).then(() => "exported", e => e.name);
		const mine = await crypto.subtle.sign("Ed25519", pair.privateKey, new TextEncoder().encode("hello"));
		window.found = JSON.stringify({id: pair.id, user: pair.user, identity: pair.identity.map(k => k.length), key: [...raw], refused, signature: [...new Uint8Array(mine)]});
	})().catch(e => window.found = JSON.stringify({refused: String(e)}))`)
	var found struct {
		ID, User                 string
		Identity, Key, Signature []int
		Refused                  string
	}
	for end := time.Now().Add(10 * time.Second); c.Run("window.found") == "" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	if err := json.Unmarshal([]byte(c.Run("window.found")), &found); err != nil {
		t.Fatal(err)
	}
	key := ed25519.PublicKey(octets(found.Key))
	if found.Refused != "InvalidAccessError" || found.ID != auth.DeviceID(key) || found.User != "guest:link-secret-of-the-link-1" || len(found.Identity) != 1 || found.Identity[0] != 32 || !key.Equal(h.door.opened[0].Device.Key) || !ed25519.Verify(key, []byte("hello"), octets(found.Signature)) {
		t.Errorf("%+v", found)
	}

	// A link that does not work says so, and one that is cut off too.
	c.Call("Page.navigate", map[string]any{"url": address + "/guest#secret-of-the-link"})
	c.Sees("link does not work")
	c.Run("sessionStorage.clear()")
	c.Call("Page.navigate", map[string]any{"url": address + "/login"})
	c.Sees("Sign in")
	c.Call("Page.navigate", map[string]any{"url": address + "/guest"})
	c.Sees("link is not whole")

	// Who must sign in is told, and goes on afterwards with the link that they came with.
	secret, _ := h.setUp("carl")
	h.clock = h.clock.Add(time.Minute)
	h.door.adds("for-who-signs-in", auth.GuestLink{SignIn: true})
	c.Call("Page.navigate", map[string]any{"url": address + "/guest#for-who-signs-in"})
	c.Sees("ann lets you connect")
	c.press("Connect")
	c.Sees("You must sign in first.")
	c.Run("document.getElementById('guest-to-sign-in').click()")
	c.Sees("User name")
	c.fill("user", "carl")
	c.fill("password", secretSentence)
	c.press("Sign in")
	c.Sees("One more step")
	c.fill("code", h.code(secret))
	c.press("Continue")
	c.Sees("ann lets you connect")
	c.press("Connect")
	for end := time.Now().Add(20 * time.Second); c.Run("location.pathname") != "/connect/db-1"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("at %s: %s", c.Run("location.href"), c.Run("document.body.innerText"))
		}
	}
}

// octets are bytes as a script lists them.
func octets(list []int) []byte {
	b := make([]byte, len(list))
	for i, n := range list {
		b[i] = byte(n)
	}
	return b
}
