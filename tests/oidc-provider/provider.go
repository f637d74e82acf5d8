// Package oidcprovider runs a real OpenID Connect provider for tests: npm's oidc-provider, in a Node process of its own
// on loopback, with as much of a browser as its login form needs.
//
//	p := oidcprovider.Start(t, "http://127.0.0.1:1/login/corp")
//	back := p.Login(t, authorizationURL, "ann") // what comes back to the redirect URI
//
// Package npm installs it.
package oidcprovider

import (
	"bufio"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/tests/npm"
)

//go:embed package.json package-lock.json server.mjs
var files embed.FS

// The client that is registered with the provider.
const (
	ClientID     = "sallyport"
	ClientSecret = "a secret of the tests"
)

const patience = 30 * time.Second // for an answer of a process on a busy machine

// A Provider is a running one.
type Provider struct {
	Issuer   string
	redirect string
	in       io.Writer
	lines    chan string
}

// Start runs a provider until the test ends.
func Start(t *testing.T, redirect string) *Provider {
	t.Helper()
	dir := npm.Install(t, "oidc-provider", files)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.CommandContext(t.Context(), "node", "server.mjs", port, redirect)
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Provider{Issuer: "http://127.0.0.1:" + port, redirect: redirect, in: in, lines: make(chan string, 8)}
	read := make(chan struct{})
	go p.read(out, read)
	t.Cleanup(func() {
		in.Close()
		<-read
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("oidc-provider: %v", err)
		}
		if t.Failed() {
			t.Logf("oidc-provider says:\n%s", log.String())
		}
	})
	p.want(t, "up")
	return p
}

func (p *Provider) read(out io.Reader, done chan<- struct{}) {
	defer close(done)
	defer close(p.lines)
	for s := bufio.NewScanner(out); s.Scan(); {
		p.lines <- s.Text()
	}
}

// Do has the provider "rotate" its key, "demote" ann, go "down" or come "up" again.
func (p *Provider) Do(t *testing.T, word string) {
	t.Helper()
	p.say(t, word)
	p.want(t, word)
}

// Issued are the refresh and access tokens that the provider has given out.
func (p *Provider) Issued(t *testing.T) (tokens []string) {
	t.Helper()
	p.say(t, "issued")
	if err := json.Unmarshal([]byte(p.want(t, "issued")), &tokens); err != nil {
		t.Fatal(err)
	}
	return tokens
}

func (p *Provider) say(t *testing.T, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, word); err != nil {
		t.Fatal(err)
	}
}

// want waits for a word, and returns what is said beside it.
func (p *Provider) want(t *testing.T, word string) (more string) {
	t.Helper()
	select {
	case line := <-p.lines:
		said, more, _ := strings.Cut(line, " ")
		if said != word {
			t.Fatalf("oidc-provider says %q, not %q", line, word)
		}
		return more
	case <-time.After(patience):
		t.Fatalf("oidc-provider does not say %q", word)
	}
	return ""
}

var (
	action = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)
	prompt = regexp.MustCompile(`name="prompt" value="([a-z]+)"`)
	errEnd = errors.New("the browser is back")
)

// Login is a person in a browser: it opens a URL, signs in as user, consents, and returns what the redirect URI gets.
func (p *Provider) Login(t *testing.T, address, user string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back url.Values
	browser := &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), p.redirect+"?") {
			back = req.URL.Query()
			return errEnd
		}
		return nil
	}}
	page, err := browser.Get(address)
	for range 5 {
		if errors.Is(err, errEnd) {
			if page != nil {
				page.Body.Close()
			}
			return back
		}
		if err != nil {
			t.Fatal(err)
		}
		to, form := fill(t, page, user)
		page, err = browser.PostForm(to, form)
	}
	t.Fatal("one form after the other")
	return nil
}

// fill reads a page and fills in the form that is on it.
func fill(t *testing.T, page *http.Response, user string) (to string, form url.Values) {
	t.Helper()
	defer page.Body.Close()
	body, err := io.ReadAll(io.LimitReader(page.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	where, what := action.FindSubmatch(body), prompt.FindSubmatch(body)
	if page.StatusCode != http.StatusOK || where == nil || what == nil {
		t.Fatalf("%s from %s without a form: %.2000s", page.Status, page.Request.URL.Path, body)
	}
	u, err := page.Request.URL.Parse(html.UnescapeString(string(where[1])))
	if err != nil {
		t.Fatal(err)
	}
	form = url.Values{"prompt": {string(what[1])}}
	if form.Get("prompt") == "login" {
		form.Set("login", user)
		form.Set("password", "any")
	}
	return u.String(), form
}
