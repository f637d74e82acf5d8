package netstack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// A Resolver asks DNS servers for addresses and believes only what answers its question. It knows no hosts file and no
// search path: a name means the same wherever it is said.
type Resolver struct {
	Servers []netip.AddrPort
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)

	Timeout time.Duration // for a whole lookup; default 5 seconds
}

const (
	lookupTimeout = 5 * time.Second

	// tryTimeout is how long one server may take before the next is asked. With one server it is the time after which
	// the question is repeated, since UDP may lose it.
	tryTimeout = 1250 * time.Millisecond

	maxChain    = 8    // CNAMEs that lead from the name to its addresses
	maxName     = 253  // bytes of a name, without the last dot
	maxLabel    = 63   // bytes between dots
	maxDatagram = 4096 // no server sends more than 512 unless it was told that it may
)

// Why a lookup failed; a LookupError wraps one of these, or what went wrong below.
var (
	ErrName          = errors.New("not a valid name")
	ErrNoServers     = errors.New("no DNS servers are configured")
	ErrNoSuchHost    = errors.New("no such host")
	ErrNoData        = errors.New("the name has no address of this kind")
	ErrServerFailure = errors.New("the server failed")
	ErrServerSilent  = errors.New("the server did not answer")
)

// A LookupError says which name, which server, how long it took and why.
type LookupError struct {
	Host   string
	Server netip.AddrPort // the last that was asked, if any was
	Took   time.Duration
	Err    error
}

func (e *LookupError) Error() string {
	if !e.Server.IsValid() {
		return fmt.Sprintf("look up %q: %v", e.Host, e.Err)
	}
	return fmt.Sprintf("look up %q at %s: %v after %v", e.Host, e.Server, e.Err, e.Took.Round(time.Millisecond))
}

func (e *LookupError) Unwrap() error { return e.Err }

// Timeout says whether nobody answered.
func (e *LookupError) Timeout() bool { return errors.Is(e.Err, ErrServerSilent) }

// NotFound says whether there is an answer, which has no address.
func (e *LookupError) NotFound() bool {
	return errors.Is(e.Err, ErrNoSuchHost) || errors.Is(e.Err, ErrNoData)
}

// LookupNetIP returns all addresses of a host, for "ip", "ip4" or "ip6".
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	start := time.Now()
	fail := func(server netip.AddrPort, err error) ([]netip.Addr, error) {
		return nil, &LookupError{Host: host, Server: server, Took: time.Since(start), Err: err}
	}
	var kinds []uint16
	switch network {
	case "ip":
		kinds = []uint16{dns.TypeA, dns.TypeAAAA}
	case "ip4":
		kinds = []uint16{dns.TypeA}
	case "ip6":
		kinds = []uint16{dns.TypeAAAA}
	default:
		return fail(netip.AddrPort{}, net.UnknownNetworkError(network))
	}
	addr, isAddress, err := ParseAddr(host)
	if err != nil {
		return fail(netip.AddrPort{}, err)
	}
	if isAddress {
		return []netip.Addr{addr}, nil
	}
	name, err := asciiName(host)
	if err != nil {
		return fail(netip.AddrPort{}, err)
	}
	if len(r.Servers) == 0 {
		return fail(netip.AddrPort{}, ErrNoServers)
	}

	timeout := r.Timeout
	if timeout == 0 {
		timeout = lookupTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrServerSilent)
	defer cancel()
	type answer struct {
		addrs  []netip.Addr
		server netip.AddrPort
		err    error
	}
	answers := make([]chan answer, len(kinds))
	for i, kind := range kinds {
		answers[i] = make(chan answer, 1)
		go func() {
			addrs, server, err := r.ask(ctx, name, kind)
			answers[i] <- answer{addrs, server, err}
		}()
	}
	var all []netip.Addr
	var failed answer
	for _, c := range answers {
		a := <-c
		all = append(all, a.addrs...)
		if worse(a.err, failed.err) {
			failed = a
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	return fail(failed.server, failed.err)
}

// worse prefers, of two failures, the one that says more: "no data" of one kind means little beside a silent server.
func worse(a, b error) bool { return a != nil && (b == nil || errors.Is(b, ErrNoData)) }

// ask puts one question to the servers in turn, until one answers, all have failed, or ctx ends.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) ([]netip.Addr, netip.AddrPort, error) {
	var last error
	var server netip.AddrPort
	for {
		refused := 0
		for _, server = range r.Servers {
			addrs, err := r.try(ctx, server, name, kind)
			switch {
			case err == nil, errors.Is(err, ErrNoSuchHost), errors.Is(err, ErrNoData):
				return addrs, server, err
			case ctx.Err() != nil:
				return nil, server, context.Cause(ctx)
			case !errors.Is(err, ErrServerSilent):
				refused++
			}
			last = err
		}
		if refused == len(r.Servers) {
			return nil, server, last
		}
	}
}

