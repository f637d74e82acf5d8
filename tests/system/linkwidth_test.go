package system

import "testing"

// TestSSHWidthByTap: the link makes no difference to what people do with OpenSSH, without the agent and with it.
func TestSSHWidthByTap(t *testing.T) {
	t.Parallel()
	b := start(t, settings{prepare: func(b *bastion) {
		b.bridged("t0", b.VNet.Interface)
		b.attach(`  hub: {link: {tap: t0}, addresses: [10.99.0.4/16, "fd99::4/64"], prefixes: [10.99.0.0/16, "fd99::/64"]}` + "\n")
	}})
	b.mustSSH("echo the TAP is on its bridge", "the TAP is on its bridge")
	b.copies(64<<20, "db-6") // TestTap has IPv4
	widthBothWays(t, b)
}

func widthBothWays(t *testing.T, b *bastion) {
	t.Run("alone", func(t *testing.T) { width(t, b.on(t), (*bastion).fewWays) })
	t.Run("by the agent", func(t *testing.T) {
		b := b.on(t)
		b.withAgent()
		width(t, b, (*bastion).fewWays)
	})
}

// TestSSHWidthByWireGuard is the same through a tunnel.
func TestSSHWidthByWireGuard(t *testing.T) {
	t.Parallel()
	b := start(t, settings{prepare: (*bastion).tunnelled})
	b.mustSSH(from, "10.200.0.1")
	widthBothWays(t, b)
}
