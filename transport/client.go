package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"sallyport/frame"
)

// A Mode is which transports a client may use.
type Mode string

const (
	Auto  Mode = "auto"  // race both
	QUIC  Mode = "quic"  // never anything else
	HTTPS Mode = "https" // never anything else
)

// ParseMode reads the name of a Mode; empty is Auto.
func ParseMode(s string) (Mode, error) {
	switch m := cmp.Or(Mode(s), Auto); m {
	case Auto, QUIC, HTTPS:
		return m, nil
	}
	return "", fmt.Errorf("transport %q is not known: auto, quic or https", s)
}

// headStart is what the first transport gets before the other is tried too.
const headStart = 250 * time.Millisecond

// A Client knows how to reach one appliance.
type Client struct {
	Address string      // host:port
	TLS     *tls.Config // verifies the appliance; ALPN and version are set here
	Mode    Mode        // default Auto
	Signer  frame.Signer
	Hello   frame.Hello // what it says of itself; clock and proof are added

	// Token is an access token for the next HELLO, as it is at that time; nil: there is none.
	Token func() []byte

	// Check says whether a WELCOME comes from the right appliance; nil accepts any that TLS accepted.
	Check func(*frame.Welcome) error

	// Proxy names the HTTP proxy for TCP, as http.Transport.Proxy does; nil result: none.
	Proxy func(*url.URL) (*url.URL, error)

	Flow frame.Options // for the flows

	Memory *Memory // of races; may be nil
	Spares int     // admitted connections that an HTTPS session keeps for the next flows, after the first flow
}

func (c *Client) hello() frame.Hello {
	h := c.Hello
	if c.Token != nil {
		h.Token = c.Token()
	}
	h.Time = time.Now().UnixMilli()
	return h
}

func (c *Client) accept(w *frame.Welcome) error {
	if c.Check == nil {
		return nil
	}
	return c.Check(w)
}

func (c *Client) tlsConfig(alpn string) *tls.Config {
	config := c.TLS.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{alpn}
	config.DynamicRecordSizingDisabled = true
	if host, _, err := net.SplitHostPort(c.Address); err == nil {
		config.ServerName = cmp.Or(config.ServerName, host)
	}
	return config
}

// A Session is an admitted connection to an appliance; over HTTPS, the means to make more of them.
type Session struct {
	Welcome   *frame.Welcome
	Transport string         // "quic" or "https"
	Remote    netip.AddrPort // of the appliance, or of the proxy
	Attempts  []Attempt      // what Dial tried
	Since     time.Time      // when Dial had succeeded

	open  func(context.Context) (frame.Carrier, error)
	close func()
	done  <-chan struct{}
	opts  frame.Options
}

// Carrier opens a carrier for one flow.
func (s *Session) Carrier(ctx context.Context) (frame.Carrier, error) { return s.open(ctx) }

// Bond is what the connection of a carrier gives its flows; it waits until the connection is admitted.
func (s *Session) Bond(ctx context.Context, c frame.Carrier) (*frame.Bond, error) {
	switch c := c.(type) {
	case *quicCarrier:
		return c.bond, nil
	case *clientConn:
		if c.in != nil {
			if _, err := c.welcome(ctx); err != nil {
				return nil, err
			}
		}
		return c.bond.Load(), nil
	}
	return nil, fmt.Errorf("transport: a carrier of another session: %T", c)
}

// Admitted opens a carrier on a connection that is admitted, and returns what that gives the flow on it. It is what a flow
// resumes on.
func (s *Session) Admitted(ctx context.Context) (frame.Carrier, *frame.Bond, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	bond, err := s.Bond(ctx, c)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, bond, nil
}

// Known is Bond for a carrier that somebody else reads; nil if its connection is not admitted yet.
func (s *Session) Known(c frame.Carrier) *frame.Bond {
	switch c := c.(type) {
	case *quicCarrier:
		return c.bond
	case *clientConn:
		return c.bond.Load()
	}
	return nil
}

// Open asks for a flow. It may be kept when its carrier is lost, if the appliance keeps it too. For early see
// frame.Options.
func (s *Session) Open(ctx context.Context, req frame.OpenRequest, early func(context.Context, *frame.Stream)) (*frame.Stream, *frame.Opened, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	opts := s.opts
	opts.Early = early
	stream, opened, err := frame.Open(ctx, c, req, opts)
	if err != nil {
		return nil, nil, err
	}
	bond, err := s.Bond(ctx, c)
	if err == nil {
		err = stream.Keep(bond, opened)
	}
	if err != nil {
		stream.Close()
		return nil, nil, err
	}
	return stream, opened, nil
}

// Done is closed when the session's connection has ended; over HTTPS, where each flow has its own, never.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session: over QUIC with all its flows, over HTTPS those go on.
func (s *Session) Close() { s.close() }

// An Attempt is one try to reach the appliance.
type Attempt struct {
	Transport string
	Address   string
	Took      time.Duration
	Err       error // nil: it was reached
}

// A PathError says that no transport reached the appliance.
type PathError struct{ Attempts []Attempt }

