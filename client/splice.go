package client

import (
	"io"
	"net"
	"runtime"
	"sync"

	"sallyport/frame"
)

// splice passes bytes between a command and a carrier until both directions have ended. The end of one direction is
// passed on while the other lives. What breaks the carrier is given to broke before the command can notice.
func splice(command *net.UnixConn, carrier *oneAtATime, broke func(error)) {
	defer carrier.Close()
	var up sync.WaitGroup
	defer up.Wait()
	up.Go(func() {
		switch readErr, writeErr := pour(carrier, command); {
		case readErr == io.EOF:
			carrier.CloseWrite()
		case readErr != nil:
			carrier.Close()
		case writeErr != nil: // the reason may be on its way down
			io.Copy(io.Discard, command)
		}
	})
	readErr, writeErr := pour(command, carrier)
	switch {
	case readErr == io.EOF:
		command.CloseWrite()
		return
	case writeErr != nil: // the command has gone
		carrier.Close()
	default:
		broke(readErr)
	}
	command.Close()
}

// oneAtATime is a carrier that several goroutines may end.
type oneAtATime struct {
	frame.Carrier
	mu sync.Mutex
}

func (c *oneAtATime) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Carrier.CloseWrite()
}

func (c *oneAtATime) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Carrier.Close()
}

// Between pieces a direction holds a small buffer, and a large one only while the pieces fill it.
const (
	smallPour = 2 << 10
	largePour = 64 << 10
)

var largePours = sync.Pool{New: func() any { return new([largePour]byte) }}

// pour copies until either side fails, and says which.
func pour(dst io.Writer, src io.Reader) (readErr, writeErr error) {
	small := make([]byte, smallPour)
	b := small
	var large *[largePour]byte
	release := func() {
		if large != nil {
			largePours.Put(large)
			large = nil
		}
		b = small
	}
	defer release()
	for {
		n, err := src.Read(b)
		if n > 0 {
			if _, err := dst.Write(b[:n]); err != nil {
				return nil, err
			}
			if large != nil {
				runtime.Gosched() // who types goes by this process too
			}
		}
		switch {
		case err != nil:
			return err, nil
		case large == nil && n == len(b):
			large = largePours.Get().(*[largePour]byte)
			b = large[:]
		case large != nil && n < smallPour:
			release()
		}
	}
}
