package frame

import "net/netip"

// A Peer is the other end of a transport connection, as an appliance knows it.
type Peer struct {
	Transport string         // "quic", "https" or "websocket"
	Remote    netip.AddrPort // where it comes from
	Software  string         // what it says it is

	// Set when its HELLO is admitted.
	User   string
	Device string
	Key    [32]byte // the device's, which HELLO has proved
	Bond   *Bond    // what the connection gives its flows
}
