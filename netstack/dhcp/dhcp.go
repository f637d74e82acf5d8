// Package dhcp keeps an IPv4 lease (RFC 2131) for a stack that does not know of it: it speaks in whole Ethernet frames,
// beside the stack, for before there is a lease there is no address to speak from.
//
//	c := dhcp.Client{Conn: dhcp.File(socket), MAC: mac}
//	err := c.Run(ctx, func(l *dhcp.Lease, why error) { … }) // l is nil while there is none
//
// # The life of a lease
//
//	DISCOVER, OFFER, REQUEST, ACK    then nothing until T1
//	T1, half of the lease            REQUEST to the server that gave it
//	T2, seven eighths                REQUEST to any server
//	the end, or a NAK                the lease is lost; DISCOVER again
//
// Questions are repeated: the first ones every second or so, later ones once a minute. A lease of zero or absurd length
// is taken as one of a minute or a day.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A Conn carries frames to and from DHCP servers.
type Conn interface {
	// ReadFrame waits for a frame, which may be of any kind, until ctx ends.
	ReadFrame(ctx context.Context, p []byte) (int, error)
	WriteFrame(p []byte) error
}

// A Lease is what a server has given.
type Lease struct {
	Address netip.Prefix // ours, with the length of the subnet's prefix
	Router  netip.Addr   // the first, if there is one
	DNS     []netip.Addr
	MTU     int // 0 if the server does not say
	Server  netip.Addr
	Length  time.Duration
}

// Same says whether two leases differ in nothing that a stack would notice.
func (l Lease) Same(m Lease) bool {
	l.Length, m.Length, l.Server, m.Server = 0, 0, netip.Addr{}, netip.Addr{}
	return reflect.DeepEqual(l, m)
}

// Why there is no lease.
var (
	ErrExpired = errors.New("no DHCP server has renewed it")
	ErrRefused = errors.New("the DHCP server has taken it back")
)

// A Client asks for a lease and keeps it.
type Client struct {
	Conn Conn
	MAC  net.HardwareAddr
}

// A hold is a lease and what it takes to keep it.
type hold struct {
	Lease
	begun         time.Time // the clock runs from the question, not from the answer
	renew, rebind time.Duration
	hop           net.HardwareAddr // where the answer came from: the server, or the router towards it
}

const (
	firstWait = time.Second      // between a question and the next; doubled each time
	lastWait  = 32 * time.Second // but not beyond this
	tries     = 4                // REQUESTs for one offer

	shortLease, longLease = 2 * time.Second, 24 * time.Hour
	noLength              = time.Minute // where a server gives none
)

// Run keeps a lease until ctx ends or the connection fails. It calls changed with each new lease, and with nil and the
// reason when there is none any more; not for a lease that was merely renewed.
func (c Client) Run(ctx context.Context, changed func(l *Lease, why error)) error {
	for {
		h, err := c.acquire(ctx)
		if err != nil {
			return err
		}
		changed(&h.Lease, nil)
		for err == nil {
			var next hold
			if next, err = c.keep(ctx, h); err == nil {
				if !next.Same(h.Lease) {
					changed(&next.Lease, nil)
				}
				h = next
			}
		}
		if !errors.Is(err, ErrExpired) && !errors.Is(err, ErrRefused) {
			return err
		}
		changed(nil, err)
	}
}

// acquire asks until somebody gives.
func (c Client) acquire(ctx context.Context) (hold, error) {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		discover, err := c.message(dhcpv4.MessageTypeDiscover)
		if err != nil {
			return hold{}, err
		}
		begun := time.Now()
		offer, _, err := c.ask(ctx, discover, broadcast, begun.Add(jitter(wait)), dhcpv4.MessageTypeOffer)
		if err != nil {
			return hold{}, err
		}
		if offer == nil {
			continue
		}
		h, err := c.request(ctx, offer)
		if err == nil || !errors.Is(err, errSilent) && !errors.Is(err, ErrRefused) {
			return h, err
		}
		if err := pause(ctx, jitter(wait)); err != nil {
			return hold{}, err
		}
	}
}

// errSilent means that nobody has answered.
var errSilent = errors.New("no DHCP server answers")

// request takes an offer.
func (c Client) request(ctx context.Context, offer *dhcpv4.DHCPv4) (hold, error) {
	m, err := c.message(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)),
		dhcpv4.WithOptionCopied(offer, dhcpv4.OptionServerIdentifier))
	if err != nil {
		return hold{}, err
	}
	begun := time.Now()
	for range tries {
		h, err := c.confirm(ctx, m, broadcast, begun, time.Now().Add(jitter(firstWait)))
		if !errors.Is(err, errSilent) {
			return h, err
		}
	}
	return hold{}, errSilent
}

