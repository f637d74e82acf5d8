package system

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/client/clienttest"
	"sallyport/frame"
)

// What the person's program says of appliances that ours cannot be made to be: their clock is another, or they are of
// another time. They live in the test, on this machine's loopback; the program is the real one.

// alone runs the person's program without a lab.
func alone(t *testing.T, home, stdin string, args ...string) run {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin+"/sallyport", args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+home, "HOME="+home)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return run{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// TestClock is row 19: the certificate is not valid by this computer's clock, and it is the clock that is wrong, by the
// time that the appliance tells. (TestCertificates has the certificates that are wrong themselves.)
func TestClock(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	for _, c := range []struct {
		name   string
		config clienttest.Config
		says   []string
	}{
		{"ahead", clienttest.Config{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day), Now: now.Add(-36 * time.Hour)},
			[]string{"this computer's clock differs by 36 h: it says {date}, 127.0.0.1:{port} says {date}", "hint: set the clock and try again"}},
		{"behind", clienttest.Config{NotBefore: now.Add(time.Hour), NotAfter: now.Add(day), Now: now.Add(8*time.Hour + 20*time.Minute)},
			[]string{"this computer's clock differs by 8 h 20 min: it says {date}, 127.0.0.1:{port} says {date}", "hint: set the clock and try again"}},
		{"right", clienttest.Config{NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)},
			[]string{"the certificate of 127.0.0.1:{port} expired at {date}; it is {date} now", "hint: an administrator must renew the appliance's certificate"}},
	} {
		a := clienttest.Start(t, c.config)
		for _, mode := range []string{"quic", "https", "auto"} {
			t.Run(c.name+"/"+mode, func(t *testing.T) {
				r := alone(t, t.TempDir(), clienttest.Code, "--transport", mode, "login", a.Address, "--ca", a.CAFile, "--code-file", "-")
				(&bastion{t: t}).wrong(mistake{"19 clock " + c.name, nil, 14, says(c.says...)}, r)
			})
		}
	}

	// Who does not say what time it is cannot be compared with.
	t.Run("nobody tells the time", func(t *testing.T) {
		ca := newAuthority(t)
		p := startPeer(t, ca, now.Add(time.Hour), now.Add(day), nil)
		r := alone(t, t.TempDir(), "1234\n", "login", p.address, "--ca", p.caFile, "--code-file", "-")
		(&bastion{t: t}).wrong(mistake{"19 clock, untold", nil, 14, says("this computer's clock says {date}, when the certificate of 127.0.0.1:{port} was not valid yet", "hint: set the clock and try again")}, r)
	})

	// A clock that is only somewhat wrong the doctor finds.
	t.Run("doctor", func(t *testing.T) {
		a, home := clienttest.Start(t, clienttest.Config{Ahead: 10 * time.Minute}), t.TempDir()
		if r := alone(t, home, clienttest.Code, "login", a.Address, "--ca", a.CAFile, "--code-file", "-"); r.exit != 0 {
			t.Fatal(r)
		}
		if r := alone(t, home, "", "doctor"); r.exit != 14 || !strings.Contains(r.stdout, "this computer is 10m0s behind the appliance → set this computer's clock; if it is right, the appliance's is wrong\n") {
			t.Errorf("%v", r)
		}
	})
}

// TestVersions is row 23: client and appliance are of different times. (TestLiars has a client that our appliance is too
// old for.)
func TestVersions(t *testing.T) {
	refused := frame.Append(nil, frame.TypeRefused, &frame.Reason{Code: frame.VersionSkew,
		Sentence: "sallyport devel linux/amd64 speaks protocol version 1, this appliance speaks 2", Hint: "install the client that belongs to this appliance"})
	welcome := frame.Append(nil, frame.TypeWelcome, &frame.Welcome{Version: 2, Software: "sallyportd 2", Name: "later", User: "ann", Device: "dev-1",
		Time: time.Now().UnixMilli(), Identity: [][]byte{bytes.Repeat([]byte{1}, 32)}, Signature: bytes.Repeat([]byte{2}, 64)})
	for _, c := range []struct {
		name   string
		answer []byte
		says   []string
	}{
		{"the client is too old", refused, []string{"sallyport devel linux/amd64 speaks protocol version 1, this appliance speaks 2", "hint: install the client that belongs to this appliance"}},
		{"the appliance chooses what was not offered", welcome, []string{"the appliance chose protocol version 2, this client speaks 1", "hint: install the client that belongs to this appliance"}},
	} {
		p := startPeer(t, newAuthority(t), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), c.answer)
		for _, mode := range []string{"quic", "https", "auto"} {
			t.Run(c.name+"/"+mode, func(t *testing.T) {
				r := alone(t, t.TempDir(), "1234\n", "--transport", mode, "login", p.address, "--ca", p.caFile, "--code-file", "-")
				(&bastion{t: t}).wrong(mistake{"23 " + c.name, nil, 15, says(c.says...)}, r)
			})
		}
	}
}

// A peer is an appliance as far as HELLO: it answers the same to each, over QUIC and HTTPS.
type peer struct {
	address string
	caFile  string
	answer  []byte // nil: it hangs up
}

func startPeer(t *testing.T, ca *authority, from, to time.Time, answer []byte) *peer {
	t.Helper()
	p := &peer{caFile: filepath.Join(t.TempDir(), "ca.pem"), answer: answer}
	writeFile(t, p.caFile, ca.pem)
	pair, err := tls.X509KeyPair(pemPair(ca.issue("127.0.0.1", from, to)))
	if err != nil {
		t.Fatal(err)
	}
	config := func(alpn string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13}
	}
	tcp, err := tls.Listen("tcp", "127.0.0.1:0", config("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	p.address = tcp.Addr().String()
	udp, err := quic.ListenAddr(p.address, config("sallyport/1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		tcp.Close()
		udp.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); p.https(c) })
		}
	})
	wg.Go(func() {
		for {
			c, err := udp.Accept(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { defer c.CloseWithError(0, ""); p.quic(ctx, c) })
		}
	})
	return p
}

func (p *peer) https(c net.Conn) {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	if _, err := http.ReadRequest(in); err != nil || p.answer == nil {
		return
	}
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sallyport/1\r\n\r\n")
	p.greet(struct {
		io.Reader
		io.Writer
	}{in, c})
}

func (p *peer) quic(ctx context.Context, c *quic.Conn) {
	s, err := c.AcceptStream(ctx)
	if err != nil || p.answer == nil {
		return
	}
	s.SetDeadline(time.Now().Add(10 * time.Second))
	p.greet(s)
	select {
	case <-c.Context().Done(): // the client has read the answer
	case <-ctx.Done():
	}
}

// greet answers a HELLO, and waits until the client hangs up.
func (p *peer) greet(rw io.ReadWriter) {
	if h, _, err := frame.ReadFrame(rw); err != nil || h.Type != frame.TypeHello {
		return
	}
	rw.Write(p.answer)
	io.Copy(io.Discard, rw)
}
