package portal

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/portal/web"
)

// asks is a request of a browser with headers of its own.
func (h *house) asks(method, path string, header http.Header) *http.Response {
	h.t.Helper()
	r := httptest.NewRequest(method, h.url+path, strings.NewReader("{}"))
	r.Header = header
	r.RemoteAddr = "192.0.2.8:4711"
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w.Result()
}

// changing are the routes that may change something: those that this package's sources name, and the API's.
func changing(t *testing.T) (routes [][2]string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`"(POST|PUT|PATCH|DELETE) (/[^"]*)"`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(source), -1) {
			routes = append(routes, [2]string{m[1], m[2]})
		}
	}
	if len(routes) < 15 {
		t.Fatalf("the sources name %d routes that change something: %v", len(routes), routes)
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	data, err := os.ReadFile("../openapi.json")
	if err == nil {
		err = json.Unmarshal(data, &document)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := len(routes)
	for path, methods := range document.Paths {
		for method := range methods {
			if method := strings.ToUpper(method); slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, method) {
				routes = append(routes, [2]string{method, path})
			}
		}
	}
	if len(routes) < before+20 {
		t.Fatalf("the document of the API has %d routes that change something", len(routes)-before)
	}
	return routes
}

// TestCrossSite: no route that changes something does so for another page, whoever is signed in.
func TestCrossSite(t *testing.T) {
	h := newHouse(t)
	secret, err := h.remember("dev-1")
	if err != nil {
		t.Fatal(err)
	}
	says := func(pairs ...string) http.Header {
		header := http.Header{"Cookie": {sessionCookie + "=" + secret}, "Content-Type": {"text/plain"}}
		for i := 0; i < len(pairs); i += 2 {
			header.Set(pairs[i], pairs[i+1])
		}
		return header
	}
	foreign := map[string]http.Header{
		"another site": says("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), "an older browser": says("Origin", "https://evil.example"),
		"a sandbox": says("Origin", "null", "Sec-Fetch-Site", "cross-site"), "a subdomain": says("Origin", "https://a.bastion.example", "Sec-Fetch-Site", "same-site"),
		"another port": says("Origin", "https://bastion.example:8443", "Sec-Fetch-Site", "same-site"), "no TLS": says("Origin", "http://bastion.example", "Sec-Fetch-Site", "cross-site"),
		"a longer name": says("Origin", "https://bastion.example.evil.example"), "a user": says("Origin", "https://bastion.example@evil.example"), "capitals": says("Origin", "HTTPS://BASTION.EXAMPLE"),
		"a form without Origin": says("Sec-Fetch-Site", "cross-site"), "a sibling without Origin": says("Sec-Fetch-Site", "same-site"),
	}
	for _, route := range changing(t) {
		path := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(route[1], "x")
		for name, header := range foreign {
			for _, method := range []string{route[0], "OPTIONS"} { // and nobody is told that they may
				resp := h.asks(method, path, header)
				if allowed := resp.Header.Get("Access-Control-Allow-Origin"); allowed != "" || method != "OPTIONS" && resp.StatusCode != 403 || len(resp.Cookies()) > 0 {
					t.Errorf("%s %s of %s: %s %v", method, path, name, resp.Status, resp.Header)
				}
			}
		}
		if resp := h.asks(route[0], path, says("Origin", "null", "Origin", h.url, "Sec-Fetch-Site", "same-origin")); resp.StatusCode == 403 && resp.Header.Get("Content-Type") != "application/json" && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s %s of our own page: %s", route[0], path, resp.Status)
		}
	}
	if len(h.enrolled) > 0 || len(h.door.opened) > 0 || len(h.left) > 0 {
		t.Errorf("another page has done something: %v %v %v", h.enrolled, h.door.opened, h.left)
	}
	// What is read is not for others either.
	for _, site := range []string{"cross-site", "same-site", "none"} {
		if resp := h.asks("GET", "/api/v1/me", says("Sec-Fetch-Site", site)); resp.StatusCode != 403 {
			t.Errorf("a request that is %s reads the API: %s", site, resp.Status)
		}
	}
}

