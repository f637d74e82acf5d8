package oidc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		// with signs in by a token of this key.
		with := func(id string, key any) error {
			asked := begin(t, p, i)
			i.idToken = sign(t, jose.EdDSA, id, key, nil, encode(t, i.claims(asked.Get("nonce"))))
			_, err := p.Finish(t.Context(), browser, answerOf(asked))
			return err
		}
		if err := with("ed-1", edKey); err != nil || i.count("/jwks") != 1 {
			t.Fatal(err, reason(err), i.count("/jwks"))
		}
		i.keys = append(i.keys[:len(i.keys):len(i.keys)], public("new", edStrangerPub))
		refused(t, with("new", edStranger), `corp: the provider has no key with the id "new"`) // within the minute
		time.Sleep(unknownEvery)
		if err := with("new", edStranger); err != nil || i.count("/jwks") != 2 {
			t.Fatal(err, reason(err), i.count("/jwks"))
		}

		// A flood of unknown ids asks once a minute, and good tokens pass meanwhile.
		time.Sleep(unknownEvery)
		for range 100 {
			refused(t, with("bogus", edOther), `corp: the provider has no key with the id "bogus"`)
			time.Sleep(time.Second)
		}
		if err := with("new", edStranger); err != nil || i.count("/jwks") != 4 {
			t.Error(err, reason(err), i.count("/jwks"))
		}

		// A key that is withdrawn is good for an hour at most.
		i.keys = publishedKeys
		time.Sleep(freshFor)
		refused(t, with("new", edStranger), `corp: the provider has no key with the id "new"`)
	})
}

func TestProviderDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		i.breakWith(unplugged)
		const metadata = "/.well-known/openid-configuration"
		const line = `corp: ask for its metadata: Get "https://id.example/.well-known/openid-configuration": connection refused`
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := p.Begin(t.Context(), browser, false)
				told(t, err, ErrDown, line)
				if !errors.Is(err, errUnplugged) {
					t.Error("the cause is lost")
				}
			})
		}
		wg.Wait()
		if n := i.count(metadata); n != 2 {
			t.Errorf("a hundred people ask %d times, not twice", n)
		}
		i.breakWith(nil)
		time.Sleep(retryPause)
		if _, err := signIn(t, p, i, nil); err != nil {
			t.Error(err, reason(err))
		}

		// What is known is used while it does not answer, for a day; the code cannot be exchanged then.
		time.Sleep(2 * time.Hour)
		i.breakWith(unplugged)
		if _, err := p.Begin(t.Context(), browser, false); err != nil {
			t.Error(err, reason(err))
		}
		asked := begin(t, p, i)
		_, err := p.Finish(t.Context(), browser, answerOf(asked))
		told(t, err, ErrDown, `corp: exchange the code: Post "https://id.example/token": connection refused`)
		time.Sleep(staleFor)
		_, err = p.Begin(t.Context(), browser, false)
		told(t, err, ErrDown, line)
		i.breakWith(nil)
		time.Sleep(retryPause)
		if _, err := signIn(t, p, i, nil); err != nil {
			t.Error(err, reason(err))
		}
	})
}

// One request that is lost is asked again.
func TestOneLostRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		i.breakWith(func(*http.Request) (*http.Response, error) {
			i.breakWith(nil)
			return nil, errUnplugged
		})
		if _, err := p.Begin(t.Context(), browser, false); err != nil {
			t.Error(err, reason(err))
		}
	})
}

func TestKeysDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		asked := begin(t, p, i)
		i.idToken = sign(t, jose.EdDSA, "ed-1", edKey, nil, encode(t, i.claims(asked.Get("nonce"))))
		keysDown := func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/jwks" {
				return nil, errUnplugged
			}
			out := newIssuer(t)
			out.idToken, out.challenge = i.idToken, i.challenge
			return out.RoundTrip(r)
		}
		i.breakWith(keysDown)
		_, err := p.Finish(t.Context(), browser, answerOf(asked))
		told(t, err, ErrDown, `corp: ask for its keys: Get "https://id.example/jwks": connection refused`)

		// They are there again, and gone again after an hour: the old ones do.
		i.breakWith(nil)
		time.Sleep(retryPause)
		if _, err := signIn(t, p, i, nil); err != nil {
			t.Fatal(err, reason(err))
		}
		time.Sleep(2 * freshFor)
		asked = begin(t, p, i)
		i.idToken = sign(t, jose.EdDSA, "ed-1", edKey, nil, encode(t, i.claims(asked.Get("nonce"))))
		i.breakWith(keysDown)
		if _, err := p.Finish(t.Context(), browser, answerOf(asked)); err != nil {
			t.Error(err, reason(err))
		}
	})
}

