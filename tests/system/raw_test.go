package system

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/frame"
)

// A raw client speaks frames to the daemon by itself, so that it can say what the real one never would.
type raw struct {
	*bastion
	key frame.PrivateKey
}

// rawClient enrols a device of its own.
func (b *bastion) rawClient(user string) *raw {
	b.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	r := &raw{b, frame.PrivateKey(key)}
	c := r.https()
	defer c.Close()
	if err := c.hello(frame.Hello{Code: b.code(user), User: user, Name: "raw"}); err != nil {
		b.t.Fatalf("enrol: %v", err)
	}
	return r
}

// A rawConn is a stream of bytes to the appliance, before or after HELLO.
type rawConn struct {
	io.ReadWriteCloser
	deadline func(time.Time) error
	state    tls.ConnectionState
	key      frame.PrivateKey
	session  *quic.Conn  // over QUIC
	tls      *tls.Conn   // over HTTPS
	bond     *frame.Bond // once it is admitted
}

// over connects by a transport and says nothing yet.
func (r *raw) over(transport string) *rawConn {
	if transport == "quic" {
		return r.quic()
	}
	return r.https()
}

func (r *raw) tls(alpn string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13}
}

func (r *raw) https() *rawConn {
	r.t.Helper()
	c, err := r.dialHTTPS()
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// dialHTTPS makes a connection on which nothing was said.
func (r *raw) dialHTTPS() (*rawConn, error) {
	c, err := r.Client.DialContext(r.t.Context(), "tcp", r.address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(c, r.tls("http/1.1"))
	r.t.Cleanup(func() { c.Close() })
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.WriteString(conn, "GET /v1/flow HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: sallyport/1\r\n\r\n"); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("the upgrade was answered with %s", resp.Status)
	}
	return &rawConn{ReadWriteCloser: readWriteCloser{in, conn, conn}, deadline: conn.SetDeadline, state: conn.ConnectionState(), key: r.key, tls: conn}, nil
}

// tlsCarrier carries frames of a connection over HTTPS.
type tlsCarrier struct {
	*tls.Conn
	in io.Reader // of it, with what has been read already
}

func (c tlsCarrier) Read(p []byte) (int, error) { return c.in.Read(p) }

type readWriteCloser struct {
	io.Reader
	io.Writer
	io.Closer
}

// dialQUIC makes a connection on which nothing was said.
func (r *raw) dialQUIC(alpn string) (*quic.Conn, error) {
	r.t.Helper()
	pc, err := r.Client.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { pc.Close() })
	to, err := net.ResolveUDPAddr("udp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	t := &quic.Transport{Conn: pc}
	r.t.Cleanup(func() { t.Close() })
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	conn, err := t.Dial(ctx, to, r.tls(alpn), &quic.Config{MaxIdleTimeout: 30 * time.Second})
	if err == nil {
		r.t.Cleanup(func() { conn.CloseWithError(0, "") })
	}
	return conn, err
}

func (r *raw) quic() *rawConn {
	r.t.Helper()
	session, err := r.dialQUIC("sallyport/1")
	if err != nil {
		r.t.Fatal(err)
	}
	control, err := session.OpenStream()
	if err != nil {
		r.t.Fatal(err)
	}
	control.SetDeadline(time.Now().Add(15 * time.Second))
	return &rawConn{ReadWriteCloser: control, deadline: control.SetDeadline, state: session.ConnectionState().TLS, key: r.key, session: session}
}

// introduce makes the HELLO frame for h.
func (c *rawConn) introduce(h frame.Hello) (*frame.Introduction, []byte, error) {
	exporter, err := c.state.ExportKeyingMaterial(frame.ExporterLabel, nil, 32)
	if err != nil {
		return nil, nil, err
	}
	pin := sha256.Sum256(c.state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	return frame.Introduce(h, c.key, frame.Channel{Exporter: exporter, ServerKeys: [][]byte{pin[:]},
		Secret: func(flow []byte) ([]byte, error) { return c.state.ExportKeyingMaterial(frame.ResumeLabel, flow, 32) }})
}

// hello says HELLO and waits for WELCOME.
func (c *rawConn) hello(h frame.Hello) error {
	h.Software = "raw client 1 test/test"
	in, hello, err := c.introduce(h)
	if err != nil {
		return err
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	welcome, err := in.ReadWelcome(c)
	if err == nil {
		c.bond = in.Bond(welcome.User)
	}
	return err
}

// flow is a carrier of an admitted connection, on which nothing was said.
func (r *raw) flow(transport string) *rawConn {
	r.t.Helper()
	c := r.over(transport)
	if err := c.hello(frame.Hello{User: "ann"}); err != nil {
		r.t.Fatalf("HELLO over %s: %v", transport, err)
	}
	if c.session == nil {
		return c
	}
	return c.next(r.t)
}

// next is one more carrier of a QUIC connection.
func (c *rawConn) next(t *testing.T) *rawConn {
	t.Helper()
	s, err := c.session.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(15 * time.Second))
	return &rawConn{ReadWriteCloser: readWriteCloser{s, s, hangUp{s}}, deadline: s.SetDeadline, session: c.session}
}

// hangUp closes both directions of a stream.
type hangUp struct{ *quic.Stream }

func (h hangUp) Close() error {
	h.CancelRead(0)
	return h.Stream.Close()
}

// opened asks for a flow and waits until it stands.
func (c *rawConn) opened(t *testing.T, req frame.OpenRequest) {
	t.Helper()
	if _, err := c.Write(frame.Append(nil, frame.TypeOpen, &req)); err != nil {
		t.Fatal(err)
	}
	if h, p, err := frame.ReadFrame(c); err != nil || h.Type != frame.TypeOpened {
		t.Fatalf("OPEN was answered with %v %q, %v", h, p, err)
	}
}

// verdict reads until the appliance says why it ends, and is that reason's code; else what came instead.
func (c *rawConn) verdict() string {
	for {
		h, p, err := frame.ReadFrame(c)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return "nothing"
		case err != nil:
			return fmt.Sprintf("closed without a word (%v)", err)
		case h.Type == frame.TypeReset, h.Type == frame.TypeRefused:
			var r frame.Reason
			if err := frame.Parse(h.Type, p, &r); err != nil {
				return err.Error()
			}
			return string(r.Code)
		}
	}
}
