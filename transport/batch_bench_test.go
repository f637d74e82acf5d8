package transport

import (
	"crypto/tls"
	"net"
	"testing"

	"sallyport/tests/measure"
)

// BenchmarkRecords encrypts a frame and writes its records by one call, which goes nowhere.
func BenchmarkRecords(b *testing.B) {
	c, p := sealed(b), make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRecordsAllocs(t *testing.T) {
	c, p := sealed(t), make([]byte, 64<<10)
	measure.Allocs(t, 0, func() {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	})
}

// sealed is a flow's connection that has shaken hands and has nobody at its other end any more.
func sealed(t testing.TB) *tlsCarrier {
	near, far := pairOfTCP(t)
	config := &tls.Config{Certificates: []tls.Certificate{*selfSigned(t)}, InsecureSkipVerify: true}
	shaken := make(chan error, 1)
	go func() { shaken <- tls.Server(far, config).Handshake() }()
	under := &batch{Conn: near}
	c := &tlsCarrier{Conn: tls.Client(under, config), below: under}
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	under.Conn = nowhere{near}
	return c
}

// nowhere is a connection that swallows what is written.
type nowhere struct{ net.Conn }

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
