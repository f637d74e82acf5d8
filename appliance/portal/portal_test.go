package portal

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/passkey/passkeytest"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/pending"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/people"
	"sallyport/appliance/store"
)

const secretSentence = "four words and a half"

// A house is the pages of an appliance with a real database, and a browser.
type house struct {
	t         *testing.T
	db        *store.Store
	accounts  *people.Accounts
	url       string
	browser   *http.Client
	refused   []error
	enrolled  []signin.Enrolment
	left      []string // devices that browsers were before
	key       *passkeytest.Authenticator
	clock     time.Time
	handler   http.Handler
	door      *door
	browsers  *people.Browsers
	users     map[string]string // of devices that may go on
	changed   []string          // what people have changed, as it is written
	unwritten error             // why nothing can be written
}

func newHouse(t *testing.T) *house {
	return newHouseAt(t, "https://bastion.example", "bastion.example")
}

func newHouseAt(t *testing.T, address, host string) *house {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	h := &house{t: t, db: db, accounts: &people.Accounts{Store: db, Box: people.NewBox([32]byte{1})}, key: passkeytest.New(t, host), clock: time.Now(), door: &door{links: map[string]*auth.GuestLink{}}, browsers: &people.Browsers{Store: db}, users: map[string]string{}}
	waiting := pending.NewMemory(pending.Config{})
	rp, err := passkey.New(passkey.Config{Host: host, Origins: []string{address}, Waiting: waiting})
	if err != nil {
		t.Fatal(err)
	}
	hasher := password.New(password.Config{Memory: 64, Passes: 1})
	service := signin.New(signin.Config{Accounts: h.accounts, Passkeys: rp, Passwords: hasher, Visits: waiting, Cookies: lockout.NewCookies([32]byte{2}, time.Now),
		Clock: func() time.Time { return h.clock }})
	// Requests go to the pages under the name that cookies and passkeys belong to.
	handler, err := New(Config{Name: "bastion", Banner: "For <work> only.", URL: address, Service: service, Accounts: h.accounts, Passwords: hasher, Passkeys: rp,
		Enrol: func(_ context.Context, e signin.Enrolment) (auth.Device, error) {
			h.enrolled = append(h.enrolled, e)
			return auth.Device{ID: auth.DeviceID(e.Key), User: e.Person.User}, nil
		},
		SetUp:  func(string, netip.Addr) {},
		UserOf: func(device string) string { return h.users[device] },
		Changing: func(user string, _ netip.Addr, what, object string, do func() error) error {
			if h.unwritten != nil {
				return h.unwritten
			}
			h.changed = append(h.changed, strings.TrimSpace(user+": "+what+" "+object))
			return do()
		},
		LeaveOthers: func(user, but string, _ *http.Request) error {
			h.left = append(h.left, "all of "+user+" but "+but)
			return nil
		},
		Known:    func(*http.Request) {},
		Browsers: h.browsers, Guests: h.door, Lasts: time.Hour, EnrolByCode: enrolByCode, Identity: [][]byte{make([]byte, 32)},
		API: func(device string, _ *http.Request) (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s as %s", r.Method, r.URL.Path, device)
			}), nil
		},
		Leave: func(device string, _ *http.Request) error {
			h.left = append(h.left, device)
			return nil
		},
		Refused: func(_ string, _ netip.Addr, err error) { h.refused = append(h.refused, err) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h.url, h.handler = address, handler
	h.browser = h.newBrowser(handler)
	return h
}

// direct hands requests to a handler without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	r.RemoteAddr = "192.0.2.7:4711"
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	d.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func (h *house) newBrowser(handler http.Handler) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return &http.Client{Jar: jar, Transport: direct{handler}}
}

// post fills in a form, and returns what the page says.
func (h *house) post(path string, form url.Values) (int, string) {
	h.t.Helper()
	return h.send("POST", path, "application/x-www-form-urlencoded", form.Encode(), h.url)
}

