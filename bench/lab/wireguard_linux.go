package lab

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// Inside of the tunnel. The target has a second address, to which only the tunnel leads.
const (
	tunnelClient  = "10.60.0.1"
	tunnelGateway = "10.60.0.2"
	targetTunnel  = "10.60.1.3"
	tunnelMTU     = 1420
)

// WireGuard is wireguard-go with a TUN of that name in the namespace that it runs in, until ctx ends: what the lab starts. Its
// settings are those of wireguard's configuration protocol; addresses are commands of ip(8) for when the TUN is there.
func WireGuard(ctx context.Context, name, settings, addresses string, ready io.Writer) error {
	card, err := tun.CreateTUN(name, tunnelMTU)
	if err != nil {
		return fmt.Errorf("make a TUN: %w", err)
	}
	d := device.NewDevice(card, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer d.Close()
	if err := d.IpcSet(settings); err != nil {
		return fmt.Errorf("wireguard: %w", err)
	}
	if err := d.Up(); err != nil {
		return fmt.Errorf("wireguard: %w", err)
	}
	if err := ip(strings.Split(strings.TrimSpace(addresses), "\n")); err != nil {
		return err
	}
	fmt.Fprintln(ready, "ready")
	select {
	case <-ctx.Done():
		return nil
	case <-d.Wait():
		return errors.New("wireguard: the device has closed")
	}
}

// wireguard has a tunnel from the client to the gateway.
func wireguard(_ context.Context, l *lab, c *candidate) error {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("the kernel has no TUN: %w", err)
	}
	dir, err := l.folder(c.Name)
	if err != nil {
		return err
	}
	client, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	gateway, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	port := l.port()
	c.address = at(targetTunnel, loadPort)
	far, err := l.tunnelEnd(l.gateway, dir, "gateway",
		fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nallowed_ip=%s/32\n", gateway.Bytes(), port, client.PublicKey().Bytes(), tunnelClient),
		"link set gateway up", "addr add "+tunnelGateway+"/32 dev gateway", "route add "+tunnelClient+" dev gateway"+cubic,
		"route replace "+targetTunnel+" via "+targetDirect+cubic)
	if err != nil {
		return err
	}
	near, err := l.tunnelEnd(l.client, dir, "client",
		fmt.Sprintf("private_key=%x\npublic_key=%x\nendpoint=%s\nallowed_ip=%s/32\n", client.Bytes(), gateway.PublicKey().Bytes(), at(gatewayService, port), targetTunnel),
		"link set client up", "addr add "+tunnelClient+"/32 dev client", "route add "+targetTunnel+" dev client src "+tunnelClient+cubic)
	c.gateway, c.client = []command{far}, []command{near}
	if err != nil {
		return err
	}
	return l.target.ip("addr add " + targetTunnel + "/32 dev lo")
}

// tunnelEnd is the command that runs one end, whose TUN has the given name.
func (l *lab) tunnelEnd(s *space, dir, name, settings string, addresses ...string) (command, error) {
	file, err := write(dir, name, settings)
	if err != nil {
		return command{}, err
	}
	routes, err := write(dir, name+".ip", strings.Join(addresses, "\n"))
	return command{at: s, args: []string{l.self, "wireguard", "--name", name, "--settings", file, "--addresses", routes}, says: "ready"}, err
}
