package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"sallyport/appliance/config"
	"sallyport/netstack"
)

// publicStack is the name of the stack that people come in by where that is neither the kernel's nor a VNet's. No VNet
// may be called so.
const publicStack = "listen"

// listen opens where people come in: the kernel's sockets, or a stack's of ours, so that the kernel needs no address.
func (d *daemon) listen() (net.Listener, net.PacketConn, error) {
	if stack := listensOn(d.cfg); stack != "" {
		n := d.networks[stack]
		if stack == publicStack && d.public != nil { // the daemon has waited for its database
			n = d.public
		} else if stack == publicStack {
			made, err := d.supply.Network(stack, publicNetwork(d.cfg.Listen), served(d.cfg, stack))
			if err != nil {
				return nil, nil, err
			}
			d.public, n = made, made
		}
		v, ok := n.(*vnet)
		if !ok {
			return nil, nil, fmt.Errorf("VNet %s has no stack of its own to listen on", stack)
		}
		ctx, stop := context.WithCancel(context.Background())
		tcp := front{vnet: v, address: ":" + strconv.Itoa(int(d.cfg.Listen.Port)), ctx: ctx, stop: stop}
		udp := tcp
		if a := d.cfg.Listen.Balanced; a.IsValid() { // an answer must come from the address that was asked; TCP sees to that itself
			udp.address = netip.AddrPortFrom(a, d.cfg.Listen.Port).String()
		}
		return &frontListener{front: tcp}, &frontPacketConn{front: udp}, nil
	}
	tcp, err := d.supply.Listener("https")
	if err != nil {
		return nil, nil, fmt.Errorf("HTTPS: %w", err)
	}
	udp, err := d.supply.PacketConn("quic")
	if err != nil {
		tcp.Close()
		return nil, nil, fmt.Errorf("QUIC: %w", err)
	}
	return tcp, udp, nil
}

// listensOn is the stack of ours that people come in by; empty for the kernel's.
func listensOn(c *config.Config) string {
	if c.Listen.Link.Kind != config.LinkNone {
		return publicStack
	}
	return c.Listen.VNet
}

// serving is what a stack listens on.
type serving struct {
	ports    []uint16
	balanced netip.Addr // a load balancer's address that is the stack's too; none: invalid
}

// served is what a stack listens on: nothing, but where people come in by it.
func served(c *config.Config, stack string) serving {
	if listensOn(c) == stack {
		return serving{[]uint16{c.Listen.Port}, c.Listen.Balanced}
	}
	return serving{}
}

// where is what people are told about it.
func where(c *config.Config) string {
	stack := listensOn(c)
	if stack == "" {
		return c.Listen.Address
	}
	addresses := c.Listen.Addresses
	if stack != publicStack {
		addresses = c.VNets[stack].Addresses
	}
	host := ""
	if len(addresses.Static) > 0 {
		host = addresses.Static[0].Addr().String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(c.Listen.Port)))
}

// A front is a port of a VNet's stack. It stands while one stack follows another.
type front struct {
	vnet    *vnet
	address string
	ctx     context.Context
	stop    context.CancelFunc
}

// patience is how long a front waits before it looks whether there is a stack again.
const patience = 100 * time.Millisecond

// stack waits for a stack that is not the one that has failed.
func (f *front) stack(failed *netstack.Stack) (*netstack.Stack, error) {
	for {
		if s, err := f.vnet.now(); err == nil && s != failed {
			return s, nil
		}
		select {
		case <-time.After(patience):
		case <-f.ctx.Done():
			return nil, net.ErrClosed
		}
	}
}

// frontListener is a front for TCP.
type frontListener struct {
	front
	mu    sync.Mutex
	under net.Listener
	on    *netstack.Stack
}

// Accept implements net.Listener.
func (l *frontListener) Accept() (net.Conn, error) {
	for {
		under, err := l.current()
		if err != nil {
			return nil, err
		}
		c, err := under.Accept()
		if err == nil {
			return c, nil
		}
		if l.ctx.Err() != nil {
			return nil, net.ErrClosed
		}
		l.mu.Lock()
		under.Close()
		l.under = nil
		l.mu.Unlock()
	}
}

// current is the listener on the stack that there is now.
func (l *frontListener) current() (net.Listener, error) {
	l.mu.Lock()
	under, failed := l.under, l.on
	l.mu.Unlock()
	if under != nil {
		return under, nil
	}
	s, err := l.stack(failed)
	if err != nil {
		return nil, err
	}
	if under, err = s.Listen(l.ctx, "tcp", l.address); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under, l.on = under, s
	if l.ctx.Err() != nil {
		under.Close()
	}
	return under, nil
}

// Close implements net.Listener.
func (l *frontListener) Close() error {
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under != nil {
		return l.under.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (l *frontListener) Addr() net.Addr { return &net.TCPAddr{} }

// frontPacketConn is a front for UDP.
type frontPacketConn struct {
	front
	mu       sync.Mutex
	under    net.PacketConn
	on       *netstack.Stack
	deadline time.Time // for reading
}

// ReadFrom implements net.PacketConn.
func (c *frontPacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		under, err := c.current()
		if err != nil {
			return 0, nil, err
		}
		n, from, err := under.ReadFrom(p)
		if err == nil || c.ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return n, from, err
		}
		c.mu.Lock()
		under.Close()
		c.under = nil
		c.mu.Unlock()
	}
}

// WriteTo implements net.PacketConn. While there is no stack, packets are lost, as they are on any network.
func (c *frontPacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	under := c.under
	c.mu.Unlock()
	if under == nil {
		return len(p), nil
	}
	if n, err := under.WriteTo(p, to); err == nil {
		return n, nil
	}
	return len(p), nil
}

// current is the socket on the stack that there is now.
func (c *frontPacketConn) current() (net.PacketConn, error) {
	c.mu.Lock()
	under, failed := c.under, c.on
	c.mu.Unlock()
	if under != nil {
		return under, nil
	}
	s, err := c.stack(failed)
	if err != nil {
		return nil, err
	}
	if under, err = s.ListenPacket(c.ctx, "udp", c.address); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under, c.on = under, s
	under.SetReadDeadline(c.deadline)
	if c.ctx.Err() != nil {
		under.Close()
	}
	return under, nil
}

// Close implements net.PacketConn.
func (c *frontPacketConn) Close() error {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.under != nil {
		return c.under.Close()
	}
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *frontPacketConn) LocalAddr() net.Addr { return &net.UDPAddr{} }

// SetReadDeadline implements net.PacketConn.
func (c *frontPacketConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.under != nil {
		return c.under.SetReadDeadline(t)
	}
	return nil
}

// SetDeadline implements net.PacketConn; writing never waits.
func (c *frontPacketConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn; writing never waits.
func (c *frontPacketConn) SetWriteDeadline(time.Time) error { return nil }