func (e *PathError) Error() string {
	tried := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		tried[i] = fmt.Sprintf("%s to %s: %v after %v", a.Transport, a.Address, a.Err, a.Took.Round(time.Millisecond))
	}
	return "the appliance was not reached: " + strings.Join(tried, "; ")
}

// Unwrap gives what each attempt ended with.
func (e *PathError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

// Dial reaches the appliance by the transports that Mode allows. With Auto, the one that won lately begins, or else
// QUIC, and the other starts when the first has failed or had its head start; the first that is admitted wins. An
// answer of the appliance that refuses, and a certificate that is not its own, end the race: the other transport would
// hear the same.
func (c *Client) Dial(ctx context.Context) (*Session, error) {
	s, err := race(ctx, c.Address, c.order())
	if err != nil {
		return nil, err
	}
	if cmp.Or(c.Mode, Auto) == Auto {
		c.Memory.note(c.Address, s.Remote, s.Transport)
	}
	s.opts, s.Since = c.Flow, time.Now()
	return s, nil
}

// order is in which the transports that Mode allows are tried.
func (c *Client) order() []contender {
	quic, https := contender{"quic", c.raceQUIC}, contender{"https", c.dialHTTPS}
	switch {
	case c.Mode == QUIC:
		return []contender{quic}
	case c.Mode == HTTPS:
		return []contender{https}
	case c.Memory.winner(c.Address) == https.name:
		return []contender{https, quic}
	}
	return []contender{quic, https}
}

// Stale says that Dial might now find a better way than s: HTTPS was taken where QUIC did not get through, and that was
// in another network or is long ago.
func (c *Client) Stale(s *Session) bool {
	return c.Memory != nil && cmp.Or(c.Mode, Auto) == Auto && s.Transport == "https" && c.Memory.winner(c.Address) != s.Transport
}

// A contender is a transport in a race.
type contender struct {
	name string
	dial func(context.Context) (*Session, error)
}

// race dials in order, each when those before it have failed or had their head start.
func race(ctx context.Context, address string, order []contender) (*Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, len(order))
	var running sync.WaitGroup
	// The loser of a race may still arrive: it is closed, and nobody waits for it but its own goroutine.
	defer func() {
		cancel()
		go func() {
			running.Wait()
			close(results)
			for r := range results {
				if r.session != nil {
					r.session.Close()
				}
			}
		}()
	}()

	var attempts []Attempt
	for started := 0; len(attempts) < len(order); {
		next := order[started:]
		if started == len(attempts) { // nobody runs
			next[0].start(ctx, address, &running, results)
			started++
			next = next[1:]
		}
		var head <-chan time.Time
		if len(next) > 0 {
			head = time.After(headStart)
		}
		select {
		case <-head:
			next[0].start(ctx, address, &running, results)
			started++
		case r := <-results:
			attempts = append(attempts, r.attempt)
			if r.session != nil {
				r.session.Attempts = attempts
				return r.session, nil
			}
			if final(r.attempt.Err) {
				return nil, r.attempt.Err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, &PathError{attempts}
}

func (c contender) start(ctx context.Context, address string, running *sync.WaitGroup, results chan<- result) {
	running.Go(func() {
		begin := time.Now()
		s, err := c.dial(ctx)
		results <- result{s, Attempt{c.name, address, time.Since(begin), err}}
	})
}

type result struct {
	session *Session
	attempt Attempt
}

// final says that the appliance itself, or what stands in its place, has answered.
func final(err error) bool {
	var session *frame.SessionError
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &session) {
		switch session.Code {
		case "E_NO_PATH", "E_PROXY", "E_PROXY_AUTH": // said by what stands in between
			return false
		}
		return true
	}
	return errors.As(quicCertificate(err), &certificate)
}

// raceQUIC dials the appliance's addresses one after the other, each a little later, and takes the first that answers.
func (c *Client) raceQUIC(ctx context.Context) (*Session, error) {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, quicPatience)
	defer cancel()
	type answer struct {
		s   *Session
		err error
	}
	answers := make(chan answer, len(addrs))
	for i, a := range addrs {
		go func() {
			select {
			case <-time.After(time.Duration(i) * headStart):
			case <-ctx.Done():
				answers <- answer{nil, context.Cause(ctx)}
				return
			}
			s, err := c.dialQUIC(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Unmap(), uint16(number))))
			answers <- answer{s, err}
		}()
	}
	var winner *Session
	var failed error
	for range addrs {
		got := <-answers
		switch {
		case got.s != nil && winner == nil:
			winner = got.s
			cancel()
		case got.s != nil:
			got.s.Close()
		case failed == nil || final(got.err):
			failed = got.err
		}
		if final(failed) {
			cancel()
		}
	}
	if winner != nil {
		return winner, nil
	}
	if errors.Is(failed, context.DeadlineExceeded) || quicSilence(failed) {
		failed = errors.New("no answer")
	}
	return nil, quicCertificate(failed)
}

// quicPatience is how long QUIC may take where UDP is dropped without a word.
const quicPatience = 10 * time.Second
