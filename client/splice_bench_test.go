package client

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"sallyport/frame/frametest"
	"sallyport/tests/measure"
)

// BenchmarkSplice passes bytes between a command's socket and a carrier in memory.
func BenchmarkSplice(b *testing.B) {
	const piece = 64 << 10
	b.Run("up", func(b *testing.B) {
		command, appliance := spliced(b)
		measure.Move(b, command, appliance, piece)
	})
	b.Run("down", func(b *testing.B) {
		command, appliance := spliced(b)
		measure.Move(b, appliance, command, piece)
	})
}

// spliced are the far ends of a splice, which lasts as long as the benchmark.
func spliced(b *testing.B) (command net.Conn, appliance *frametest.PipeCarrier) {
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "agent"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	command, err = net.Dial("unix", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	carrier, appliance := frametest.Pipe(0)
	var splicing sync.WaitGroup
	splicing.Go(func() { splice(accepted.(*net.UnixConn), &oneAtATime{Carrier: carrier}, func(error) {}) })
	b.Cleanup(func() {
		command.Close()
		appliance.Close()
		splicing.Wait()
	})
	return command, appliance
}

// TestPourAllocs: what pouring allocates does not depend on how much is poured.
func TestPourAllocs(t *testing.T) {
	poured := func(bytes int64) func() {
		return func() { pour(io.Discard, io.LimitReader(zeros{}, bytes)) }
	}
	little := testing.AllocsPerRun(100, poured(1))
	measure.Allocs(t, little, poured(64<<20))
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