// TestEveryAnswer: whatever is answered, no page may frame it, nothing in it is taken for something else, and none of it stays
// in a cache but what everybody gets.
func TestEveryAnswer(t *testing.T) {
	h := newHouse(t)
	script := string(regexp.MustCompile(`/assets/[^"]+\.js`).Find(web.Page()))
	paths := []string{"/", "/targets", "/connect/db-1", "/session/db-1/terminal", "/files/db-1", "/admin/audit", "/downloads", "/login", "/login?next=//evil.example", "/login/device", "/login/browser", "/login/code",
		"/login/style.css", "/login/script.js", "/login/guest.js", "/login/corp?state=x&code=y", "/setup", "/guest", "/guest/look", "/api/v1/me", "/api/v1/nothing", "/api/v1/login", "/nothing", "/favicon.ico", "/robots.txt",
		script, "/assets/", "/assets/nothing.js", "/assets/..%2findex.html", "/assets/%2e%2e/%2e%2e/web.go", "/login/..%2fportal.go", "/login/%2e%2e/pages.html", "//evil.example/", "/\\evil.example", "/a/../login", "/login//", "/%00", "/%ff"}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "TRACE", "BREW"} {
			r := httptest.NewRequest(method, "https://bastion.example/", nil)
			u, err := url.Parse("https://bastion.example" + path)
			if err != nil {
				t.Fatalf("%q: %v", path, err)
			}
			r.URL, r.RequestURI, r.Host = u, path, "evil.example" // whatever somebody says they want it of
			r.RemoteAddr = "192.0.2.9:4711"
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r)
			resp := w.Result()
			policy := resp.Header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "base-uri 'none'") || !strings.Contains(policy, "form-action 'self'") || strings.Contains(policy, "unsafe-inline") {
				t.Errorf("%s %s: the policy is %q", method, path, policy)
			}
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") != "same-origin" || resp.Header.Get("Cross-Origin-Opener-Policy") != "same-origin" ||
				resp.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" || resp.Header.Get("Strict-Transport-Security") == "" {
				t.Errorf("%s %s: %v", method, path, resp.Header)
			}
			if kind := resp.Header.Get("Content-Type"); kind == "" && w.Body.Len() > 0 {
				t.Errorf("%s %s: what it is is left to guesses", method, path)
			}
			public := strings.HasSuffix(path, ".css") || strings.HasSuffix(path, ".js") && resp.StatusCode == 200
			if cache := resp.Header.Get("Cache-Control"); !public && cache != "no-store" || public && resp.StatusCode == 200 && !strings.Contains(cache, "max-age") {
				t.Errorf("%s %s: %d, cached as %q", method, path, resp.StatusCode, cache)
			}
			if to := resp.Header.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/\\")) {
				t.Errorf("%s %s leads to %q", method, path, to)
			}
			if text := w.Body.String(); strings.Contains(text, "//evil.example") || strings.Contains(text, "package portal") || strings.Contains(text, "{{define") {
				t.Errorf("%s %s answers %.200q", method, path, text)
			}
		}
	}
}

