package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

// browserOf names the device that a test's cookie stands for.
func browserOf(r *http.Request) (string, error) {
	c, err := r.Cookie("device")
	if err != nil {
		return "", errors.New("no cookie")
	}
	return c.Value, nil
}

// socket is a browser's end of a WebSocket, as a carrier.
type socket struct {
	net.Conn
	ws      *websocket.Conn
	closing sync.WaitGroup
}

func (s *socket) CloseWrite() error {
	s.closing.Go(func() { s.ws.Close(websocket.StatusNormalClosure, "") })
	return nil
}

func (s *socket) Close() error {
	err := s.Conn.Close()
	s.closing.Wait()
	return err
}

// dialSocket opens a WebSocket as a browser does that says header.
func (b *bench) dialSocket(ctx context.Context, header http.Header) (*websocket.Conn, *http.Response, error) {
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots}}}
	ws, resp, err := websocket.Dial(ctx, "wss://"+b.address+"/v1/ws", &websocket.DialOptions{HTTPClient: hc, HTTPHeader: header})
	if ws != nil {
		ws.SetReadLimit(1 << 20)
	}
	return ws, resp, err
}

// page is what a browser says for one of our own pages.
func (b *bench) page() http.Header {
	return http.Header{"Origin": {"https://" + b.address}, "Sec-Fetch-Site": {"same-origin"}, "Cookie": {"device=dev-1"}}
}

// browse opens a WebSocket that the appliance has admitted.
func (b *bench) browse(ctx context.Context, header http.Header, hello frame.Hello) (*socket, *frame.Welcome, error) {
	ws, _, err := b.dialSocket(ctx, header)
	if err != nil {
		return nil, nil, err
	}
	s := &socket{Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws: ws}
	in, first, err := frame.Introduce(hello, frame.PrivateKey(b.key), frame.Channel{})
	if err == nil {
		_, err = s.Write(first)
	}
	var w *frame.Welcome
	if err == nil {
		w, err = in.ReadWelcome(s)
	}
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, w, nil
}