// try asks one server once: by UDP, and by TCP if the answer does not fit.
func (r *Resolver) try(ctx context.Context, server netip.AddrPort, name string, kind uint16) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tryTimeout, ErrServerSilent)
	defer cancel()
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), kind) // with a random id
	addrs, err := r.exchange(ctx, "udp", server, question)
	if errors.Is(err, errTruncated) {
		addrs, err = r.exchange(ctx, "tcp", server, question)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return addrs, err
}

// exchange sends a question and waits for its answer. What answers another question, on UDP, is a stray or a forgery:
// the true answer may still come.
func (r *Resolver) exchange(ctx context.Context, network string, server netip.AddrPort, question *dns.Msg) ([]netip.Addr, error) {
	conn, err := r.Dial(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	query, err := question.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	for {
		reply, err := readReply(conn, network)
		if err != nil {
			return nil, err
		}
		addrs, err := parseReply(reply, question)
		if errors.Is(err, errStray) && network == "udp" {
			continue
		}
		return addrs, err
	}
}

func readReply(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		b := make([]byte, maxDatagram)
		n, err := conn.Read(b)
		return b[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

var (
	errStray     = errors.New("not the answer to this question")
	errTruncated = errors.New("the answer was cut short")
)

// parseReply returns the addresses that a reply gives to a question.
func parseReply(reply []byte, question *dns.Msg) ([]netip.Addr, error) {
	var m dns.Msg
	if err := m.Unpack(reply); err != nil && !m.Truncated {
		return nil, fmt.Errorf("%w: %w", errStray, err)
	}
	q := question.Question[0]
	if !m.Response || m.Id != question.Id || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 ||
		!strings.EqualFold(m.Question[0].Name, q.Name) || m.Question[0].Qtype != q.Qtype || m.Question[0].Qclass != q.Qclass {
		return nil, errStray
	}
	switch {
	case m.Truncated:
		return nil, errTruncated
	case m.Rcode == dns.RcodeNameError:
		return nil, ErrNoSuchHost
	case m.Rcode != dns.RcodeSuccess:
		return nil, fmt.Errorf("%w: %s", ErrServerFailure, dns.RcodeToString[m.Rcode])
	}
	return follow(m.Answer, q)
}

// follow goes along the CNAMEs of an answer and returns the addresses at its end. A record of any other name is none of
// our business.
func follow(records []dns.RR, q dns.Question) ([]netip.Addr, error) {
	name := q.Name
	for range maxChain + 1 {
		var addrs []netip.Addr
		next := ""
		for _, rr := range records {
			if h := rr.Header(); !strings.EqualFold(h.Name, name) || h.Class != q.Qclass {
				continue
			}
			switch rr := rr.(type) {
			case *dns.A:
				if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && q.Qtype == dns.TypeA {
					addrs = append(addrs, a)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok && q.Qtype == dns.TypeAAAA {
					addrs = append(addrs, a)
				}
			case *dns.CNAME:
				next = rr.Target
			}
		}
		switch {
		case len(addrs) > 0:
			return addrs, nil
		case next == "":
			return nil, ErrNoData
		}
		name = next
	}
	return nil, fmt.Errorf("%w: more than %d aliases", ErrServerFailure, maxChain)
}

// asciiName makes of a host's name what is asked for: letters, digits, hyphens and underscores, in labels that are
// neither empty nor too long, with other scripts in their xn-- form.
func asciiName(host string) (string, error) {
	name := strings.TrimSuffix(host, ".")
	if strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrName, err)
		}
		name = ascii
	}
	if len(name) > maxName {
		return "", fmt.Errorf("%w: longer than %d bytes", ErrName, maxName)
	}
	name = strings.ToLower(name)
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	return name, nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return fmt.Errorf("%w: an empty label", ErrName)
	case len(label) > maxLabel:
		return fmt.Errorf("%w: a label longer than %d bytes", ErrName, maxLabel)
	case strings.Trim(label, nameBytes) != "" || label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("%w: label %q", ErrName, label)
	case strings.HasPrefix(label, "xn--"):
		// It must be the one spelling of something that needs it: "xn--admin-" would be "admin" to some.
		plain, err := idna.Lookup.ToUnicode(label)
		if err != nil {
			return fmt.Errorf("%w: label %q: %w", ErrName, label, err)
		}
		if again, err := idna.Lookup.ToASCII(plain); err != nil || again != label {
			return fmt.Errorf("%w: label %q", ErrName, label)
		}
	}
	return nil
}
