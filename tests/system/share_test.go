package system

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/frame"
)

var guestLink = regexp.MustCompile(`^` + regexp.QuoteMeta(entranceURL) + `/guest#([\w-]{43})\n$`)

// json sends JSON as a page's script does, and returns the answer.
func (w *webBrowser) json(method, path string, body any) (status int, text string) {
	w.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest(method, entranceURL+path, bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Origin", entranceURL)
	resp, err := w.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		w.hide("a cookie", c.Value)
	}
	return resp.StatusCode, string(answer)
}

// TestShare: ann lets a guest in to a machine with the command, sees them there, and takes the link back.
func TestShare(t *testing.T) {
	b := start(t, settings{extra: signsIn, access: strings.Replace(usualAccess, "protocols: [ssh, rdp]}", "protocols: [ssh, rdp], share: true}", 1)})
	if r := b.client("share", "hidden"); r.exit != 11 || r.stdout != "" {
		t.Errorf("what she may not see: %v", r)
	}
	r := b.mustClient("share", "db-1", "--protocol", "ssh", "--for", "10m")
	found := guestLink.FindStringSubmatch(r.stdout)
	if found == nil {
		t.Fatalf("%v", r)
	}
	secret := found[1]
	b.hide("a guest link", secret)

	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := b.browser()
	for _, path := range []string{"/guest", "/guest?preview"} { // by whatever the link was sent with
		if status, text := w.json("GET", path, nil); status != 200 || !strings.Contains(text, "Guest access") {
			t.Errorf("%d %s", status, text)
		}
	}
	if status, text := w.json("POST", "/guest/look", map[string]string{"secret": secret}); status != 200 || !strings.Contains(text, `"maker":"ann","target":"db-1","protocol":"ssh"`) {
		t.Errorf("%d %s", status, text)
	}
	open := map[string]string{"secret": secret, "key": base64.RawURLEncoding.EncodeToString(public), "name": "a guest's browser", "platform": "Linux"}
	status, text := w.json("POST", "/guest/open", open)
	var view struct{ User, Device string }
	if err := json.Unmarshal([]byte(text), &view); status != 201 || err != nil || !strings.HasPrefix(view.User, "guest:") {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := w.json("POST", "/guest/open", open); status != 403 || !strings.Contains(text, "E_GUEST_LINK") {
		t.Errorf("a second time: %d %s", status, text)
	}
	if status, text := w.json("GET", "/api/v1/targets", nil); status != 200 || !strings.Contains(text, `"name":"db-1"`) || strings.Contains(text, "db-6") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := w.json("POST", "/api/v1/guests", map[string]string{"target": "db-1"}); status != 400 || !strings.Contains(text, "E_DENIED") {
		t.Errorf("a guest's guest: %d %s", status, text)
	}

	guest := &raw{b, frame.PrivateKey(key)}
	c := guest.admitted("https", view.User)
	c.opened(t, frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	ends := &removal{heard: make(chan told, 1)}
	go ends.hear(c)
	id, _, _ := strings.Cut(strings.TrimPrefix(view.User, "guest:"), "-")
	if r := b.mustClient("sessions"); !strings.Contains(r.stdout, "guest of ann (link "+id+")") {
		t.Errorf("%v", r)
	}
	if r := b.mustClient("share", "ls"); !regexp.MustCompile(`(?m)^` + id + ` +ann +db-1 +ssh .* 1 of 1 `).MatchString(r.stdout) {
		t.Errorf("%v", r)
	}

	revoked := time.Now()
	b.mustClient("share", "revoke", id)
	select {
	case end := <-ends.heard:
		t.Logf("the guest's session ended after %v: %v", end.when.Sub(revoked).Round(time.Millisecond), end.reason.Sentence)
		if end.reason.Code != "E_GUEST_LINK" || end.when.Sub(revoked) > 5*time.Second {
			t.Errorf("%+v", end.reason)
		}
	case <-time.After(20 * time.Second):
		t.Error("the guest's session goes on")
	}
	if status, text := w.json("GET", "/api/v1/me", nil); status != 400 || !strings.Contains(text, "E_GUEST_LINK") {
		t.Errorf("%d %s", status, text)
	}
	b.eventually(5*time.Second, "the audit log has all of it", func() error {
		log := b.mustClient("audit", "--since", "10m", "--json").stdout
		for _, want := range []string{`"event":"guest.made"`, `"event":"guest.opened"`, `"event":"guest.refused"`, `"event":"guest.revoked"`, `"guest_of":"ann"`} {
			if !strings.Contains(log, want) {
				return io.ErrUnexpectedEOF
			}
		}
		return nil
	})
}
