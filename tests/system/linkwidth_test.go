package system

import (
	"fmt"
	"net/netip"
	"testing"

	"sallyport/tests/lab"
)

// TestSSHWidthByTap and TestSSHWidthByWireGuard: the link makes no difference to what people do with OpenSSH.
func TestSSHWidthByTap(t *testing.T) {
	b := start(t, settings{prepare: func(b *bastion) {
		b.bridged("t0", b.VNet.Interface)
		b.attach(`  hub: {link: {tap: t0}, addresses: [10.99.0.4/16, "fd99::4/64"], prefixes: [10.99.0.0/16, "fd99::/64"]}` + "\n")
	}})
	b.mustSSH("echo the TAP is on its bridge", "the TAP is on its bridge")
	width(t, b)
}

func TestSSHWidthByWireGuard(t *testing.T) {
	b := start(t, settings{prepare: func(b *bastion) {
		peer := b.WireGuardPeer(b.VNet.Namespace, lab.WireGuardOptions{Other: netip.MustParsePrefix("10.200.0.1/32")})
		b.write("wg.key", peer.OtherKey+"\n")
		b.write("wg.psk", peer.Preshared+"\n")
		b.attach(fmt.Sprintf(`
  hub:
    link:
      wireguard:
        private_key_file: wg.key
        listen_port: 500
        peers: [{public_key: %q, preshared_key_file: wg.psk, endpoint: %q, allowed: [10.99.0.0/16]}]
    addresses: [10.200.0.1/32]
    prefixes: [10.99.0.0/16]
`, peer.PublicKey, peer.Addr))
	}})
	b.targets = []string{"db-1"}
	width(t, b)
}
