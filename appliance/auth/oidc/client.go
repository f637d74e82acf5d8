package oidc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	requestTime  = 10 * time.Second
	maxAnswer    = 1 << 20
	maxRedirects = 3
)

var errLarge = fmt.Errorf("the answer has more than %d bytes", maxAnswer)

// limited returns a client that takes answers of at most a megabyte within ten seconds and follows no redirect to
// another host: a provider's name is all that vouches for what it says.
func limited(c *http.Client) *http.Client {
	out := *c
	transport := c.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	out.Transport = &limitedTransport{transport}
	out.Timeout = requestTime
	out.Jar = nil
	out.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		first := via[0].URL
		switch {
		case req.URL.Host != first.Host || req.URL.Scheme != first.Scheme:
			return fmt.Errorf("it redirects to another host, %.200q", req.URL.Scheme+"://"+req.URL.Host)
		case len(via) > maxRedirects:
			return errors.New("it redirects without end")
		case via[0].Method != http.MethodGet:
			return errors.New("it redirects what is not a GET")
		}
		return nil
	}
	return &out
}

type limitedTransport struct{ next http.RoundTripper }

func (t *limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.ContentLength > maxAnswer {
		answer.Body.Close()
		return nil, errLarge
	}
	answer.Body = &limitedBody{answer.Body, maxAnswer}
	return answer, nil
}

// A limitedBody ends with an error where an io.LimitReader would end as if that were all.
type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if n > b.left {
		return b.left, errLarge
	}
	b.left -= n
	return n, err
}