// TestCookies: no cookie can be read by script, be set by a neighbour, or go to one; and none that was there before somebody has
// shown something stands for them afterwards.
func TestCookies(t *testing.T) {
	h := newHouse(t)
	secret, _ := h.setUp("ann")
	h.clock = h.clock.Add(time.Minute)
	given := map[string][]string{}
	transport := h.browser.Transport
	h.browser.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		for i, c := range resp.Cookies() {
			lax := c.Name == browserCookie || c.Name == guestCookie
			if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.MaxAge == 0 || c.SameSite != http.SameSiteStrictMode && !(lax && c.SameSite == http.SameSiteLaxMode) {
				t.Errorf("%s sets %s", r.URL.Path, resp.Header.Values("Set-Cookie")[i])
			}
			if c.Value != "" {
				given[c.Name] = append(given[c.Name], c.Value)
			}
		}
		return resp, nil
	})
	u, _ := url.Parse(h.url)
	planted := "PLANTEDPLANTEDPLANTEDPLANT"
	h.browser.Jar.SetCookies(u, []*http.Cookie{{Name: visitCookie, Value: planted, Path: "/", Secure: true}, {Name: sessionCookie, Value: planted, Path: "/", Secure: true}, {Name: knownCookie, Value: planted, Path: "/", Secure: true}})
	h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}})
	half := h.browser.Jar.Cookies(u)
	h.want(200, "/login/browser")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}}))
	whole := h.browser.Jar.Cookies(u)
	h.door.adds("signed", auth.GuestLink{SignIn: true})
	key := newKey(t)
	body, err := json.Marshal(api.LoginStart{Key: key, Name: "Firefox", Platform: "browser"})
	if err != nil {
		t.Fatal(err)
	}
	enrol := func() (int, string) { return h.send("POST", "/login/browser", "application/json", string(body), h.url) }
	h.browser.Jar.SetCookies(u, half) // which somebody else may have seen, before the second step
	h.want(403, "E_LOGIN_AGAIN")(enrol())
	h.browser.Jar.SetCookies(u, []*http.Cookie{{Name: visitCookie, Value: planted, Path: "/", Secure: true}})
	h.want(403, "E_LOGIN_AGAIN")(enrol())
	h.want(403, "E_LOGIN_AGAIN")(h.opens("signed")) // and has a cookie that waits for the sign-in
	h.browser.Jar.SetCookies(u, whole)
	h.want(201, `"user":"ann"`)(enrol())
	h.browser.Jar.SetCookies(u, whole)
	h.want(401, "E_SIGNED_OUT")(h.send("GET", "/api/v1/me", "", "", "")) // by what was planted
	for _, name := range []string{visitCookie, sessionCookie, knownCookie, guestCookie} {
		if len(given[name]) == 0 {
			t.Errorf("%s was never given", name)
		}
		if all := given[name]; slices.Contains(all, planted) || name == visitCookie && all[0] == all[1] {
			t.Errorf("%s was %q", name, all)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestBefore: a browser that becomes another device gives up what it was, and keeps it where it becomes none.
func TestBefore(t *testing.T) {
	h := newHouse(t)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	enrol := func(code string) (int, string) {
		body, err := json.Marshal(api.CodeLogin{Code: code, Key: b64.EncodeToString(pub), Signature: b64.EncodeToString(ed25519.Sign(key, api.CodeMessage(h.url, code))), Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		return h.send("POST", "/login/code", "application/json", string(body), h.url)
	}
	before, err := h.remember("dev-before")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(h.url)
	kept := []*http.Cookie{{Name: sessionCookie, Value: before, Path: "/", Secure: true}}
	h.browser.Jar.SetCookies(u, kept)
	h.want(403, "E_CODE_UNKNOWN")(enrol("wrong"))
	h.want(403, "E_LOGIN_AGAIN")(h.send("POST", "/login/browser", "application/json", `{"key":"`+newKey(t)+`","name":"x","platform":"x"}`, h.url))
	h.want(200, "as dev-before")(h.send("GET", "/api/v1/me", "", "", ""))
	if len(h.left) > 0 {
		t.Fatalf("left %v", h.left)
	}
	h.want(201, `"user":"ann"`)(enrol(goodCode))
	h.want(200, "as "+auth.DeviceID(pub))(h.send("GET", "/api/v1/me", "", "", ""))
	h.browser.Jar.SetCookies(u, kept)
	h.want(401, "E_SIGNED_OUT")(h.send("GET", "/api/v1/me", "", "", ""))
	if !slices.Equal(h.left, []string{"dev-before"}) {
		t.Errorf("left %v", h.left)
	}
}

// TestWaysBackAreCounted: what comes as if from a provider costs a line in the log each, and so is counted.
func TestWaysBackAreCounted(t *testing.T) {
	h := newHouse(t)
	got := map[int]int{}
	for range perSource + 10 {
		got[h.asks("GET", "/login/corp?state=guess&code=guess", http.Header{}).StatusCode]++
	}
	if got[429] != 10 || len(h.refused) != perSource {
		t.Errorf("answered %v, %d in the log", got, len(h.refused))
	}
	if resp := h.asks("GET", "/login", http.Header{}); resp.StatusCode != 200 {
		t.Errorf("the sign-in page: %s", resp.Status)
	}
}
