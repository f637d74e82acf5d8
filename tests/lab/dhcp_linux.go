package lab

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// DHCPLease is what the lab's DHCP server gives to whoever asks.
type DHCPLease struct {
	Address netip.Prefix
	Router  netip.Addr // may be zero
	DNS     []netip.Addr
	MTU     uint16
	Length  time.Duration
}

// A DHCP is a server on eth0 of a namespace that gives one address. Who asks for another one, or wants to keep one that
// is not given any more, is refused.
type DHCP struct {
	mu     sync.Mutex
	lease  DHCPLease
	silent bool
	asked  []string
	server net.IP
}

// DHCP starts a server in the namespace.
func (l *Lab) DHCP(n *Namespace, lease DHCPLease) *DHCP {
	l.t.Helper()
	d := &DHCP{lease: lease, server: n.addr().AsSlice()}
	var c net.PacketConn
	if err := n.Do(func() (err error) {
		c, err = server4.NewIPv4UDPConn("eth0", &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort})
		return err
	}); err != nil {
		l.t.Fatalf("DHCP server: %v", err)
	}
	s, err := server4.NewServer("eth0", nil, d.handle, server4.WithConn(c))
	if err != nil {
		l.t.Fatalf("DHCP server: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve() // ends when it is closed
	}()
	l.t.Cleanup(func() {
		s.Close()
		<-done
	})
	return d
}

// Give changes what is given from now on.
func (d *DHCP) Give(lease DHCPLease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lease = lease
}

// Silence makes the server deaf, or lets it hear again.
func (d *DHCP) Silence(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = on
}

// Asked are the questions so far, such as "REQUEST 10.99.0.50 from 10.99.0.50", without those that came in a silence.
func (d *DHCP) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[:len(d.asked):len(d.asked)]
}

func (d *DHCP) handle(c net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.silent {
		return
	}
	want := m.RequestedIPAddress()
	if want == nil {
		want = m.ClientIPAddr
	}
	d.asked = append(d.asked, fmt.Sprintf("%v %v from %v", m.MessageType(), want, m.ClientIPAddr))
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
		if !want.Equal(d.lease.Address.Addr().AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(d.server)))
	if err != nil {
		return
	}
	if kind != dhcpv4.MessageTypeNak {
		d.grant(reply)
	}
	c.WriteTo(reply.ToBytes(), peer)
}

func (d *DHCP) grant(reply *dhcpv4.DHCPv4) {
	l := d.lease
	reply.YourIPAddr = l.Address.Addr().AsSlice()
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(l.Address.Bits(), 32)))
	reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(l.Length))
	if l.Router.IsValid() {
		reply.UpdateOption(dhcpv4.OptRouter(l.Router.AsSlice()))
	}
	if l.MTU > 0 {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(l.MTU >> 8), byte(l.MTU)}))
	}
	var servers []net.IP
	for _, a := range l.DNS {
		servers = append(servers, a.AsSlice())
	}
	if len(servers) > 0 {
		reply.UpdateOption(dhcpv4.OptDNS(servers...))
	}
}