// keep waits until it is time and renews; it returns the lease that follows, or why there is none.
func (c Client) keep(ctx context.Context, h hold) (hold, error) {
	if err := pause(ctx, time.Until(h.begun.Add(h.renew))); err != nil {
		return hold{}, err
	}
	end := h.begun.Add(h.Length)
	for {
		begun := time.Now()
		if !begun.Before(end) {
			return hold{}, ErrExpired
		}
		// To the server that gave it; from T2 on to any. Each wait is half of what is left.
		to, until := destination{mac: h.hop, addr: h.Server}, h.begun.Add(h.rebind)
		if !begun.Before(until) || !h.Server.IsValid() {
			to, until = broadcast, end
		}
		to.from = h.Address.Addr()
		wait := min(max(until.Sub(begun)/2, firstWait/2), time.Minute)
		m, err := c.message(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(h.Address.Addr().AsSlice()))
		if err != nil {
			return hold{}, err
		}
		next, err := c.confirm(ctx, m, to, begun, earlier(begun.Add(wait), end))
		if !errors.Is(err, errSilent) {
			return next, err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// confirm sends a REQUEST and reads the ACK, or the NAK.
func (c Client) confirm(ctx context.Context, m *dhcpv4.DHCPv4, to destination, begun, until time.Time) (hold, error) {
	reply, hop, err := c.ask(ctx, m, to, until, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
	switch {
	case err != nil:
		return hold{}, err
	case reply == nil:
		return hold{}, errSilent
	case reply.MessageType() == dhcpv4.MessageTypeNak:
		return hold{}, ErrRefused
	}
	h, err := newHold(reply)
	h.begun, h.hop = begun, hop
	if err != nil { // as good as no answer
		return hold{}, fmt.Errorf("%w: %w", errSilent, err)
	}
	return h, nil
}

// ask sends a message once and waits for one of the answers to it; nil if none comes in time.
func (c Client) ask(ctx context.Context, m *dhcpv4.DHCPv4, to destination, until time.Time, want ...dhcpv4.MessageType) (*dhcpv4.DHCPv4, net.HardwareAddr, error) {
	if err := c.Conn.WriteFrame(wrap(c.MAC, to, m.ToBytes())); err != nil {
		// The NIC may be down for a moment; if it is gone, reading says so.
		if err := pause(ctx, min(time.Until(until), firstWait)); err != nil {
			return nil, nil, err
		}
		return nil, nil, nil
	}
	wait, cancel := context.WithDeadlineCause(ctx, until, errSilent)
	defer cancel()
	frame := make([]byte, maxFrame)
	for {
		n, err := c.Conn.ReadFrame(wait, frame)
		if wait.Err() != nil && ctx.Err() == nil {
			return nil, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		payload, hop, ok := unwrap(frame[:n])
		if !ok {
			continue
		}
		reply, err := dhcpv4.FromBytes(payload)
		if err == nil && reply.OpCode == dhcpv4.OpcodeBootReply && reply.TransactionID == m.TransactionID &&
			slices.Equal(reply.ClientHWAddr, c.MAC) && slices.Contains(want, reply.MessageType()) {
			return reply, hop, nil
		}
	}
}

// message is what all of ours have in common. The replies may be unicast: we see frames, not packets.
func (c Client) message(kind dhcpv4.MessageType, more ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	return dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(c.MAC),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(maxFrame - overhead)),
	}, more...)...)
}

// newHold reads an ACK.
func newHold(m *dhcpv4.DHCPv4) (hold, error) {
	addr, ok := netip.AddrFromSlice(m.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
		return hold{}, fmt.Errorf("%v is no address for a machine", m.YourIPAddr)
	}
	bits := 32
	if mask := m.SubnetMask(); mask != nil {
		ones, size := mask.Size()
		if size != 32 || ones < 8 {
			return hold{}, fmt.Errorf("%v is no subnet mask", mask)
		}
		bits = ones
	}
	h := hold{Lease: Lease{Address: netip.PrefixFrom(addr, bits), Length: m.IPAddressLeaseTime(noLength)}}
	h.Length = min(max(h.Length, shortLease), longLease)
	h.renew, h.rebind = m.IPAddressRenewalTime(h.Length/2), m.IPAddressRebindingTime(h.Length*7/8)
	if h.renew <= 0 || h.renew >= h.rebind || h.rebind >= h.Length {
		h.renew, h.rebind = h.Length/2, h.Length*7/8
	}
	h.Server, _ = netip.AddrFromSlice(m.ServerIdentifier().To4())
	for _, r := range m.Router() {
		if router, ok := netip.AddrFromSlice(r.To4()); ok && !router.IsUnspecified() && router != addr {
			h.Router = router
			break
		}
	}
	for _, d := range m.DNS() {
		if server, ok := netip.AddrFromSlice(d.To4()); ok && !server.IsUnspecified() && !server.IsMulticast() {
			h.DNS = append(h.DNS, server)
		}
	}
	if b := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		h.MTU = int(b[0])<<8 | int(b[1])
	}
	return h, nil
}

// jitter keeps machines that were started together from asking together.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
