package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"sallyport/netstack/link"
)

// dnsServer answers on a stack's served port, by UDP and TCP, what reply says.
func dnsServer(t *testing.T, s *Stack, reply func(network string, q *dns.Msg) *dns.Msg) {
	t.Helper()
	p, err := s.ListenPacket(t.Context(), "udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, s)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		p.Close()
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if err := q.Unpack(b[:n]); err != nil {
				t.Error(err)
				return
			}
			if a := reply("udp", q); a != nil {
				out, _ := a.Pack()
				p.WriteTo(out, from)
			}
		}
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				d := dns.Conn{Conn: c}
				if q, err := d.ReadMsg(); err == nil {
					if a := reply("tcp", q); a != nil {
						d.WriteMsg(a)
					}
				}
			})
		}
	})
}

// records makes an answer of lines in zone-file form.
func records(q *dns.Msg, lines ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

func TestResolver(t *testing.T) {
	a, b := link.Pipe(link.PipeOptions{})
	c := nearConfig(a)
	c.Prefixes = nil // the server is outside: System's list leads there
	c.DNS = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.2:7")}
	near, far := newStack(t, c), newStack(t, farConfig(b))
	var tcp atomic.Int32
	dnsServer(t, far, func(network string, q *dns.Msg) *dns.Msg {
		switch name := q.Question[0].Name; name {
		case "plain.corp.":
			return records(q, name+" 1 IN A 10.9.0.7", name+" 1 IN A 10.9.0.8", name+" 1 IN AAAA fd09::7")
		case "only4.corp.":
			return records(q, name+" 1 IN A 10.9.0.7")
		case "alias.corp.":
			return records(q, "other.corp. 1 IN A 6.6.6.6", "b.corp. 1 IN CNAME c.corp.", name+" 1 IN CNAME b.corp.", "c.corp. 1 IN A 10.9.0.9")
		case "loop.corp.":
			return records(q, name+" 1 IN CNAME loop.corp.")
		case "big.corp.":
			m := records(q, name+" 1 IN A 10.9.0.7")
			if network == "udp" {
				m.Answer, m.Truncated = nil, true
			} else {
				tcp.Add(1)
			}
			return m
		case "stray.corp.":
			m := records(q, name+" 1 IN A 10.9.0.7")
			m.Id++
			return m
		case "broken.corp.":
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		case "bücher.corp.", "xn--bcher-kva.corp.":
			return records(q, "xn--bcher-kva.corp. 1 IN A 10.9.0.7")
		}
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	})
	near.resolver.Load().Timeout = 300 * time.Millisecond

	for _, ok := range []struct{ network, host, want string }{
		{"ip", "plain.corp", "10.9.0.7 10.9.0.8 fd09::7"},
		{"ip4", "plain.corp.", "10.9.0.7 10.9.0.8"},
		{"ip6", "PLAIN.corp", "fd09::7"},
		{"ip", "only4.corp", "10.9.0.7"},
		{"ip", "alias.corp", "10.9.0.9"},
		{"ip4", "big.corp", "10.9.0.7"},
		{"ip4", "bücher.corp", "10.9.0.7"},
		{"ip", "0xA9FEA9FE", "169.254.169.254"},
	} {
		got, err := near.LookupNetIP(t.Context(), ok.network, ok.host)
		if s := strings.Trim(fmt.Sprint(got), "[]"); s != ok.want || err != nil {
			t.Errorf("%s %s: %q, %v", ok.network, ok.host, s, err)
		}
	}
	if tcp.Load() != 1 {
		t.Errorf("TCP was used %d times", tcp.Load())
	}
	for _, no := range []struct {
		network, host string
		want          error
	}{
		{"ip", "nobody.corp", ErrNoSuchHost},
		{"ip6", "only4.corp", ErrNoData},
		{"ip4", "loop.corp", ErrServerFailure},
		{"ip", "broken.corp", ErrServerFailure},
		{"ip4", "stray.corp", ErrServerSilent},
		{"ip", "-x.corp", ErrName},
		{"ip", "a..corp", ErrName},
		{"ip", strings.Repeat("a", 64) + ".corp", ErrName},
		{"ip", strings.Repeat("a.", 130) + "corp", ErrName},
		{"ip", "xn--admin-.corp", ErrName},
		{"ip", "xn--zzzzzz.corp", ErrName},
		{"ip", "a b", ErrSpelling},
	} {
		_, err := near.LookupNetIP(t.Context(), no.network, no.host)
		var le *LookupError
		if !errors.Is(err, no.want) || !errors.As(err, &le) || le.Timeout() != (no.want == ErrServerSilent) {
			t.Errorf("%s %s: %v, want %v", no.network, no.host, err, no.want)
		}
	}
	if _, err := near.DialContext(t.Context(), "tcp", "plain.corp:22"); !errors.As(err, new(*DeniedError)) {
		t.Errorf("dial outside by name: %v", err)
	}
}

// TestResolverPatience lets servers be silent, in fake time.
func TestResolverPatience(t *testing.T) {
	servers := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:53")}
	lookup := func(t *testing.T, answers func(server string, try int) bool) (time.Duration, []string, error) {
		var mu sync.Mutex
		var asked []string
		r := Resolver{Servers: servers, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			asked = append(asked, address)
			try := len(asked)
			mu.Unlock()
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				b := make([]byte, 512)
				n, err := far.Read(b)
				if err == nil && answers(address, try) {
					q := new(dns.Msg)
					q.Unpack(b[:n])
					out, _ := records(q, q.Question[0].Name+" 1 IN A 10.9.0.7").Pack()
					far.Write(out)
				}
				io.Copy(io.Discard, far)
			}()
			return near, nil
		}}
		start := time.Now()
		_, err := r.LookupNetIP(t.Context(), "ip4", "db")
		synctest.Wait()
		return time.Since(start), asked, err
	}
	synctest.Test(t, func(t *testing.T) {
		took, _, err := lookup(t, func(string, int) bool { return false })
		if le := new(LookupError); took != lookupTimeout || !errors.Is(err, ErrServerSilent) || !errors.As(err, &le) || !le.Server.IsValid() {
			t.Errorf("nobody answers: %v after %v", err, took)
		}
		took, asked, err := lookup(t, func(server string, _ int) bool { return server == servers[1].String() })
		if took != tryTimeout || err != nil || !slices.Equal(asked, []string{servers[0].String(), servers[1].String()}) {
			t.Errorf("the second answers: %v after %v by %v", err, took, asked)
		}
		took, _, err = lookup(t, func(_ string, try int) bool { return try == 3 })
		if took != 2*tryTimeout || err != nil {
			t.Errorf("the second round is answered: %v after %v", err, took)
		}
	})
}

func FuzzResolverReply(f *testing.F) {
	question := func(kind uint16) *dns.Msg {
		q := new(dns.Msg)
		q.SetQuestion("db.corp.", kind)
		q.Id = 4711
		return q
	}
	for _, m := range []*dns.Msg{
		records(question(dns.TypeA), "db.corp. 1 IN A 10.9.0.7"),
		records(question(dns.TypeAAAA), "db.corp. 1 IN CNAME x.corp.", "x.corp. 1 IN AAAA fd09::1"),
		new(dns.Msg).SetRcode(question(dns.TypeA), dns.RcodeNameError),
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			addrs, err := parseReply(b, question(kind))
			if (err == nil) != (len(addrs) > 0) {
				t.Errorf("%v, %v", addrs, err)
			}
			for _, a := range addrs {
				if !a.IsValid() || a.Is4() != (kind == dns.TypeA) {
					t.Errorf("%v answers a question for type %d", a, kind)
				}
			}
			if err == nil && (b[0] != 4711>>8 || b[1] != 4711&0xff || b[2]&0x80 == 0) {
				t.Error("accepted with another id, or no answer at all")
			}
		}
	})
}
