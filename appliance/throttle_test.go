package appliance

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// plenty is a conn that takes and gives as fast as it is asked.
type plenty struct{ took int }

func (p *plenty) Take(b []byte) (int, error)                         { p.took += len(b); return len(b), nil }
func (p *plenty) WaitWritable(context.Context) error                 { return nil }
func (p *plenty) WaitReadable(context.Context, func()) (bool, error) { return true, nil }
func (p *plenty) Read(b []byte) (int, error)                         { return len(b), nil }
func (p *plenty) Buffered() int                                      { return 0 }
func (p *plenty) CloseWrite() error                                  { return nil }
func (p *plenty) Close() error                                       { return nil }

// TestThrottle: each direction moves what it may, neither the other's, and a keystroke does not wait.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, long = 1 << 20, 20 * time.Second
		c := throttle(new(plenty), rate)
		slab := make([]byte, 64<<10)
		move := func(wait func() error, piece func() (int, error)) (bytes int) {
			for begun := time.Now(); time.Since(begun) < long; {
				if err := wait(); err != nil {
					t.Fatal(err)
				}
				n, err := piece()
				if err != nil {
					t.Fatal(err)
				}
				bytes += n
			}
			return bytes
		}
		up := move(func() error { return c.WaitWritable(t.Context()) }, func() (int, error) { return c.Take(slab) })
		down := move(func() error { _, err := c.WaitReadable(t.Context(), nil); return err }, func() (int, error) { return c.Read(slab) })
		for way, bytes := range map[string]int{"up": up, "down": down} {
			if want := int(rate * long.Seconds()); bytes < want*98/100 || bytes > want*102/100+2*len(slab) {
				t.Errorf("%s: %d bytes in %v, want about %d", way, bytes, long, want)
			}
		}
		time.Sleep(time.Second)
		begun := time.Now()
		for range 100 {
			if n, err := c.Take([]byte("k")); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("a hundred keystrokes waited for %v", waited)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		c.Take(make([]byte, 1<<20))
		cancel(io.ErrClosedPipe)
		if err := c.WaitWritable(ctx); err != io.ErrClosedPipe {
			t.Errorf("the end of the flow: %v", err)
		}
	})
}

// TestThrottleOfNobody: no limit costs nothing.
func TestThrottleOfNobody(t *testing.T) {
	conn := new(plenty)
	if c := throttle(conn, 0); c != conn {
		t.Errorf("it is a %T", c)
	}
}
