package frame

import (
	"context"
	"testing"
	"time"

	"sallyport/tests/measure"
)

// codec are the frames of which a flow in use consists, with what makes and reads them; of DATA that is the header.
var codec = []struct {
	name   string
	append func(b []byte) []byte
	parse  func(payload []byte) error
}{
	{"DATA", Header{TypeData, fullData}.Append, func([]byte) error { return nil }},
	{"ACK", Ack{Acked: 1 << 40, Limit: 1 << 41}.Append, func(p []byte) error { _, err := ParseAck(p); return err }},
	{"FIN", func(b []byte) []byte { return appendFin(b, 1<<40) }, func(p []byte) error { _, err := parseFin(p); return err }},
	{"PING", func(b []byte) []byte { return AppendProbe(b, TypePing, [8]byte{1}) }, func([]byte) error { return nil }},
	{"PONG", func(b []byte) []byte { return AppendProbe(b, TypePong, [8]byte{1}) }, func([]byte) error { return nil }},
}

// BenchmarkCodec makes one frame, and reads one.
func BenchmarkCodec(b *testing.B) {
	for _, c := range codec {
		frame := c.append(nil)
		b.Run(c.name+"/append", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				frame = c.append(frame[:0])
			}
		})
		b.Run(c.name+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseHeader(frame); err != nil {
					b.Fatal(err)
				}
				if err := c.parse(frame[HeaderSize:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestCodecAllocs(t *testing.T) {
	for _, c := range codec {
		t.Run(c.name, func(t *testing.T) {
			frame := c.append(nil)
			measure.Allocs(t, 0, func() {
				frame = c.append(frame[:0])
				if _, err := ParseHeader(frame); err != nil {
					t.Fatal(err)
				}
				if err := c.parse(frame[HeaderSize:]); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// incoming are frames that may come again and again.
var incoming = []struct {
	name  string
	frame []byte
}{
	{"DATA-65160", append(Header{TypeData, fullData}.Append(nil), make([]byte, fullData)...)},
	{"DATA-1", append(Header{TypeData, 1}.Append(nil), 'x')},
	{"ACK", Ack{Limit: FirstLimit}.Append(nil)},
	{"PING", AppendProbe(nil, TypePing, [8]byte{1})},
	{"PONG", AppendProbe(nil, TypePong, [8]byte{1})},
}

// BenchmarkReader reads a frame and acts on it; what it makes the writer send goes nowhere.
func BenchmarkReader(b *testing.B) {
	for _, in := range incoming {
		b.Run(in.name, func(b *testing.B) {
			read := reader(b, in.frame)
			b.SetBytes(int64(len(in.frame)))
			b.ReportAllocs()
			for b.Loop() {
				read()
			}
		})
	}
}

func TestReaderAllocs(t *testing.T) {
	for _, in := range incoming {
		t.Run(in.name, func(t *testing.T) { measure.Allocs(t, 0, reader(t, in.frame)) })
	}
}

// reader is a function that reads the frame once, as a flow's reader does.
func reader(t testing.TB, frame []byte) func() {
	s := newStream(&endless{frame: frame}, Options{})
	s.reading, s.taker, s.limit = true, swallow{}, MaxOffset
	t.Cleanup(s.abandon)
	at, ctx := s.at, t.Context()
	return func() {
		h, err := ReadHeader(at, &s.head)
		if err == nil {
			err = s.frame(ctx, at, h)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// endless is a carrier on which a frame comes again and again.
type endless struct {
	frame []byte
	at    int // of the next byte
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.frame[e.at:])
	e.at = (e.at + n) % len(e.frame)
	return n, nil
}

func (e *endless) Write(p []byte) (int, error)      { return len(p), nil }
func (e *endless) SetReadDeadline(time.Time) error  { return nil }
func (e *endless) SetWriteDeadline(time.Time) error { return nil }
func (e *endless) CloseWrite() error                { return nil }
func (e *endless) Close() error                     { return nil }

// swallow is a next hop that takes everything.
type swallow struct{}

func (swallow) Take(p []byte) (int, error)             { return len(p), nil }
func (swallow) WaitWritable(ctx context.Context) error { return ctx.Err() }
func (swallow) CloseWrite() error                      { return nil }