// endless is an answer that does not stop.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
func (endless) Close() error               { return nil }

func TestLimits(t *testing.T) {
	redirect := func(to string) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 302, Header: http.Header{"Location": {to}}, Body: http.NoBody}, nil
		}
	}
	for what, c := range map[string]struct {
		broken func(*http.Request) (*http.Response, error)
		line   string
	}{
		"an answer without end": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: -1, Body: endless{}}, nil
		}, "unable to read response body: the answer has more than 1048576 bytes"},
		"an answer of two megabytes": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: 2 << 20, Body: io.NopCloser(bytes.NewReader(nil))}, nil
		}, `Get "https://id.example/.well-known/openid-configuration": the answer has more than 1048576 bytes`},
		"another host":    {redirect("https://evil.example/x"), `Get "https://evil.example/x": it redirects to another host, "https://evil.example"`},
		"another port":    {redirect("https://id.example:8443/x"), `Get "https://id.example:8443/x": it redirects to another host, "https://id.example:8443"`},
		"plain HTTP":      {redirect("http://id.example/x"), `Get "http://id.example/x": it redirects to another host, "http://id.example"`},
		"round and round": {redirect("/again"), `Get "/again": it redirects without end`},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				p := newCorp(t, i)
				i.breakWith(c.broken)
				_, err := p.Begin(t.Context(), browser, false)
				told(t, err, ErrDown, "corp: ask for its metadata: "+c.line)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		asked := begin(t, p, i)
		i.breakWith(redirect("/elsewhere"))
		_, err := p.Finish(t.Context(), browser, answerOf(asked))
		if !errors.Is(err, ErrDown) || !strings.Contains(reason(err), "it redirects what is not a GET") {
			t.Error(err, reason(err)) // the code is in the body
		}
	})
}

func TestBadMetadata(t *testing.T) {
	for line, change := range map[string]func(m map[string]any){
		`its metadata are of issuer "https://evil.example", configured is "https://id.example"`:    func(m map[string]any) { m["issuer"] = "https://evil.example" },
		`its metadata will not do: token_endpoint: "http://id.example/token" is not https`:         func(m map[string]any) { m["token_endpoint"] = "http://id.example/token" },
		`its metadata will not do: jwks_uri: "" is not a URL that will do`:                         func(m map[string]any) { delete(m, "jwks_uri") },
		`its metadata will not do: end_session_endpoint: "javascript:x" is not a URL that will do`: func(m map[string]any) { m["end_session_endpoint"] = "javascript:x" },
		`its metadata will not do: it does not offer PKCE with S256`:                               func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} },
	} {
		synctest.Test(t, func(t *testing.T) {
			i := newIssuer(t)
			change(i.metadata)
			_, err := newCorp(t, i).Begin(t.Context(), browser, false)
			refused(t, err, "corp: "+line)
		})
	}
}

// never answers a request, until its context ends.
func never(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		i.breakWith(never)
		begun := time.Now()
		_, err := p.Begin(t.Context(), browser, false)
		if !errors.Is(err, ErrDown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err, reason(err))
		}
		if took := time.Since(begun); took != 2*requestTime+askAgain {
			t.Errorf("it took %v", took)
		}
	})
}

// Who gives up has not found the provider down.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		i.breakWith(never)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Begin(ctx, browser, false); !errors.Is(err, ErrDown) {
			t.Error(err)
		}
		i.breakWith(nil)
		if _, err := p.Begin(t.Context(), browser, false); err != nil {
			t.Error(err, reason(err))
		}
	})
}

func TestParseKeys(t *testing.T) {
	for what, c := range map[string]struct {
		text string
		keys int
		ok   bool
	}{
		"none":           {`{"keys":[]}`, 0, true},
		"no list":        {`{}`, 0, true},
		"of other kinds": {`{"keys":[{"kty":"OKP","crv":"Ed448","x":"AA"},{"kty":"oct","k":"AAAA"},{"kty":"PQ"},{}]}`, 0, true},
		"one good":       {`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},7]}`, 1, true},
		"text":           {`<html>`, 0, false},
		"too many":       {`{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`, 0, false},
	} {
		keys, err := parseKeys([]byte(c.text))
		if len(keys) != c.keys || (err == nil) != c.ok {
			t.Errorf("%s: %d, %v", what, len(keys), err)
		}
	}
}
