package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flow is a client's stream and the appliance's, joined in memory.
func flow(t testing.TB) (client, near *frame.Stream) {
	return frametest.Flow(t, func(t testing.TB) (frame.Carrier, func() frame.Carrier) {
		a, b := frametest.Pipe(0)
		return a, func() frame.Carrier { return b }
	})
}

// conns are the two ends of a connection, by the kind of the relay's end.
var conns = map[string]func(t testing.TB) (far, target net.Conn){
	"socket": sockets,
	"impatient": func(t testing.TB) (net.Conn, net.Conn) {
		far, target := sockets(t)
		return &impatient{Conn: far, relay: relay.Wrap(far)}, target
	},
	"joined": func(t testing.TB) (net.Conn, net.Conn) {
		a, b := frametest.Pipe(0)
		return pipeConn{a}, pipeConn{b}
	},
}

func sockets(t testing.TB) (far, target net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if target, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return far, target
}

// impatient is a conn that never has anybody wait for its bytes.
type impatient struct {
	net.Conn
	relay relay.Conn
	ready atomic.Bool
}

func (c *impatient) WaitReadable(ctx context.Context, later func()) (bool, error) {
	if c.ready.Swap(false) || ctx.Err() != nil {
		return c.relay.WaitReadable(ctx, nil)
	}
	go func() {
		c.relay.WaitReadable(context.Background(), nil)
		c.ready.Store(true)
		later()
	}()
	return false, nil
}

func (c *impatient) Buffered() int                          { return c.relay.Buffered() }
func (c *impatient) Take(p []byte) (int, error)             { return c.relay.Take(p) }
func (c *impatient) WaitWritable(ctx context.Context) error { return c.relay.WaitWritable(ctx) }
func (c *impatient) CloseWrite() error                      { return c.relay.CloseWrite() }

// pipeConn is a conn that can only block.
type pipeConn struct{ *frametest.PipeCarrier }

func (pipeConn) LocalAddr() net.Addr           { return nil }
func (pipeConn) RemoteAddr() net.Addr          { return nil }
func (p pipeConn) SetDeadline(time.Time) error { return nil }

func each(t *testing.T, test func(t *testing.T, far, target net.Conn)) {
	for name, make := range conns {
		t.Run(name, func(t *testing.T) {
			far, target := make(t)
			defer far.Close()
			defer target.Close()
			test(t, far, target)
		})
	}
}

// TestPump: bulk both ways at once arrives whole, the halves end one by one, and the bytes are counted.
func TestPump(t *testing.T) {
	each(t, func(t *testing.T, far, target net.Conn) {
		client, near := flow(t)
		done := make(chan relay.Result, 1)
		go func() { done <- relay.Pump(t.Context(), near, relay.Wrap(far), relay.Options{}) }()

		const up, down = 5<<20 + 17, 9<<20 + 3
		var wg sync.WaitGroup
		send := func(w io.Writer, end func() error, n int64, seed byte) {
			wg.Go(func() {
				if _, err := io.Copy(w, io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)); err != nil {
					t.Errorf("send: %v", err)
				}
				end()
			})
		}
		receive := func(r io.Reader, n int64, seed byte) {
			wg.Go(func() {
				want, got := sha256.New(), sha256.New()
				io.Copy(want, io.LimitReader(rand.NewChaCha8([32]byte{seed}), n))
				if k, err := io.Copy(got, r); k != n || err != nil || !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
					t.Errorf("received %d bytes of %d, %v, or they differ", k, n, err)
				}
			})
		}
		send(client, client.CloseWrite, up, 1)
		receive(target, up, 1)
		send(target, target.(interface{ CloseWrite() error }).CloseWrite, down, 2)
		receive(client, down, 2)
		wg.Wait()
		if r := <-done; r.Up != up || r.Down != down || r.Err != nil {
			t.Errorf("result %+v, want %d up, %d down", r, int64(up), int64(down))
		}
	})
}

// TestConnFails: what the conn's failure was reaches the caller, who tells the client.
func TestConnFails(t *testing.T) {
	far, target := conns["socket"](t)
	defer far.Close()
	client, near := flow(t)
	go io.Copy(io.Discard, client)
	done := make(chan relay.Result, 1)
	go func() { done <- relay.Pump(t.Context(), near, relay.Wrap(far), relay.Options{}) }()
	target.(*net.TCPConn).SetLinger(0)
	target.Close()
	r := <-done
	var conn *relay.ConnError
	if !errors.As(r.Err, &conn) || !errors.Is(r.Err, syscall.ECONNRESET) {
		t.Errorf("the relay ended with %v", r.Err)
	}
	near.Reset(frame.Reason{Code: "E_TARGET_RESET", Sentence: "reset"})
	client.Close()
}

