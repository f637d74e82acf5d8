package portal

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
)

// TestApp: the application is for who has signed in, others are led to the sign-in and back, and its pages may load what is
// the appliance's own.
func TestApp(t *testing.T) {
	h := newHouse(t)
	h.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	get := func(path string) *http.Response {
		t.Helper()
		resp, err := h.browser.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	for path, to := range map[string]string{"/": "/login", "/targets": "/login?next=%2Ftargets", "/connect/db-1?x=%2F": "/login?next=%2Fconnect%2Fdb-1%3Fx%3D%252F",
		"/session/db-1/terminal": "/login?next=%2Fsession%2Fdb-1%2Fterminal", "/admin/audit": "/login?next=%2Fadmin%2Faudit",
		"/downloads/sallyport-1.2.3-linux-amd64.tar.gz": "/login?next=%2Fdownloads"} {
		if resp := get(path); resp.StatusCode != 303 || resp.Header.Get("Location") != to {
			t.Errorf("%s: %s %s, want %s", path, resp.Status, resp.Header.Get("Location"), to)
		}
	}
	if resp := get("/licenses"); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("/licenses: %s %v", resp.Status, resp.Header)
	}
	if resp := get("/nothing"); resp.StatusCode != 404 {
		t.Errorf("/nothing: %s", resp.Status)
	}
	u, _ := url.Parse(h.url)
	secret, err := h.remember("dev-1")
	if err != nil {
		t.Fatal(err)
	}
	h.browser.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: secret, Path: "/", Secure: true}})
	for _, path := range []string{"/", "/targets", "/connect/db-1", "/admin/audit", "/login/browser", "/login/code"} {
		resp := get(path)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Security-Policy") != appPolicy || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
	if resp := get("/login"); strings.Contains(resp.Header.Get("Content-Security-Policy"), "wasm") {
		t.Errorf("the sign-in page may run WebAssembly: %v", resp.Header)
	}
}

func TestLocalPath(t *testing.T) {
	for next, want := range map[string]string{"/targets": "/targets", "/a?b=c": "/a?b=c", "": "/", "//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/",
		"javascript:x": "/", "/a\tb": "/", "/" + strings.Repeat("a", 600): "/"} {
		if got := localPath(next); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

// TestCode: a browser with a one-time code is enrolled if it holds its key, and by its own page only.
func TestCode(t *testing.T) {
	h := newHouse(t)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(code, signed, address string) string {
		t.Helper()
		body, err := json.Marshal(api.CodeLogin{Code: code, Key: b64.EncodeToString(pub), Signature: b64.EncodeToString(ed25519.Sign(key, api.CodeMessage(address, signed))), Name: "Firefox on Linux", Platform: "browser"})
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	send := func(body, origin string) (int, string) {
		return h.send("POST", "/login/code", "application/json", body, origin)
	}
	good := ask(goodCode, goodCode, h.url)
	h.want(403, "another page")(send(good, "https://evil.example"))
	h.want(403, "E_LOGIN_PROOF")(send(ask(goodCode, "another", h.url), h.url))
	h.want(403, "E_LOGIN_PROOF")(send(ask(goodCode, goodCode, "https://evil.example"), h.url))
	h.want(403, "E_CODE_UNKNOWN")(send(ask("wrong", "wrong", h.url), h.url))
	h.want(400, "E_USAGE")(send(`{"code":1}`, h.url))
	h.want(200, "")(h.send("GET", "/login/code?"+goodCode, "", "", "")) // changes nothing
	h.want(401, "E_SIGNED_OUT")(h.send("GET", "/api/v1/me", "", "", ""))
	text := h.want(201, `"user":"ann"`)(send(good, h.url))
	if !strings.Contains(text, `"identity":["`+b64.EncodeToString(make([]byte, 32))+`"]`) {
		t.Errorf("the browser is not told the appliance's key: %s", text)
	}
	h.want(200, "GET /api/v1/me as "+auth.DeviceID(pub))(h.send("GET", "/api/v1/me", "", "", ""))
}

// goodCode enrols in houses of these tests.
const goodCode = "0123-4567-89AB-CDEF"

// enrolByCode knows one code, which is ann's.
func enrolByCode(e auth.Enrolment, _ *http.Request) (auth.Device, error) {
	if e.Code != goodCode {
		return auth.Device{}, auth.ErrCodeUnknown
	}
	return auth.Device{ID: auth.DeviceID(e.Key), User: "ann"}, nil
}

// remember is the secret of a browser that is a device.
func (h *house) remember(device string) (string, error) {
	return h.browsers.Remember(context.Background(), device, h.clock.Add(time.Hour))
}
