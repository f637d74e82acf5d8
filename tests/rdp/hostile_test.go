package rdp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/appliance"
	"sallyport/appliance/desktop"
	"sallyport/tests/lab"
)

// TestHostile: servers that say nothing, too much or nonsense. The person is told why there is no desktop, and in time.
func TestHostile(t *testing.T) {
	b := newBastion(t, "{}", "")
	const patience = 6 * time.Second
	b.Programs = map[string]appliance.Program{"desktop": &desktop.Program{Handshake: patience}}
	l, err := b.VNet.Listen("tcp", lab.TargetAddr4.String()+":3389")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key, chain := longChain(t)
	identity := &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}
	const tlsSelected = "\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x01\x00\x00\x00"
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	for _, server := range []struct {
		name string
		says func(c net.Conn)
		code string
		want string
		open bool
	}{
		{"of another protocol", func(c net.Conn) { io.WriteString(c, "SSH-2.0-nonsense\r\n"); silent(c) }, "E_PROTOCOL", "desk-1 does not speak RDP on this port", false},
		{"silent after TLS", func(c net.Conn) { secure(c, tlsSelected, identity, "") }, "E_TIMEOUT", "there is no desktop after 6s", true},
		{"talking nonsense after TLS", func(c net.Conn) { secure(c, tlsSelected, identity, "\xff\xff\xff\xff") }, "E_PROTOCOL",
			"the target sent something that the appliance does not let pass: a PDU begins with 0xff", true},
	} {
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			context.AfterFunc(ctx, func() { c.Close() })
			server.says(c)
		}()
		b.connect(login{User: "ann", Password: "secret"})
		if m := b.notice(); m.Code != server.code || m.Sentence != server.want {
			t.Errorf("of a server that is %s people are told %+v", server.name, m)
		}
		if open := b.opened().State == "open"; open != server.open {
			t.Errorf("of a server that is %s TLS stands: %v", server.name, open)
		}
		stop()
		<-served
	}
}

// secure answers a request for RDP, has TLS, says something and listens.
func secure(c net.Conn, answer string, identity *tls.Config, says string) {
	if _, err := io.ReadFull(c, make([]byte, 19)); err != nil {
		return
	}
	io.WriteString(c, answer)
	s := tls.Server(c, identity)
	io.WriteString(s, says)
	io.Copy(io.Discard, s)
}

// longChain is a certificate and others that are said to have signed it: more than fit into one answer to the browser.
func longChain(t *testing.T) (*ecdsa.PrivateKey, [][]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var chain [][]byte
	for i := range 9 {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"desk-1"}}
		if i > 0 {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte(strings.Repeat("x", 12<<10))}}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, der)
	}
	return key, chain
}
