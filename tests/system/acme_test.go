package system

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/tests/lab"
)

// TestACME: an authority of its own checks that the name is the appliance's, on port 443 alone, and what it signs is
// what clients see. The authority is wherever the uplink leads, and only by the uplink is it reached.
func TestACME(t *testing.T) {
	t.Parallel()
	pebble := filepath.Join(t.TempDir(), "pebble")
	build := exec.Command("go", "build", "-o", pebble, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build.Dir = filepath.Join("..", "tools")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the authority: %v\n%s", err, out)
	}
	t.Run("kernel", func(t *testing.T) {
		b := start(t, settings{
			tls:     acmeAt(lab.ClientAddr4.String()),
			prepare: func(b *bastion) { b.authority(pebble, b.Client, lab.ClientAddr4, lab.ApplianceAddr4) },
		})
		first := b.certified(b.Client, lab.ClientAddr4)
		// The next certificate is asked for by the account that there is.
		b.daemon.Terminate(10 * time.Second)
		state := filepath.Join(b.Dir, "state", "acme")
		if err := os.RemoveAll(filepath.Join(state, "certificates")); err != nil {
			t.Fatal(err)
		}
		b.serve()
		if second := b.certified(b.Client, lab.ClientAddr4); second.SerialNumber.Cmp(first.SerialNumber) == 0 {
			t.Error("the certificate is the old one")
		}
		if keys, err := filepath.Glob(filepath.Join(state, "acme", "*", "accounts", "*")); len(keys) != 1 {
			t.Errorf("the keys of accounts: %q, %v", keys, err)
		}
	})
	// The authority is outside the VNet's prefixes, where no flow may go, and is known by name to the VNet's DNS alone.
	t.Run("VNet", func(t *testing.T) {
		outside := netip.MustParseAddr("10.98.0.10")
		var dns *lab.DNS
		b := start(t, settings{
			access: "targets: [{name: ca, vnet: hub, address: 10.98.0.10, protocols: {tcp: 14000}}]\n" +
				"rules: [{name: ca, who: [ann], targets: [ca], protocols: [tcp]}]\n",
			tls:   acmeAt(authorityName),
			extra: "    gateway: [10.99.0.10]\nuplink: hub\nmetrics: {listen: \"127.0.0.1:9090\"}\n",
			prepare: func(b *bastion) {
				b.VNet.AddAddress("lo", netip.PrefixFrom(outside, 32))
				b.publish(lab.TargetAddr4)
				dns = b.authority(pebble, b.VNet.Namespace, outside, lab.TargetAddr4)
			},
		})
		leaf := b.certified(b.VNet.Namespace, outside)
		// The appliance's door is still open, and no flow goes through it, whatever the rules say.
		b.enrol("ann", b.home, "--fingerprint", auth.Fingerprint(leaf))
		if r := b.client("proxy", "ca:14000", "--protocol", "tcp"); r.exit != 11 || !strings.Contains(r.stderr, "10.98.0.10 is denied: it is outside the network's prefixes") {
			t.Errorf("a flow to the authority: %v", r)
		}
		b.askedFrom(dns, netip.MustParseAddr("10.99.0.4"))
		if !strings.Contains(b.metrics(), `sallyport_vnet_escaped_packets_total{vnet="hub"} 0`) {
			t.Errorf("packets were dropped at the link:\n%s", b.metrics())
		}
	})
	t.Run("VNet that listens", func(t *testing.T) {
		own := netip.MustParseAddr("10.99.0.4")
		var dns *lab.DNS
		b := start(t, settings{
			listen:  "vnet: hub",
			tls:     acmeAt(authorityName),
			extra:   "uplink: listen\n",
			prepare: func(b *bastion) { dns = b.authority(pebble, b.VNet.Namespace, lab.TargetAddr4, own) },
		})
		inside := *b.Lab
		inside.Client = b.VNet.Namespace
		b.Lab, b.address = &inside, own.String()+":443"
		b.certified(b.Client, lab.TargetAddr4)
		b.askedFrom(dns, own)
	})
	// The kernel has no address on any NIC but the loopback.
	t.Run("link that listens", func(t *testing.T) {
		var dns *lab.DNS
		b := start(t, settings{
			listen:  `link: {packet: eth0}, addresses: [10.77.2.2/24], gateway: [10.77.2.1], dns: [10.77.1.2]`,
			tls:     acmeAt(authorityName),
			extra:   "uplink: listen\n",
			prepare: func(b *bastion) { dns = b.authority(pebble, b.Client, lab.ClientAddr4, lab.ApplianceAddr4) },
		})
		b.certified(b.Client, lab.ClientAddr4)
		b.askedFrom(dns, lab.ApplianceAddr4)
	})
}