// TestWebSocketCarrier runs the conformance suite over WebSockets.
func TestWebSocketCarrier(t *testing.T) {
	b := start(t)
	frametest.TestCarrier(t, func(t testing.TB) (frame.Carrier, func() frame.Carrier) {
		c, w, err := b.browse(t.Context(), b.page(), frame.Hello{Software: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if w.User != "ann" {
			t.Errorf("welcome, %q", w.User)
		}
		return c, func() frame.Carrier { return <-b.carriers }
	})
}

// TestCrossSite: no page but our own opens a WebSocket, whatever it says.
func TestCrossSite(t *testing.T) {
	b := start(t)
	host, port, _ := net.SplitHostPort(b.address)
	for name, c := range map[string]struct {
		change func(http.Header)
		status int
	}{
		"our own page":            {func(http.Header) {}, 101},
		"an older browser":        {func(h http.Header) { h.Del("Sec-Fetch-Site") }, 101},
		"no Origin":               {func(h http.Header) { h.Del("Origin") }, 403},
		"empty Origin":            {func(h http.Header) { h.Set("Origin", "") }, 403},
		"Origin null":             {func(h http.Header) { h.Set("Origin", "null") }, 403},
		"another site":            {func(h http.Header) { h.Set("Origin", "https://evil.example") }, 403},
		"another port":            {func(h http.Header) { h.Set("Origin", "https://"+host+":1") }, 403},
		"no port":                 {func(h http.Header) { h.Set("Origin", "https://"+host) }, 403},
		"http":                    {func(h http.Header) { h.Set("Origin", "http://"+b.address) }, 403},
		"a subdomain":             {func(h http.Header) { h.Set("Origin", "https://a."+b.address) }, 403},
		"a longer name":           {func(h http.Header) { h.Set("Origin", "https://"+host+".evil.example:"+port) }, 403},
		"a user before it":        {func(h http.Header) { h.Set("Origin", "https://"+b.address+"@evil.example") }, 403},
		"capitals":                {func(h http.Header) { h.Set("Origin", "HTTPS://"+b.address) }, 403},
		"a slash":                 {func(h http.Header) { h.Set("Origin", "https://"+b.address+"/") }, 403},
		"two Origins":             {func(h http.Header) { h.Add("Origin", "https://evil.example") }, 403},
		"Sec-Fetch-Site: other":   {func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"Sec-Fetch-Site: sibling": {func(h http.Header) { h.Set("Sec-Fetch-Site", "same-site") }, 403},
		"Sec-Fetch-Site: none":    {func(h http.Header) { h.Set("Sec-Fetch-Site", "none") }, 403},
		"no cookie":               {func(h http.Header) { h.Del("Cookie") }, 401},
		"an empty cookie":         {func(h http.Header) { h.Set("Cookie", "device=") }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			h := b.page()
			c.change(h)
			ws, resp, err := b.dialSocket(t.Context(), h)
			if ws != nil {
				ws.CloseNow()
			}
			if resp == nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || (err == nil) != (c.status == 101) {
				t.Errorf("answered %s, %v; want %d", resp.Status, err, c.status)
			}
			if policy := resp.Header.Get("Content-Security-Policy"); c.status != 101 && !strings.Contains(policy, "frame-ancestors 'none'") {
				t.Errorf("the policy of %s is %q", resp.Status, policy)
			}
		})
	}
}

// TestOtherBrowser: HELLO must be by the device whose cookie came, and brings no code.
func TestOtherBrowser(t *testing.T) {
	b := start(t)
	other := b.page()
	other.Set("Cookie", "device=dev-2")
	for name, c := range map[string]struct {
		header http.Header
		hello  frame.Hello
		want   string
	}{
		"another's cookie": {other, frame.Hello{Software: "test"}, "this browser has signed in as another device"},
		"a code":           {b.page(), frame.Hello{Software: "test", Code: "ABCD-EFGH"}, "codes are not taken here"},
	} {
		_, _, err := b.browse(t.Context(), c.header, c.hello)
		if r, ok := frame.ReasonOf(err); !ok || r.Code != frame.Auth || r.Sentence != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWebSocketMessages: a message may have any part of frames, in fragments too; one of text, or too long, ends the carrier.
func TestWebSocketMessages(t *testing.T) {
	open := frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	ping := frame.AppendProbe(nil, frame.TypePing, [8]byte{7})
	for name, c := range map[string]struct {
		say  func(context.Context, *websocket.Conn) error
		good bool
	}{
		"at once": {func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageBinary, append(ping, open...))
		}, true},
		"byte by byte": {func(ctx context.Context, ws *websocket.Conn) error {
			for _, b := range append(ping, open...) {
				if err := ws.Write(ctx, websocket.MessageBinary, []byte{b}); err != nil {
					return err
				}
			}
			return nil
		}, true},
		"in fragments": {func(ctx context.Context, ws *websocket.Conn) error {
			w, err := ws.Writer(ctx, websocket.MessageBinary)
			for _, b := range open {
				if err == nil {
					_, err = w.Write([]byte{b})
				}
			}
			return errors.Join(err, w.Close())
		}, true},
		"empty ones between": {func(ctx context.Context, ws *websocket.Conn) error {
			return errors.Join(ws.Write(ctx, websocket.MessageBinary, nil), ws.Write(ctx, websocket.MessageBinary, open[:3]),
				ws.Write(ctx, websocket.MessageBinary, nil), ws.Write(ctx, websocket.MessageBinary, open[3:]))
		}, true},
		"text": {func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageText, open)
		}, false},
		"too long": {func(ctx context.Context, ws *websocket.Conn) error {
			skipped := frame.Header{Type: 0x90, Length: 64 << 10}.Append(nil)
			return ws.Write(ctx, websocket.MessageBinary, append([]byte(strings.Repeat(string(append(skipped, make([]byte, 64<<10)...)), 17)), open...))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			s, _, err := b.browse(t.Context(), b.page(), frame.Hello{Software: "test"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c.say(t.Context(), s.ws)
			carrier := <-b.carriers
			defer carrier.Close()
			in, err := frame.Accept(t.Context(), carrier, frame.Options{})
			if (err == nil) != c.good {
				t.Fatalf("accept says %v", err)
			}
			if err == nil {
				in.Refuse(frame.Refuse("E_DENIED", "no", ""))
			}
		})
	}
}

// TestWebSocketSlowReader: a browser that reads nothing holds up nobody, and Close does not wait for it.
func TestWebSocketSlowReader(t *testing.T) {
	b := start(t)
	s, _, err := b.browse(t.Context(), b.page(), frame.Hello{Software: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	carrier := <-b.carriers
	carrier.SetWriteDeadline(time.Now().Add(time.Second))
	begun := time.Now()
	for err == nil && time.Since(begun) < 20*time.Second {
		_, err = carrier.Write(make([]byte, 64<<10))
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("writing says %v", err)
	}
	begun = time.Now()
	carrier.Close()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// TestWebSocketSilence: a WebSocket that does not say HELLO is ended.
func TestWebSocketSilence(t *testing.T) {
	b := start(t)
	ws, _, err := b.dialSocket(t.Context(), b.page())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the appliance still waits: %v", err)
	}
}

// TestWebSocketFenced: a carrier whose reader was cut off by a deadline still says that another one has the flow.
func TestWebSocketFenced(t *testing.T) {
	b := start(t)
	s, _, err := b.browse(t.Context(), b.page(), frame.Hello{Software: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	carrier := <-b.carriers
	defer carrier.Close()
	cut := make(chan error)
	go func() {
		_, err := carrier.Read(make([]byte, 1))
		cut <- err
	}()
	time.Sleep(50 * time.Millisecond)
	carrier.SetReadDeadline(time.Unix(1, 0))
	if err := <-cut; err == nil {
		t.Error("a read that was cut off says nothing")
	}
	carrier.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := carrier.Write(frame.Header{Type: frame.TypeSuperseded}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	carrier.CloseWrite()
	got, err := io.ReadAll(s)
	if string(got) != "\x24\x00\x00\x00" || err != nil {
		t.Errorf("the browser read %x, %v", got, err)
	}
}

// TestWebSocketGone: a browser that went away without a word, while it has nothing to say, is noticed by itself; one whose
// page sleeps is not, for its network stack answers.
func TestWebSocketGone(t *testing.T) {
	b := start(t)
	for _, there := range []bool{true, false} {
		s, _, err := b.browse(t.Context(), b.page(), frame.Hello{Software: "test"})
		if err != nil {
			t.Fatal(err)
		}
		carrier := <-b.carriers
		over := make(chan error, 1)
		go func() {
			_, err := carrier.Read(make([]byte, 1))
			over <- err
		}()
		if there {
			go s.Read(make([]byte, 1)) // which answers
		}
		select {
		case err := <-over:
			if there {
				t.Errorf("a browser that answers is gone: %v", err)
			}
		case <-time.After(2 * time.Second):
			if !there {
				t.Error("a browser that does not answer is still there")
			}
		}
		carrier.Close()
		s.Close()
	}
}
