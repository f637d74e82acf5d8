package frame_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

// A model is what a flow is, slowly and obviously: two byte strings that the ends write and read.
type model [2]struct {
	wrote, read int    // bytes, by the end that sends and the end that receives
	bytes       []byte // all that was ever written
	ended       bool   // no more follows
	eof         bool   // and the receiver knows
}

// play runs a random schedule on a flow and compares each result with the model. In every other schedule the flow's
// carriers are cut again and again, which the model does not know.
func play(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 20))
	g := frame.NewGovernor(1 << 20)
	start := g.Free()
	sizes := []int{1, 3, 100, 4096, 64 << 10}
	b := &frametest.Broker{T: t, Buffer: sizes[r.IntN(len(sizes))],
		Client: frame.Options{Governor: g}, Appliance: frame.Options{Governor: g}}
	var ends [2]*frame.Stream
	ends[0], ends[1] = b.Open()
	for _, s := range ends {
		s.Read(nil) // begins to listen
	}
	synctest.Wait()
	go b.Hold(t.Context(), ends[0])
	cuts := r.IntN(2) == 0

	var m model
	for step := range steps {
		if cuts && r.IntN(4) == 0 {
			b.Cut()
		}
		if t.Failed() {
			return
		}
		x := r.IntN(2)
		here, out, in := ends[x], &m[x], &m[1-x]
		where := fmt.Sprintf("seed %d, step %d, end %d", seed, step, x)
		switch op := r.IntN(100); {
		case op < 40: // write as much as surely fits
			p := make([]byte, r.IntN(1+min(r.IntN(4000)+1, 16000-(out.wrote-out.read))))
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			n, err := here.Write(p)
			switch {
			case out.ended:
				if n != 0 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: a write after CloseWrite gives %d, %v", where, n, err)
				}
			case n != len(p) || err != nil:
				t.Errorf("%s: a write of %d gives %d, %v", where, len(p), n, err)
			}
			out.bytes = append(out.bytes, p[:n]...)
			out.wrote += n
		case op < 85: // read what the model has
			p := make([]byte, 1+r.IntN(6000))
			here.SetReadDeadline(time.Now().Add(time.Minute))
			n, err := here.Read(p)
			switch pending := in.wrote - in.read; {
			case pending > 0:
				if n == 0 || n > pending || err != nil || !bytes.Equal(p[:n], in.bytes[in.read:in.read+n]) {
					t.Errorf("%s: a read of %d pending gives %d, %v", where, pending, n, err)
				}
			case in.ended:
				in.eof = true
				if n != 0 || err != io.EOF {
					t.Errorf("%s: at the end a read gives %d, %v", where, n, err)
				}
			default:
				if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: with nothing pending a read gives %d, %v", where, n, err)
				}
			}
			in.read += n
		case op < 96:
			time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
		case op == 96:
			here.Notify(frame.Notice{Text: "still here"})
		case op == 97:
			synctest.Wait() // a cut is over, or the end that one side has seen
			if err := here.CloseWrite(); err != nil && !(m[0].eof && m[1].eof) {
				t.Errorf("%s: CloseWrite says %v", where, err)
			}
			out.ended = true
		case op == 98 && r.IntN(3) == 0:
			synctest.Wait()
			playReset(t, where, here, ends[1-x], m, x)
			settle(t, g, start, where)
			return
		case op == 99 && r.IntN(3) == 0:
			synctest.Wait()
			playClose(t, where, here, ends[1-x], m, x)
			settle(t, g, start, where)
			return
		}
		if m[0].eof && m[1].eof {
			break // over in order
		}
	}
	for x, s := range ends {
		in := &m[1-x]
		ends[1-x].CloseWrite()
		rest, err := io.ReadAll(deadlineless{s})
		if want := in.bytes[in.read:]; !in.eof && (err != nil || !bytes.Equal(rest, want)) {
			t.Errorf("seed %d: the rest is %d bytes, %v; want %d", seed, len(rest), err, len(want))
		}
	}
	for _, s := range ends {
		s.Close()
	}
	settle(t, g, start, fmt.Sprint("seed ", seed))
}

// deadlineless reads a stream without the deadline of an earlier read.
type deadlineless struct{ *frame.Stream }

func (d deadlineless) Read(p []byte) (int, error) {
	d.SetReadDeadline(time.Time{})
	return d.Stream.Read(p)
}

// playReset: both ends learn the reason; what the peer still reads is a prefix of what was written.
func playReset(t *testing.T, where string, here, there *frame.Stream, m model, x int) {
	go here.Reset(frame.Reason{Code: "E_IDLE", Sentence: "nothing moved"})
	rest, err := io.ReadAll(deadlineless{there})
	var se *frame.StreamError
	inOrder := err == nil && m[x].ended && len(rest) == m[x].wrote-m[x].read
	if !bytes.HasPrefix(m[x].bytes[m[x].read:], rest) || !inOrder && (!errors.As(err, &se) || se.Code != "E_IDLE" || !se.Remote) {
		t.Errorf("%s: after a reset the peer reads %d bytes, %v", where, len(rest), err)
	}
	there.Close()
	here.Close()
}

// playClose: what was written before Close still arrives, and then the end or E_CLOSED.
func playClose(t *testing.T, where string, here, there *frame.Stream, m model, x int) {
	here.Close()
	rest, err := io.ReadAll(deadlineless{there})
	var se *frame.StreamError
	if !bytes.Equal(rest, m[x].bytes[m[x].read:]) || err != nil && (!errors.As(err, &se) || se.Code != frame.Closed || !se.Remote) {
		t.Errorf("%s: after Close the peer reads %d of %d bytes, %v", where, len(rest), m[x].wrote-m[x].read, err)
	}
	there.Close()
}

// settle waits until the flow is gone and checks that it has given everything back.
func settle(t *testing.T, g *frame.Governor, want int64, where string) {
	t.Helper()
	time.Sleep(time.Minute)
	synctest.Wait()
	if g.Free() != want {
		t.Errorf("%s: the governor has %d of %d", where, g.Free(), want)
	}
}

var modelSchedules = flag.Int("model", 400, "how many schedules TestModel plays, of 85 steps on average")

// TestModel compares flows with the model over random schedules.
func TestModel(t *testing.T) {
	schedules := *modelSchedules
	base := rand.Uint64()
	t.Logf("seeds from %d", base)
	for i := range schedules {
		synctest.Test(t, func(t *testing.T) { play(t, base+uint64(i), 10+i%150) })
		if t.Failed() {
			return
		}
	}
}
