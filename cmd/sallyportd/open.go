package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"sallyport/appliance/config"
	"sallyport/host"
	"sallyport/netstack/dhcp"
	"sallyport/netstack/link"
)

// openGiven makes a link of what the parent has given for a VNet.
func openGiven(w *host.Worker, name string, v config.VNet, log *slog.Logger) (opened, error) {
	given, err := w.Link(name)
	if err != nil {
		return opened{}, err
	}
	for _, note := range given.Notes {
		log.Warn("the NIC is not at its best", "vnet", name, "why", note)
	}
	o, options := opened{mac: given.MAC}, link.Options{MAC: given.MAC, MTU: given.MTU}
	if given.Kind == host.TAP {
		o.link, err = link.Tap(given.Queues[0], options)
	} else {
		o.link, err = link.Packet(given.Queues, options)
	}
	switch {
	case err != nil:
		return opened{}, err
	case !v.Addresses.DHCP:
	case given.DHCP != nil:
		o.dhcp, o.close = dhcp.File(given.DHCP), given.DHCP.Close
	default:
		o.dhcp = link.Aside(o.link)
	}
	return o, nil
}

// relinkTimeout is for the parent to open a link.
const relinkTimeout = 10 * time.Second

// relinkGiven has the parent open a VNet's link afresh.
func relinkGiven(w *host.Worker, name string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, relinkTimeout, fmt.Errorf("the parent has not answered in %v", relinkTimeout))
		defer cancel()
		return w.Relink(ctx, name)
	}
}

// openTunnel makes a link of a WireGuard tunnel's keys and its socket.
func openTunnel(s supply, w config.WireGuard, socket func() (net.PacketConn, error)) (opened, error) {
	private, err := keyFile(s, w.PrivateKeyFile)
	if err != nil {
		return opened{}, err
	}
	o := link.WireGuardOptions{PrivateKey: private, MTU: w.MTU}
	for _, p := range w.Peers {
		peer := link.WireGuardPeer{PublicKey: p.PublicKey, Endpoint: p.Endpoint, Allowed: p.Allowed, Keepalive: p.Keepalive}
		if p.PresharedKeyFile != "" {
			if peer.PresharedKey, err = keyFile(s, p.PresharedKeyFile); err != nil {
				return opened{}, err
			}
		}
		o.Peers = append(o.Peers, peer)
	}
	c, err := socket()
	if err != nil {
		return opened{}, fmt.Errorf("open the tunnel's socket: %w", err)
	}
	l, err := link.WireGuard(c, o)
	return opened{link: l}, err
}

// keyFile reads a key; what is in the file is in no message.
func keyFile(s supply, path string) (config.WireGuardKey, error) {
	data, err := s.File(path)
	if err != nil {
		return config.WireGuardKey{}, fmt.Errorf("read the tunnel's key: %w", err)
	}
	key, err := config.ParseWireGuardKey(strings.TrimSpace(string(data)))
	if err != nil {
		return key, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// tunnelSocket is what the parent calls a tunnel's socket.
func tunnelSocket(vnet string) string { return "wireguard-" + vnet }