// TestCancel: the cause of the context ends both directions and is the result.
func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, far, target net.Conn) {
		client, near := flow(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan relay.Result, 1)
		go func() { done <- relay.Pump(ctx, near, relay.Wrap(far), relay.Options{}) }()
		io.WriteString(client, "hello")
		io.ReadFull(target, make([]byte, 5))
		why := frame.Refuse("E_DEVICE_REVOKED", "the device was revoked", "")
		cancel(why)
		if r := <-done; !errors.Is(r.Err, why) || r.Up != 5 {
			t.Errorf("result %+v", r)
		}
		near.Reset(why.Reason)
		var se *frame.StreamError
		if _, err := io.ReadAll(client); !errors.As(err, &se) || se.Code != "E_DEVICE_REVOKED" {
			t.Errorf("the client was told %v", err)
		}
		client.Close()
	})
}

// TestIdle: a relay ends when nothing has moved for the limit, and not before.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, near := flow(t)
		far, target := conns["joined"](t)
		begin := time.Now()
		done := make(chan relay.Result, 1)
		go func() { done <- relay.Pump(t.Context(), near, relay.Wrap(far), relay.Options{Idle: time.Hour}) }()
		for range 3 {
			time.Sleep(50 * time.Minute)
			io.WriteString(client, "x")
			io.ReadFull(target, make([]byte, 1))
		}
		r := <-done
		if took := time.Since(begin); !errors.Is(r.Err, relay.ErrIdle) || took < 210*time.Minute || took > 212*time.Minute {
			t.Errorf("ended after %v with %v", took, r.Err)
		}
		near.Reset(frame.Reason{Code: "E_IDLE", Sentence: "idle"})
		client.Close()
		far.Close()
		target.Close()
	})
}

// TestStalledConn: a conn that takes nothing does not keep the stream from being read to its end, within the room that
// was granted.
func TestStalledConn(t *testing.T) {
	each(t, func(t *testing.T, far, target net.Conn) {
		client, near := flow(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan relay.Result, 1)
		go func() { done <- relay.Pump(ctx, near, relay.Wrap(far), relay.Options{}) }()
		client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := io.Copy(client, rand.NewChaCha8([32]byte{}))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n > 64<<20 {
			t.Errorf("a stalled conn let %d bytes pass, %v", n, err)
		}
		// The other direction still works, and so do acknowledgements.
		go io.WriteString(target, "still here")
		if _, err := io.ReadFull(client, make([]byte, 10)); err != nil {
			t.Errorf("the other direction: %v", err)
		}
		cancel()
		<-done
		near.Reset(frame.Reason{Code: "E_IDLE", Sentence: "over"})
		client.Close()
	})
}

// TestCopies: bytes are read into what the stream lends, and offered where they arrived: the relay has no buffer of
// its own.
func TestCopies(t *testing.T) {
	// A slab that the stream lends is what the conn reads into: no copy of ours lies between.
	far := &recorder{ready: make(chan struct{}, 1)}
	sink := &lender{buf: make([]byte, 4096), frames: 1}
	far.ready <- struct{}{}
	r := relay.Pump(t.Context(), sink, far, relay.Options{})
	if r.Err != nil || &far.read[0] != &sink.buf[0] {
		t.Errorf("the conn read into other memory than the stream lent (%v)", r.Err)
	}
	if &far.took[0] != &sink.buf[0] {
		t.Error("the conn was offered other memory than the bytes arrived in")
	}
}

// lender is a stream that lends one buffer, and delivers it as so many frames.
type lender struct {
	buf    []byte
	frames int
}

func (l *lender) Reserve(context.Context) ([]byte, error) { return l.buf, nil }
func (l *lender) Commit(int) error                        { return nil }
func (l *lender) CloseWrite() error                       { return nil }
func (l *lender) Deliver(_ context.Context, dst relay.Taker) error {
	for range l.frames {
		if _, err := dst.Take(l.buf); err != nil {
			return err
		}
	}
	return dst.CloseWrite()
}

// recorder is a conn that remembers whose memory it was given.
type recorder struct {
	ready      chan struct{}
	read, took []byte
}

func (r *recorder) WaitReadable(context.Context, func()) (bool, error) {
	if r.read == nil {
		<-r.ready
	}
	return true, nil
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.read != nil {
		return 0, io.EOF
	}
	r.read = p
	return copy(p, "bytes"), nil
}

func (r *recorder) Buffered() int                      { return 0 }
func (r *recorder) Take(p []byte) (int, error)         { r.took = p; return len(p), nil }
func (r *recorder) WaitWritable(context.Context) error { return nil }
func (r *recorder) CloseWrite() error                  { return nil }
func (r *recorder) Close() error                       { return nil }
