package lab

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A Record is what the lab's DNS server says about a name.
type Record struct {
	Addrs    []netip.Addr   // A and AAAA
	Turns    [][]netip.Addr // instead of Addrs: one element a question, over and over; each type takes its own turns
	CNAME    string         // an alias, whose record is added if the zone has it
	Delay    time.Duration  // before the answer
	Truncate bool           // over UDP only say that TCP has the answer
	Rcode    int            // instead of an answer, such as dns.RcodeServerFailure
}

// A Query is one question that the server was asked.
type Query struct {
	Time    time.Time
	Network string // udp or tcp
	From    netip.AddrPort
	Name    string // lower case, with the final dot
	Type    uint16 // dns.TypeA, …
}

// A DNS is a server, on port 53 of all addresses of its namespace, that remembers what it was asked.
type DNS struct {
	Addr netip.AddrPort // the first address of the namespace

	mu      sync.Mutex
	zone    map[string]Record
	turns   map[dns.Question]int
	queries []Query
}

// DNS starts a name server. Names in the zone need no final dot; a name that is not in it does not exist.
func (l *Lab) DNS(n *Namespace, zone map[string]Record) *DNS {
	l.t.Helper()
	d := &DNS{zone: map[string]Record{}, turns: map[dns.Question]int{}, Addr: netip.AddrPortFrom(n.addr(), 53)}
	for name, r := range zone {
		d.Set(name, r)
	}
	listener, err := n.Listen("tcp", ":53")
	if err != nil {
		l.t.Fatal(err)
	}
	// One socket an address: a wildcard one may answer from another address than it was asked at.
	var conns []net.PacketConn
	for _, a := range n.Addrs("eth0") {
		c, err := n.ListenPacket("udp", netip.AddrPortFrom(a, 53).String())
		if err != nil {
			l.t.Fatal(err)
		}
		conns = append(conns, c)
	}
	d.serve(l, &dns.Server{Listener: listener})
	for _, c := range conns {
		d.serve(l, &dns.Server{PacketConn: c})
	}
	return d
}

func (d *DNS) serve(l *Lab, s *dns.Server) {
	started, done := make(chan struct{}), make(chan struct{})
	s.Handler, s.NotifyStartedFunc = d, func() { close(started) }
	go func() {
		defer close(done)
		if err := s.ActivateAndServe(); err != nil {
			l.t.Errorf("dns: %v", err)
		}
	}()
	<-started
	l.t.Cleanup(func() {
		s.Shutdown()
		<-done
	})
}

// Set changes or adds a name.
func (d *DNS) Set(name string, r Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zone[dns.CanonicalName(name)] = r
}

// Queries are all questions so far.
func (d *DNS) Queries() []Query {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries[:len(d.queries):len(d.queries)]
}

// ServeDNS answers one question.
func (d *DNS) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	if len(m.Question) != 1 {
		w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeFormatError))
		return
	}
	q := m.Question[0]
	q.Name = dns.CanonicalName(q.Name)
	network := w.RemoteAddr().Network()
	from, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	reply, delay := d.answer(m, q, Query{time.Now(), network, from, q.Name, q.Qtype})
	time.Sleep(delay)
	w.WriteMsg(reply)
}

// answer remembers the question and composes the reply.
func (d *DNS) answer(m *dns.Msg, q dns.Question, log Query) (*dns.Msg, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queries = append(d.queries, log)
	reply := new(dns.Msg).SetReply(m)
	reply.Authoritative = true
	r, ok := d.zone[q.Name]
	switch {
	case !ok:
		reply.Rcode = dns.RcodeNameError
	case r.Rcode != dns.RcodeSuccess:
		reply.Rcode = r.Rcode
	case r.Truncate && strings.HasPrefix(log.Network, "udp"):
		reply.Truncated = true
	default:
		reply.Answer = d.records(q, r)
	}
	return reply, r.Delay
}

func (d *DNS) records(q dns.Question, r Record) []dns.RR {
	var out []dns.RR
	head := func(t uint16) dns.RR_Header { return dns.RR_Header{Name: q.Name, Rrtype: t, Class: dns.ClassINET} }
	if r.CNAME != "" {
		alias := q
		alias.Name = dns.CanonicalName(r.CNAME)
		out = append(out, &dns.CNAME{Hdr: head(dns.TypeCNAME), Target: alias.Name})
		if next, ok := d.zone[alias.Name]; ok && next.CNAME == "" {
			out = append(out, d.records(alias, next)...)
		}
	}
	addrs := r.Addrs
	if len(r.Turns) > 0 {
		addrs = r.Turns[d.turns[q]%len(r.Turns)]
		d.turns[q]++
	}
	for _, a := range addrs {
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			out = append(out, &dns.A{Hdr: head(dns.TypeA), A: a.AsSlice()})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			out = append(out, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return out
}
