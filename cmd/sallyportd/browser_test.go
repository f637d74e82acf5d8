package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/pquerna/otp/totp"

	"sallyport/frame"
)

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
	if text := b.page(b.Get(b.url + "/login/corp?" + back.Encode())); !strings.Contains(text, `url=/login/browser"`) && !strings.Contains(text, `url=/guest"`) {
		b.t.Fatalf("back from the provider: %s", text)
	}
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
