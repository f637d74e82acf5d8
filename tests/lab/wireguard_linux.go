package lab

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// WireGuardOptions says how a peer differs from the usual one.
type WireGuardOptions struct {
	Outside *Namespace     // where its UDP socket is; default the router
	Port    uint16         // of that socket; default 51820
	Other   []netip.Prefix // what the other end may send from, each as one address
}

// A WireGuard is a peer in a tunnel: a kernel's TUN in one namespace, with its socket in another.
type WireGuard struct {
	Addr      netip.AddrPort // of its socket
	PublicKey string         // as wg pubkey prints it
	OtherKey  string         // the other end's private key, as wg genkey prints it
	Preshared string         // as wg genpsk prints it
}

// WireGuardPeer makes a namespace reachable by a tunnel, and waits for the other end to call. Addresses that the
// namespace has are reached through it. The device itself lives in this process.
func (l *Lab) WireGuardPeer(n *Namespace, o WireGuardOptions) *WireGuard {
	l.t.Helper()
	if o.Outside == nil {
		o.Outside = l.Router
	}
	if o.Port == 0 {
		o.Port = 51820
	}
	ours, other, shared := l.curveKey(), l.curveKey(), make([]byte, 32)
	rand.Read(shared)
	var card tun.Device
	if err := n.Do(func() (err error) {
		card, err = tun.CreateTUN("wg0", 1420)
		return err
	}); err != nil {
		l.t.Fatalf("make a TUN: %v", err)
	}
	n.ip("link set wg0 up")
	var allowed string
	for _, p := range o.Other {
		n.ip(fmt.Sprintf("route replace %s dev wg0", p))
		allowed += fmt.Sprintf("allowed_ip=%s\n", p)
	}
	d := device.NewDevice(card, outsideBind{conn.NewStdNetBind(), o.Outside}, device.NewLogger(device.LogLevelSilent, ""))
	l.t.Cleanup(d.Close)
	err := d.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\npreshared_key=%x\n%s",
		ours.Bytes(), o.Port, other.PublicKey().Bytes(), shared, allowed))
	if err := errors.Join(err, d.Up()); err != nil {
		l.t.Fatalf("wireguard: %v", err)
	}
	return &WireGuard{
		Addr:      netip.AddrPortFrom(o.Outside.addr(), o.Port),
		PublicKey: base64.StdEncoding.EncodeToString(ours.PublicKey().Bytes()),
		OtherKey:  base64.StdEncoding.EncodeToString(other.Bytes()),
		Preshared: base64.StdEncoding.EncodeToString(shared),
	}
}

func (l *Lab) curveKey() *ecdh.PrivateKey {
	l.t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	return k
}

// outsideBind opens its sockets in a namespace.
type outsideBind struct {
	conn.Bind
	at *Namespace
}

// Open is conn.Bind's.
func (b outsideBind) Open(port uint16) (fns []conn.ReceiveFunc, actual uint16, err error) {
	err = b.at.Do(func() (err error) {
		fns, actual, err = b.Bind.Open(port)
		return err
	})
	return fns, actual, err
}
