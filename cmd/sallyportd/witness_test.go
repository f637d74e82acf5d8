package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/client"
	oidcprovider "sallyport/tests/oidc-provider"
)

// A witness sees what browsers send and get.
type witness struct {
	mu        sync.Mutex
	secrets   []string // that must be nowhere: those of the test, and cookies
	addresses []string // that pages were at, came from and led to
}

func (w *witness) hide(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, secrets...)
}

// witnessed is the way of a browser.
type witnessed struct {
	*witness
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w witnessed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses = append(w.addresses, r.URL.String(), r.Referer(), resp.Header.Get("Location"))
	for _, c := range resp.Cookies() {
		if c.Value != "" {
			w.secrets = append(w.secrets, c.Value)
		}
	}
	return resp, nil
}

// logBuffer is what the appliance has logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// traces looks at what all this has left. Who logs out is cut off before that is written.
func (e *entrance) traces(admin *client.Direct) {
	e.t.Helper()
	wants := []string{"device.enrolled ann", "device.enrolled bob", "sign-in.ended ann", "sign-in.ended bob", "account.created bob", "account.ready bob", "account.disabled bob", "device.revoked ann"}
	missing := func(kinds map[string]int) []string {
		return slices.DeleteFunc(slices.Clone(wants), func(want string) bool { return kinds[want] > 0 })
	}
	kinds := e.kinds(admin)
	for end := time.Now().Add(20 * time.Second); len(missing(kinds)) > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		kinds = e.kinds(admin)
	}
	if m := missing(kinds); len(m) > 0 {
		e.t.Errorf("no %q in the audit log: %v", m, kinds)
	}
	e.betrayed()
}

// betrayed looks for secrets in what the appliance keeps and says and in the addresses of its pages: passwords, codes, the
// secrets of one-time codes, cookies, tokens, the identity provider's too.
func (e *entrance) betrayed() {
	e.t.Helper()
	tokens, err := filepath.Glob(filepath.Join(e.demo.dir, "home-*", "*.token"))
	if err != nil || len(tokens) == 0 {
		e.t.Errorf("%d tokens, %v", len(tokens), err)
	}
	for _, path := range tokens {
		token, err := os.ReadFile(path)
		if err != nil {
			e.t.Fatal(err)
		}
		e.witness.hide(string(token))
	}
	issued := e.idp.Issued(e.t)
	e.witness.hide(oidcprovider.ClientSecret)
	e.witness.hide(issued...)
	e.witness.mu.Lock()
	if len(issued) < 4 || len(e.witness.secrets) < 30 || len(e.witness.addresses) < 30 {
		e.t.Errorf("only %d tokens of the provider, %d secrets, %d addresses", len(issued), len(e.witness.secrets), len(e.witness.addresses))
	}
	e.witness.mu.Unlock()
	e.secretsAreKept()
}

// secretsAreKept looks for the secrets that the witness knows.
func (e *entrance) secretsAreKept() {
	e.t.Helper()
	e.witness.mu.Lock()
	defer e.witness.mu.Unlock()
	search := func(place, text string) {
		for _, secret := range e.witness.secrets {
			if strings.Contains(text, secret) {
				e.t.Errorf("a secret stands in %s", place)
			}
		}
	}
	err := filepath.WalkDir(filepath.Join(e.demo.dir, "state"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) { // a file of the database's that has come and gone
			search(path, string(data))
			return err
		}
		return nil
	})
	if err != nil {
		e.t.Error(err)
	}
	search("the log", e.log.String())
	for _, address := range e.witness.addresses {
		search("the address "+address, address)
	}
}
