package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"sallyport/appliance/config"
	"sallyport/netstack"
)

// An outlet is a network that the appliance itself goes out by.
type outlet interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// dialOwn connects by "tcp" or "udp" to an address that need not be one that flows may reach.
	dialOwn(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)
}

// An uplink is the way out of the appliance itself by the network that the configuration names. It leads to the hosts
// that it was told of and nowhere else, and no flow goes by it.
type uplink struct {
	outlet func() outlet // asked at each dial: the public stack comes later than who uses the uplink

	// anywhere leads to hosts that are given by their addresses also where no flow may ever go, as to a cloud's clock.
	anywhere bool

	mu    sync.Mutex
	hosts map[string]bool // with port
}

// uplink is the way out that the configuration names; nil is the kernel's.
func (d *daemon) uplink() *uplink {
	name := d.cfg.Uplink
	if name == "kernel" {
		return nil
	}
	if name == "listen" {
		name = listensOn(d.cfg)
	}
	return &uplink{hosts: map[string]bool{}, outlet: func() outlet {
		if name == publicStack {
			return d.public
		}
		return d.networks[name]
	}}
}

// allow adds the hosts of URLs; what is no URL with a host adds nothing.
func (u *uplink) allow(urls ...string) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range urls {
		at, err := url.Parse(s)
		if err != nil || at.Hostname() == "" {
			continue
		}
		port := at.Port()
		if port == "" {
			port = map[string]string{"https": "443", "postgres": "5432", "postgresql": "5432", "ntp": "123"}[at.Scheme]
		}
		u.hosts[net.JoinHostPort(at.Hostname(), port)] = true
	}
}

// transport is HTTP over the uplink.
func (u *uplink) transport() *http.Transport {
	t := &http.Transport{
		TLSHandshakeTimeout:   ownTimeout,
		ResponseHeaderTimeout: ownTimeout,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}
	if u == nil {
		t.Proxy = http.ProxyFromEnvironment
		t.DialContext = (&net.Dialer{Timeout: ownTimeout}).DialContext
	} else {
		t.DialContext = u.dial
	}
	return t
}

// ownTimeout is for each step of a request of the appliance's own.
const ownTimeout = 30 * time.Second

// dial connects to a host that is allowed. Its name is looked up by the outlet's own resolver, and its addresses are tried
// in turn. One that no flow may ever reach is no authority's either.
func (u *uplink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	u.mu.Lock()
	known := u.hosts[address]
	u.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("the uplink does not lead to %s", address)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	out := u.outlet()
	addrs, err := out.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, a := range addrs {
		err := alwaysForbidden(a)
		if given, parseErr := netip.ParseAddr(host); parseErr == nil && given == a && u.anywhere {
			err = nil
		}
		if err == nil {
			var c net.Conn
			if c, err = out.dialOwn(ctx, network, netip.AddrPortFrom(a.Unmap(), uint16(port))); err == nil {
				return c, nil
			}
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

// dialOwn connects by a door of the stack that opens to this one endpoint.
func (v *vnet) dialOwn(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	s, err := v.now()
	if err != nil {
		return nil, err
	}
	door := s.System([]netstack.Endpoint{{Addr: to, Network: network}})
	c, err := door.DialContext(ctx, network, to.String())
	if err != nil {
		door.Close()
		return nil, err
	}
	return &ownConn{Conn: c, door: door, brief: network == "udp"}, nil
}

// ownConn is a connection that has a door for itself.
type ownConn struct {
	net.Conn
	door  *netstack.System
	brief bool // it has no last words
	once  sync.Once
}

// farewell is how long a door stays open behind its connection, whose last words may have to be repeated: longer than a
// stack does that.
const farewell = time.Minute

// Close implements net.Conn.
func (c *ownConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		if c.brief {
			c.door.Close()
			return
		}
		time.AfterFunc(farewell, func() { c.door.Close() })
	})
	return err
}

// dialOwn connects by the kernel's sockets.
func (fenced) dialOwn(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, to.String())
}

// publicNetwork is the stack that people come in by, where it is no VNet's. No flow goes out by it: it has no prefixes.
func publicNetwork(l config.Listen) config.VNet {
	return config.VNet{Link: l.Link, Addresses: l.Addresses, Gateway: l.Gateway, DNS: l.DNS}
}
