package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Dial opens a connection to a receiver; nil means the host's network.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

func (d Dial) orHost() Dial {
	if d != nil {
		return d
	}
	return new(net.Dialer).DialContext
}

// TLS says whom a receiver is trusted as, and who the appliance is to it. All are files; a client certificate is read
// again for each connection.
type TLS struct {
	CA         string // certificates in PEM that may have signed the receiver's; default the system's
	Cert, Key  string // the appliance's own, in PEM
	ServerName string // default: the host that is dialled
}

func (t TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		b, err := readSmall(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s has no certificate in PEM", t.CA)
		}
	}
	if t.Cert != "" || t.Key != "" {
		get := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			return &cert, err
		}
		if _, err := get(nil); err != nil {
			return nil, err
		}
		c.GetClientCertificate = get
	}
	return c, nil
}

// maxSmall bounds a file of certificates or a token.
const maxSmall = 1 << 20

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxSmall)
	}
	return b, err
}

// A poster sends bodies to an address by HTTP.
type poster struct {
	url         string
	contentType string
	tokenFile   string
	client      *http.Client
}

func newPoster(address, contentType, tokenFile string, t TLS, dial Dial) (*poster, error) {
	if err := checkURL(address, tokenFile != ""); err != nil {
		return nil, err
	}
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	p := &poster{url: address, contentType: contentType, tokenFile: tokenFile, client: &http.Client{
		Transport: &http.Transport{DialContext: dial.orHost(), TLSClientConfig: config, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute},
		// A redirect would carry lines and token to somebody who is not configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if tokenFile != "" {
		_, err = p.token()
	}
	return p, err
}

// checkURL wants an address to which a token may go. Its errors do not hold it: it may have secrets in it.
func checkURL(address string, token bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("the url is not one of http or https")
	case u.User != nil:
		return errors.New("the url has a user in it; a token belongs into a file")
	case token && u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("a token would cross the network in clear; use https")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// token reads the bearer token, each time: it may be replaced.
func (p *poster) token() (string, error) {
	b, err := readSmall(p.tokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s does not hold a token", p.tokenFile)
	}
	return token, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// post returns the body of an answer that says success.
func (p *poster) post(ctx context.Context, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Content-Type", p.contentType)
	req.Header.Set("User-Agent", "sallyport")
	if p.tokenFile != "" {
		token, err := p.token()
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 == 2 {
		return answer, err
	}
	refused := fmt.Errorf("the receiver answered %d", resp.StatusCode)
	if after := retryAfter(resp.Header.Get("Retry-After"), time.Now()); after > 0 {
		return nil, &LaterError{after, refused}
	}
	return nil, refused
}

// withoutURL takes the address off an error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// maxLater bounds how long a receiver may make lines wait.
const maxLater = time.Hour

// retryAfter reads the header: seconds, or a time. It returns 0 where there is none.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxLater)
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, min(at.Sub(now), maxLater))
	}
	return 0
}

func (p *poster) Close() error {
	p.client.CloseIdleConnections()
	return nil
}