// authorityName is known to the authority's own DNS server.
const authorityName = "ca.corp.example"

func acmeAt(host string) string {
	return "acme: {domains: [bastion.test], directory: \"https://" + host + ":14000/dir\", ca: authority.pem}"
}

// certified waits until clients see a certificate that the authority at an address has signed, and returns it.
func (b *bastion) certified(from *lab.Namespace, authority netip.Addr) (leaf *x509.Certificate) {
	b.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       from.DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the authority's management port has no name
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("https://" + authority.String() + ":15000/roots/0")
	if err != nil {
		b.t.Fatal(err)
	}
	root, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	b.eventually(30*time.Second, "the appliance has a certificate of the authority", func() error {
		conn, err := b.Client.DialContext(b.t.Context(), "tcp", b.address)
		if err != nil {
			return err
		}
		defer conn.Close()
		client := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "bastion.test"})
		if err := client.HandshakeContext(b.t.Context()); err != nil {
			return fmt.Errorf("%w\n%s", err, b.daemon.Output())
		}
		leaf = client.ConnectionState().PeerCertificates[0]
		return nil
	})
	return leaf
}

// askedFrom checks who asked a DNS server for the authority.
func (b *bastion) askedFrom(server *lab.DNS, want netip.Addr) {
	b.t.Helper()
	asked := 0
	for _, q := range server.Queries() {
		if q.Name != authorityName+"." {
			continue
		}
		asked++
		if q.From.Addr() != want {
			b.t.Errorf("%v asked for the authority; want %v", q.From, want)
		}
	}
	if asked == 0 {
		b.t.Error("nobody asked for the authority")
	}
}

// publish makes the appliance's public port known inside the VNet, at an address of the VNet's host.
func (b *bastion) publish(at netip.Addr) {
	b.t.Helper()
	l, err := b.VNet.Listen("tcp", netip.AddrPortFrom(at, 443).String())
	if err != nil {
		b.t.Fatal(err)
	}
	var wg sync.WaitGroup
	b.t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			inside, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer inside.Close()
				public, err := b.Client.DialContext(context.Background(), "tcp", b.address)
				if err != nil {
					return
				}
				defer public.Close()
				wg.Go(func() {
					io.Copy(public, inside)
					public.Close()
				})
				io.Copy(inside, public)
			})
		}
	})
}

// authority starts an ACME server at an address of a namespace, with a DNS server of its own that says where the
// appliance is and where it is itself.
func (b *bastion) authority(program string, where *lab.Namespace, at, appliance netip.Addr) *lab.DNS {
	b.t.Helper()
	dns := b.DNS(where, map[string]lab.Record{"bastion.test.": {Addrs: []netip.Addr{appliance}}, authorityName: {Addrs: []netip.Addr{at}}})
	cert, key := b.serverCertificate("authority", at, authorityName)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": at.String() + ":14000", "managementListenAddress": at.String() + ":15000",
		"certificate": cert, "privateKey": key, "httpPort": 80, "tlsPort": 443,
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("pebble.json", string(config))
	cmd := where.Command(context.Background(), program, "-config", filepath.Join(b.dir, "pebble.json"), "-dnsserver", dns.Addr.String())
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	lab.Start(b.t, cmd)
	b.eventually(10*time.Second, "the authority listens", func() error {
		conn, err := where.DialContext(b.t.Context(), "tcp", at.String()+":14000")
		if err == nil {
			conn.Close()
		}
		return err
	})
	return dns
}

// serverCertificate writes a self-signed certificate for an address and names, and returns the names of the two files.
func (b *bastion) serverCertificate(name string, addr netip.Addr, names ...string) (certFile, keyFile string) {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{addr.AsSlice()}, DNSNames: names, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	b.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return filepath.Join(b.dir, fmt.Sprint(name, ".pem")), filepath.Join(b.dir, fmt.Sprint(name, ".key"))
}
