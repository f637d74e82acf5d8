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
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestACME: an authority of its own checks that the name is the appliance's, on port 443 alone, and what it signs is
// what clients see.
func TestACME(t *testing.T) {
	pebble := filepath.Join(t.TempDir(), "pebble")
	build := exec.Command("go", "build", "-o", pebble, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build.Dir = filepath.Join("..", "tools")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the authority: %v\n%s", err, out)
	}
	b := start(t, settings{
		tls: "acme: {domains: [bastion.test], directory: \"https://" + lab.ClientAddr4.String() + ":14000/dir\", ca: authority.pem}",
		prepare: func(b *bastion) {
			b.authority(pebble)
		},
	})
	client := &http.Client{Transport: &http.Transport{
		DialContext:       b.Client.DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the authority's management port has no name
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("https://" + lab.ClientAddr4.String() + ":15000/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	root, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	b.eventually(30*time.Second, "the appliance has a certificate of the authority", func() error {
		conn, err := b.Client.DialContext(t.Context(), "tcp", b.address)
		if err != nil {
			return err
		}
		defer conn.Close()
		return tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "bastion.test"}).HandshakeContext(t.Context())
	})
}

// authority starts an ACME server where the client is, which finds the appliance by a DNS server of its own.
func (b *bastion) authority(program string) {
	b.t.Helper()
	dns := b.DNS(b.Client, map[string]lab.Record{"bastion.test.": {Addrs: []netip.Addr{lab.ApplianceAddr4}}})
	cert, key := b.serverCertificate("authority", lab.ClientAddr4)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": lab.ClientAddr4.String() + ":14000", "managementListenAddress": lab.ClientAddr4.String() + ":15000",
		"certificate": cert, "privateKey": key, "httpPort": 80, "tlsPort": 443,
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("pebble.json", string(config))
	cmd := b.Client.Command(context.Background(), program, "-config", filepath.Join(b.dir, "pebble.json"), "-dnsserver", dns.Addr.String())
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	lab.Start(b.t, cmd)
	b.eventually(10*time.Second, "the authority listens", func() error {
		conn, err := b.Client.DialContext(b.t.Context(), "tcp", lab.ClientAddr4.String()+":14000")
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// serverCertificate writes a self-signed certificate for an address, and returns the names of the two files.
func (b *bastion) serverCertificate(name string, addr netip.Addr) (certFile, keyFile string) {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{addr.AsSlice()}, IsCA: true, BasicConstraintsValid: true}
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
