package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
)

// A doctor wants to see what answers before anything is believed or said: these do a part of what Dial does and verify
// nothing.

// LookQUIC shakes hands with what answers at an address.
func (c *Client) LookQUIC(ctx context.Context, address netip.AddrPort) (*tls.ConnectionState, error) {
	conn, end, err := shakeQUIC(ctx, net.UDPAddrFromAddrPort(address), c.blind(alpnQUIC))
	if err != nil {
		return nil, err
	}
	defer end()
	state := conn.ConnectionState().TLS
	return &state, nil
}

// LookTCP connects to the appliance's port, through the proxy if there is one.
func (c *Client) LookTCP(ctx context.Context) (net.Conn, error) { return c.dialTCP(ctx) }

// LookTLS shakes hands on a connection.
func (c *Client) LookTLS(ctx context.Context, conn net.Conn) (*tls.ConnectionState, error) {
	t := tls.Client(conn, c.blind(alpnHTTPS))
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := t.ConnectionState()
	return &state, nil
}

func (c *Client) blind(alpn string) *tls.Config {
	config := c.tlsConfig(alpn)
	config.InsecureSkipVerify, config.VerifyConnection, config.ClientSessionCache = true, nil, nil
	return config
}