func (h *house) send(method, path, kind, body, origin string) (int, string) {
	h.t.Helper()
	r, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	resp, err := h.browser.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// want fails the test if a page does not say what it should.
func (h *house) want(status int, says string) func(int, string) string {
	h.t.Helper()
	return func(got int, page string) string {
		h.t.Helper()
		if got != status || !strings.Contains(page, says) {
			h.t.Fatalf("%d, want %d with %q:\n%s", got, status, says, page)
		}
		return page
	}
}

// newAccount makes an account and returns its set-up code.
func (h *house) newAccount(user string) string {
	h.t.Helper()
	code := "code of " + user
	sum := sha256.Sum256([]byte(code))
	if err := h.db.OpenAccount(h.t.Context(), store.Account{Name: user, Source: store.Local, Subject: store.NewSubject(), Created: time.Now()}, sum[:], time.Now().Add(time.Hour)); err != nil {
		h.t.Fatal(err)
	}
	return code
}

var hiddenSecret = regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`)

// setUp makes an account by its set-up pages, and returns the secret of its one-time codes and its recovery codes.
func (h *house) setUp(user string) (secret string, recovery []string) {
	h.t.Helper()
	code := h.newAccount(user)
	page := h.want(200, "Welcome, "+user)(h.post("/setup", url.Values{"code": {code}}))
	secret = hiddenSecret.FindStringSubmatch(page)[1]
	form := func(password, again, one string) url.Values {
		return url.Values{"code": {code}, "secret": {secret}, "password": {password}, "again": {again}, "totp": {one}}
	}
	h.want(403, "the two passwords differ")(h.post("/setup/finish", form(secretSentence, "another", h.code(secret))))
	h.want(403, "at least 12")(h.post("/setup/finish", form("short", "short", h.code(secret))))
	h.want(403, "the code is wrong")(h.post("/setup/finish", form(secretSentence, secretSentence, "000000")))
	page = h.want(200, "shown only now")(h.post("/setup/finish", form(secretSentence, secretSentence, h.code(secret))))
	for _, m := range regexp.MustCompile(`<li>([0-9A-Z-]+)</li>`).FindAllStringSubmatch(page, -1) {
		recovery = append(recovery, m[1])
	}
	h.want(403, "this set-up link is not known here any more")(h.post("/setup", url.Values{"code": {code}}))
	return secret, recovery
}

func (h *house) code(secret string) string {
	h.t.Helper()
	code, err := totp.GenerateCode(secret, h.clock)
	if err != nil {
		h.t.Fatal(err)
	}
	return code
}

// A device waits for its login.
type device struct {
	h       *house
	key     ed25519.PrivateKey
	started api.LoginStarted
	counter uint64
}

func (h *house) device() *device {
	h.t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	d := &device{h: h, key: key}
	body, _ := json.Marshal(api.LoginStart{Key: b64.EncodeToString(pub), Name: "laptop", Platform: "linux/amd64"})
	status, text := h.send("POST", "/api/v1/login", "application/json", string(body), "")
	if err := json.Unmarshal([]byte(text), &d.started); err != nil || status != 201 {
		h.t.Fatalf("%d: %s", status, text)
	}
	return d
}

func (d *device) poll() (api.LoginState, string) {
	d.h.t.Helper()
	d.h.clock = d.h.clock.Add(3 * time.Second)
	d.counter++
	body, _ := json.Marshal(api.LoginPoll{ID: d.started.ID, Counter: d.counter, Signature: b64.EncodeToString(ed25519.Sign(d.key, signin.PollMessage(d.started.ID, d.counter)))})
	status, text := d.h.send("POST", "/api/v1/login/poll", "application/json", string(body), "")
	var state api.LoginState
	var no api.Failure
	if err := errors.Join(json.Unmarshal([]byte(text), &state), json.Unmarshal([]byte(text), &no)); err != nil {
		d.h.t.Fatalf("%d: %s", status, text)
	}
	return state, no.Code
}

// TestLogin: an account is set up, signs in by password and one-time code, and makes a device its own.
func TestLogin(t *testing.T) {
	h := newHouse(t)
	secret, recovery := h.setUp("ann")
	if len(recovery) != 10 {
		t.Fatalf("%d recovery codes", len(recovery))
	}
	d := h.device()
	if state, _ := d.poll(); state.State != "waiting" {
		t.Fatalf("%+v", state)
	}
	h.want(403, "the user name or the password is wrong")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {"wrong"}}))
	h.want(200, "authenticator app")(h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}}))
	h.want(403, "this page is too old")(h.post("/login/confirm", url.Values{"code": {d.started.Code}})) // before the second step
	h.want(403, "the code is wrong")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {"000000"}}))
	h.clock = h.clock.Add(time.Minute) // the code of the setup is used up
	h.want(200, "/login/browser")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}}))
	h.want(403, "no login waits under this code")(h.post("/login/device", url.Values{"code": {"BBBB-BBBB"}}))
	page := h.want(200, "Is this your device?")(h.post("/login/device", url.Values{"code": {strings.ToLower(d.started.Code)}}))
	for _, says := range []string{d.started.Code, "laptop", "linux/amd64", "192.0.2.7"} {
		if !strings.Contains(page, says) {
			t.Errorf("the page does not show %q", says)
		}
	}
	if len(h.enrolled) != 0 {
		t.Fatal("enrolled before somebody has confirmed")
	}
	h.want(200, "Signed in")(h.post("/login/confirm", url.Values{"code": {d.started.Code}}))
	state, _ := d.poll()
	if state.State != "enrolled" || state.User != "ann" || len(h.enrolled) != 1 || h.enrolled[0].Person.MFA.IsZero() || h.enrolled[0].Person.Method != "password+totp" {
		t.Fatalf("%+v, %+v", state, h.enrolled)
	}
	if _, code := d.poll(); code != "E_LOGIN_USED" || len(h.enrolled) != 1 {
		t.Errorf("a second poll: %s", code)
	}
	h.want(403, "this page is too old")(h.post("/login/confirm", url.Values{"code": {h.device().started.Code}})) // one sign-in is for one device

	// The person says no.
	d = h.device()
	h.want(200, "Denied")(h.post("/login/deny", url.Values{"code": {d.started.Code}}))
	if _, code := d.poll(); code != "E_LOGIN_DENIED" {
		t.Errorf("a denied login: %s", code)
	}
	// With a recovery code, once.
	for _, says := range []string{"/login/browser", "the code is wrong or has been used"} {
		h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}})
		if _, page := h.post("/login/factor", url.Values{"method": {"recovery"}, "code": {recovery[3]}}); !strings.Contains(page, says) {
			t.Errorf("not %q: %s", says, page)
		}
	}
}

// TestBanner: what people consent to is told where they come in, as text.
func TestBanner(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/login", "/setup", "/guest"} {
		h.want(200, `<p class="banner">For &lt;work&gt; only.</p>`)(h.send("GET", path, "", "", ""))
	}
}

// asked is what a page asks of an authenticator.
func (h *house) asked(path, body string) (a passkey.Ask) {
	h.t.Helper()
	status, text := h.send("POST", path, "application/json", body, h.url)
	if err := json.Unmarshal([]byte(text), &a); err != nil || status != 200 {
		h.t.Fatalf("%d: %s", status, text)
	}
	return a
}

// TestPasskey: a passkey that was made at the setup signs in by itself.
func TestPasskey(t *testing.T) {
	h := newHouse(t)
	code := h.newAccount("ann")
	ask := h.asked("/setup/passkey", fmt.Sprintf(`{"code":%q}`, code))
	answer := fmt.Sprintf(`{"id":%q,"response":%s}`, ask.ID, h.key.Create(ask.Options))
	h.want(200, "Your account is ready")(h.post("/setup/finish", url.Values{"code": {code}, "password": {secretSentence}, "again": {secretSentence}, "passkey": {answer}}))
	d := h.device()
	ask = h.asked("/login/passkey", `{"visit":false}`)
	h.want(200, "/login/browser")(h.send("POST", "/login/passkey/answer", "application/json", fmt.Sprintf(`{"id":%q,"response":%s}`, ask.ID, h.key.Get(ask.Options)), h.url))
	h.want(200, "Signed in")(h.post("/login/confirm", url.Values{"code": {d.started.Code}}))
	if state, _ := d.poll(); state.State != "enrolled" || h.enrolled[0].Person.Method != "passkey" {
		t.Errorf("%+v, %+v", state, h.enrolled)
	}
}

// TestOthersPages: no page but the appliance's own may have a browser do anything.
func TestOthersPages(t *testing.T) {
	h := newHouse(t)
	h.setUp("ann")
	form := url.Values{"user": {"ann"}, "password": {secretSentence}}.Encode()
	for _, origin := range []string{"https://evil.example", "https://bastion.example:8443", "http://bastion.example", "null"} {
		h.want(403, "another page")(h.send("POST", "/login/password", "application/x-www-form-urlencoded", form, origin))
	}
	for _, path := range []string{"/login/password", "/login/confirm", "/login/deny", "/setup/finish", "/api/v1/login", "/api/v1/login/poll"} {
		if status, _ := h.send("GET", path+"?"+form, "", "", ""); !slices.Contains([]int{401, 403, 404, 405}, status) {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	status, page := h.send("GET", "/login", "", "", "")
	if status != 200 || strings.Contains(page, "<style") || strings.Contains(page, "onclick") || strings.Contains(page, "<script>") {
		t.Errorf("%d: %s", status, page)
	}
	if status, _ := h.send("POST", "/login/password", "application/x-www-form-urlencoded", "password="+strings.Repeat("x", 1<<20), h.url); status == 200 {
		t.Error("a body of a megabyte is read")
	}
}

// TestDisabled: a disabled account is told so, one whose password was reset sets itself up again, and a removed one is
// unknown.
func TestDisabled(t *testing.T) {
	h := newHouse(t)
	h.setUp("ann")
	form := url.Values{"user": {"ann"}, "password": {secretSentence}}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(h.db.DisableAccount(t.Context(), "ann", time.Now()))
	h.want(403, "this account is locked")(h.post("/login/password", form))
	ok(h.db.DisableAccount(t.Context(), "ann", time.Time{}))
	h.want(200, "authenticator app")(h.post("/login/password", form))
	sum := sha256.Sum256([]byte("again"))
	ok(h.db.ResetAccount(t.Context(), "ann", []string{store.Password}, sum[:], time.Now().Add(time.Hour), time.Now()))
	h.want(403, "the user name or the password is wrong")(h.post("/login/password", form))
	h.want(200, "Welcome, ann")(h.post("/setup", url.Values{"code": {"again"}}))
	ok(h.db.RemoveAccount(t.Context(), "ann", time.Now()))
	h.want(403, "not known here any more")(h.post("/setup", url.Values{"code": {"again"}}))
	h.want(403, "the user name or the password is wrong")(h.post("/login/password", form))
}

// TestResetMeanwhile: who has signed in, but not confirmed a device yet, is out when the account is reset.
func TestResetMeanwhile(t *testing.T) {
	h := newHouse(t)
	secret, _ := h.setUp("ann")
	d := h.device()
	h.clock = h.clock.Add(time.Minute)
	h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}})
	h.want(200, "/login/browser")(h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}}))
	h.want(200, "Signed in")(h.post("/login/confirm", url.Values{"code": {d.started.Code}}))
	if state, _ := d.poll(); state.State != "enrolled" {
		t.Fatalf("%+v", state)
	}
	signIns := people.SignIns{Store: h.db, Box: h.accounts.Box}
	if _, err := signIns.Add(t.Context(), h.enrolled[0], time.Hour); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("again"))
	if err := h.db.ResetAccount(t.Context(), "ann", nil, sum[:], time.Now().Add(time.Hour), h.clock.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	again := h.enrolled[0]
	again.SignIn = "another"
	if _, err := signIns.Add(t.Context(), again, time.Hour); !errors.Is(err, signin.ErrLocked) {
		t.Errorf("a sign-in of before the reset: %v", err)
	}
}

// TestBrowserAPI: a browser in which somebody has signed in becomes a device, and asks the API as that.
func TestBrowserAPI(t *testing.T) {
	h := newHouse(t)
	secret, _ := h.setUp("ann")
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(api.LoginStart{Key: b64.EncodeToString(pub), Name: "Firefox", Platform: "browser"})
	if err != nil {
		t.Fatal(err)
	}
	enrol := func() (int, string) { return h.send("POST", "/login/browser", "application/json", string(body), h.url) }
	h.want(403, "E_LOGIN_AGAIN")(enrol())
	h.want(401, "E_SIGNED_OUT")(h.send("GET", "/api/v1/me", "", "", ""))
	h.clock = h.clock.Add(time.Minute)
	h.post("/login/password", url.Values{"user": {"ann"}, "password": {secretSentence}})
	h.want(403, "E_LOGIN_AGAIN")(enrol()) // halfway
	h.post("/login/factor", url.Values{"method": {"totp"}, "code": {h.code(secret)}})
	h.want(201, `"user":"ann"`)(enrol())
	if len(h.enrolled) != 1 || !h.enrolled[0].Key.Equal(pub) || h.enrolled[0].Person.Method != "password+totp" {
		t.Fatalf("%+v", h.enrolled)
	}
	h.want(403, "E_LOGIN_AGAIN")(enrol()) // one sign-in is for one device
	device := auth.DeviceID(pub)
	h.want(200, "GET /api/v1/me as "+device)(h.send("GET", "/api/v1/me", "", "", ""))
	h.want(200, "GET /api/v1/clients/a.zip as "+device)(h.send("GET", "/downloads/a.zip", "", "", ""))
	h.want(200, "POST /api/v1/logout as "+device)(h.send("POST", "/api/v1/logout", "", "", h.url))
	for _, origin := range []string{"https://evil.example", "null"} {
		h.want(403, "another page")(h.send("POST", "/api/v1/logout", "", "", origin))
	}
	u, _ := url.Parse(h.url)
	kept := h.browser.Jar.Cookies(u)
	h.want(204, "")(h.send("POST", "/login/leave", "", "", h.url))
	h.want(401, "E_SIGNED_OUT")(h.send("GET", "/api/v1/me", "", "", ""))
	h.browser.Jar.SetCookies(u, kept) // a copy of the cookie
	h.want(401, "E_SIGNED_OUT")(h.send("GET", "/api/v1/me", "", "", ""))
}
