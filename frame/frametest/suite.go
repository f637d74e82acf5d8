package frametest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"sallyport/frame"
)

// A Pair makes a carrier and returns the client's and the appliance's end. The appliance's end may be made only when
// the client has written to its own.
type Pair func(t testing.TB) (client frame.Carrier, appliance func() frame.Carrier)

// TestCarrier shows that flows work over the carriers that pair makes.
func TestCarrier(t *testing.T, pair Pair) {
	t.Run("Conn", func(t *testing.T) {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			a, b := Flow(t, pair)
			return a, b, func() { a.Close(); b.Close() }, nil
		})
	})
	t.Run("Bulk", func(t *testing.T) { testBulk(t, pair) })
	t.Run("HalfClose", func(t *testing.T) { testHalfClose(t, pair) })
	t.Run("Reset", func(t *testing.T) { testReset(t, pair) })
	t.Run("Refuse", func(t *testing.T) { testRefuse(t, pair) })
	t.Run("CloseTellsWriter", func(t *testing.T) { testCloseTellsWriter(t, pair) })
}

// Flow opens a flow over a carrier that pair makes.
func Flow(t testing.TB, pair Pair) (client, appliance *frame.Stream) {
	t.Helper()
	c, accept := pair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		in, err := frame.Accept(t.Context(), accept(), frame.Options{})
		if err != nil {
			t.Error(err)
			return
		}
		appliance = in.Accept(frame.Opened{Flow: make([]byte, 16), Session: make([]byte, 16), Target: in.Open.Target})
	})
	client, opened, err := frame.Open(t.Context(), c, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{})
	wg.Wait()
	if err != nil || appliance == nil {
		t.Fatalf("open: %v", err)
	}
	if opened.Target != "db-1" {
		t.Fatalf("opened %q, asked for db-1", opened.Target)
	}
	return client, appliance
}

func testBulk(t *testing.T, pair Pair) {
	a, b := Flow(t, pair)
	const size = 24 << 20
	var wg sync.WaitGroup
	for _, way := range []struct{ from, to *frame.Stream }{{a, b}, {b, a}} {
		seed := [32]byte{byte(rand.IntN(256))}
		sums := make(chan [32]byte, 2)
		wg.Go(func() {
			h := sha256.New()
			src := io.LimitReader(rand.NewChaCha8(seed), size)
			if _, err := io.Copy(io.MultiWriter(way.from, h), src); err != nil {
				t.Errorf("send: %v", err)
			}
			way.from.CloseWrite()
			sums <- [32]byte(h.Sum(nil))
		})
		wg.Go(func() {
			h := sha256.New()
			if n, err := io.Copy(h, way.to); n != size || err != nil {
				t.Errorf("received %d bytes, %v; want %d", n, err, size)
			}
			sums <- [32]byte(h.Sum(nil))
		})
		defer func() {
			if x, y := <-sums, <-sums; x != y {
				t.Error("the bytes that arrived are not those that were sent")
			}
		}()
	}
	wg.Wait()
	a.Close()
	b.Close()
}

func testHalfClose(t *testing.T, pair Pair) {
	a, b := Flow(t, pair)
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := io.ReadAll(b)
		if string(got) != "question" || err != nil {
			t.Errorf("the appliance read %q, %v", got, err)
		}
		io.WriteString(b, "answer")
		b.CloseWrite()
	})
	io.WriteString(a, "question")
	a.CloseWrite()
	got, err := io.ReadAll(a)
	if string(got) != "answer" || err != nil {
		t.Errorf("the client read %q, %v", got, err)
	}
	wg.Wait()
	a.Close()
	b.Close()
}

func testReset(t *testing.T, pair Pair) {
	a, b := Flow(t, pair)
	go b.Reset(frame.Reason{Code: "E_IDLE", Sentence: "nothing moved for 15 minutes", Hint: "connect again", Rule: "ops"})
	_, err := io.ReadAll(a)
	var se *frame.StreamError
	if !errors.As(err, &se) || !se.Remote || se.Code != "E_IDLE" || se.Hint != "connect again" || se.Rule != "ops" {
		t.Errorf("the client read %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.As(err, &se) {
		t.Errorf("a write after the end says %v", err)
	}
	a.Close()
}

func testRefuse(t *testing.T, pair Pair) {
	c, accept := pair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		in, err := frame.Accept(t.Context(), accept(), frame.Options{})
		if err != nil {
			t.Error(err)
			return
		}
		in.Refuse(frame.Refuse("E_DENIED", "db-1:22 denied by rule \"ops\"", "ask for an exception"))
	})
	_, _, err := frame.Open(t.Context(), c, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{})
	wg.Wait()
	var se *frame.StreamError
	if !errors.As(err, &se) || !se.Remote || se.Code != "E_DENIED" || se.Hint != "ask for an exception" {
		t.Errorf("the client was told %v", err)
	}
}

// testCloseTellsWriter: one side closes while the other still sends.
func testCloseTellsWriter(t *testing.T, pair Pair) {
	a, b := Flow(t, pair)
	b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := a.Write(bytes.Repeat([]byte("x"), 1<<10)); err != nil {
			var se *frame.StreamError
			if !errors.As(err, &se) || se.Code != frame.Closed {
				t.Errorf("a write to a closed flow says %v", err)
			}
			a.Close()
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("a write to a closed flow never failed")
}
