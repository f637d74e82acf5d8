package frame

import (
	"bytes"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMutatedFrames feeds a million frames that were good before bytes of them were changed, to the decoder one by one and
// to a flow in a row: nothing panics, and what they cost is given back. SALLYPORT_SOAK makes it a hundred million.
func TestMutatedFrames(t *testing.T) {
	frames := 1_000_000
	if os.Getenv("SALLYPORT_SOAK") != "" {
		frames *= 100
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	governor := NewGovernor(allRoom)
	goroutines := runtime.NumGoroutine()
	var early uint64
	accepted := 0
	for done := 0; done < frames; {
		var row bytes.Buffer
		for range 1 + r.IntN(30) {
			f := mutate(r, goodFrames[r.IntN(len(goodFrames))])
			if _, _, err := decode(f); err == nil {
				accepted++
			}
			row.Write(f)
			done++
		}
		mutatedFlow(t, r, governor, row.Bytes())
		if early == 0 && done > frames/10 {
			early = heap()
		}
	}
	if late := heap(); late > early+2<<20 {
		t.Errorf("the heap grew from %d KiB to %d KiB", early>>10, late>>10)
	} else {
		t.Logf("%d of %d frames were good all the same; the heap went from %d KiB to %d KiB", accepted, frames, early>>10, late>>10)
	}
	if governor.Free() != allRoom {
		t.Errorf("%d bytes of room were not given back", allRoom-governor.Free())
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, there were %d", n, goroutines)
	}
}

// mutatedFlow runs a flow whose peer says b and hangs up.
func mutatedFlow(t *testing.T, r *rand.Rand, g *Governor, b []byte) {
	s := newStream(&spoken{bytes.NewReader(b), r}, Options{Governor: g})
	commit(t, s, "hello")
	if err := s.Deliver(t.Context(), &sink{}); err != nil {
		s.Reset(Reason{Code: Closed})
	}
	s.mu.Lock()
	s.rest()
	s.mu.Unlock()
}

// spoken is a carrier whose peer has said everything and reads everything: nothing blocks, so deadlines mean nothing.
type spoken struct {
	*bytes.Reader
	r *rand.Rand
}

func (c *spoken) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), 1+c.r.IntN(4000))]) }

func (*spoken) Write(p []byte) (int, error)      { return len(p), nil }
func (*spoken) SetReadDeadline(time.Time) error  { return nil }
func (*spoken) SetWriteDeadline(time.Time) error { return nil }
func (*spoken) CloseWrite() error                { return nil }
func (*spoken) Close() error                     { return nil }

// decode reads one frame as whoever waits for a control frame does.
func decode(b []byte) (Header, any, error) {
	h, p, err := ReadFrame(bytes.NewReader(b))
	if err != nil {
		return h, nil, err
	}
	messages := map[Type]any{TypeHello: &Hello{}, TypeChallenge: &Challenge{}, TypeWelcome: &Welcome{}, TypeOpen: &OpenRequest{}, TypeOpened: &Opened{},
		TypeRefused: &Reason{}, TypeResume: &Resume{}, TypeResumed: &Resumed{}, TypeReset: &Reason{}, TypeNotice: &Notice{}, TypeDrain: &Drain{}}
	switch m, ok := messages[h.Type]; {
	case ok:
		return h, m, Parse(h.Type, p, m)
	case h.Type == TypeAck:
		a, err := ParseAck(p)
		return h, a, err
	case h.Type == TypeFin:
		n, err := parseFin(p)
		return h, n, err
	}
	return h, p, nil
}

var goodFrames = [][]byte{
	Append(nil, TypeHello, &Hello{Versions: []uint8{1}, Software: "sallyport", Time: 1 << 40, Device: make([]byte, 32), Name: "laptop", User: "ann",
		Binding: BindExporter, ServerKey: make([]byte, 32), Signature: make([]byte, 64)}),
	Append(nil, TypeChallenge, &Challenge{Nonce: make([]byte, 32), Share: make([]byte, 32)}),
	Append(nil, TypeWelcome, &Welcome{Version: 1, Name: "bastion", Identity: [][]byte{make([]byte, 32)}, Signature: make([]byte, 64)}),
	Append(nil, TypeOpen, &OpenRequest{Target: "db-1", Protocol: "ssh", Port: 22}),
	Append(nil, TypeOpened, &Opened{Flow: make([]byte, 16), Session: make([]byte, 16), Target: "db-1", Port: 22}),
	Append(nil, TypeRefused, &Reason{Code: "E_DENIED", Sentence: "no", Hint: "ask"}),
	Append(nil, TypeResume, &Resume{Flow: make([]byte, 16), Epoch: 3, Nonce: make([]byte, 16), Proof: make([]byte, 32)}),
	Append(nil, TypeResumed, &Resumed{Nonce: make([]byte, 16), Proof: make([]byte, 32)}),
	Append(nil, TypeReset, &Reason{Code: "E_IDLE"}),
	Append(nil, TypeNotice, &Notice{Text: "a line"}),
	Append(nil, TypeDrain, &Drain{Left: 1000, Text: "soon"}),
	data("some bytes"), data("x"), data(string(make([]byte, 3000))),
	fin(0), fin(10), ackFrame(0, FirstLimit), ackFrame(5, 1<<20), ackFrame(6, 1<<20),
	Ack{Limit: 1 << 20, Nonces: make([][NonceSize]byte, 2)}.Append(nil),
	AppendProbe(nil, TypePing, [8]byte{1}), AppendProbe(nil, TypePong, [8]byte{2}),
	header(TypeSuperseded, 0), append(header(0x90, 3), 1, 2, 3),
}

// mutate changes a copy of a frame, mostly a little.
func mutate(r *rand.Rand, frame []byte) []byte {
	b := bytes.Clone(frame)
	for range r.IntN(4) {
		i := r.IntN(len(b))
		switch r.IntN(8) {
		case 0:
			b[i] = byte(r.Uint32())
		case 1:
			b[i] ^= 1 << r.IntN(8)
		case 2:
			b[i] = [...]byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 3:
			b[r.IntN(min(len(b), HeaderSize))] = byte(r.Uint32())
		case 4:
			b = b[:i+1]
		case 5:
			b = append(b, b[i:]...)
		case 6:
			other := goodFrames[r.IntN(len(goodFrames))]
			copy(b[i:], other[r.IntN(len(other)):])
		case 7:
			b[3] = byte(len(b) - HeaderSize) // what is inside is wrong, not the length
		}
		if len(b) < HeaderSize {
			b = append(b, make([]byte, HeaderSize)...)
		}
	}
	return b
}

// heap is what is alive.
func heap() uint64 {
	var m runtime.MemStats
	for range 2 { // pools let go at the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
