package files

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A pattern is a large file without the memory: each 64 KiB differ from all others.
type pattern struct{ block []byte }

func newPattern() *pattern { return &pattern{noise(64<<10, 11)} }

// ReadAt implements io.ReaderAt. It gives what is left of a block.
func (p *pattern) ReadAt(b []byte, at int64) (int, error) {
	n := copy(b, p.block[at%int64(len(p.block)):])
	for i, first := 0, at; i < n; i++ {
		if at := first + int64(i); at%int64(len(p.block)) < 8 {
			b[i] = byte(at / int64(len(p.block)) >> (8 * (at % 8)))
		}
	}
	return n, nil
}

func (p *pattern) sum(size int64) string {
	h := sha256.New()
	io.Copy(h, io.NewSectionReader(p, 0, size))
	return hex.EncodeToString(h.Sum(nil))
}

// size is how much a large transfer is: 2 GiB where there is time.
func size() int64 {
	if os.Getenv("SALLYPORT_SOAK") != "" {
		return 2 << 30
	}
	return 256 << 20
}

// mostMemory is what a large transfer may add to the process.
const mostMemory = 64 << 20

// watchMemory measures how much the process grows until the answer is asked for.
func watchMemory() func() int64 {
	held := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.Sys - m.HeapReleased)
	}
	runtime.GC()
	before := held()
	var most atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			most.Store(max(most.Load(), held()))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return most.Load() - before
	}
}

// TestLarge: a large file goes up and comes down, interrupted at the half, and the process does not grow with it.
func TestLarge(t *testing.T) {
	g := newTarget(t)
	content, size := newPattern(), size()
	want := content.sum(size)
	grown := watchMemory()
	up := request{Op: "upload", Path: []byte(g.path("f")), Size: size, Modified: 1_700_000_000_000, Clash: clashRefuse}
	p := begin(t, g, "root", "upload")
	begun := time.Now()
	if _, code := p.upload(up, content, size/2); code != "" {
		t.Fatal(code)
	}
	p.leave()
	p = begin(t, g, "root", "upload", "download")
	if a, code := p.upload(up, content, 0); code != "" || a["sha256"] != want {
		t.Fatalf("upload: %v %s", a, code)
	}
	t.Logf("%d MiB up in %v, half of them read again", size>>20, time.Since(begun))
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], "from:") {
		t.Errorf("recorded %q", got)
	}
	begun = time.Now()
	half := &counted{h: sha256.New()}
	down := request{Op: "download", Path: []byte(g.path("f"))}
	if _, code := p.download(down, half, size/2); code != "" {
		t.Fatal(code)
	}
	p.leave()
	p = begin(t, g, "root", "download")
	down.From, down.SHA256 = half.n, hex.EncodeToString(half.h.Sum(nil))
	a, code := p.download(down, half, 0)
	if code != "" || a["sha256"] != want || hex.EncodeToString(half.h.Sum(nil)) != want {
		t.Fatalf("download: %v %s", a, code)
	}
	t.Logf("%d MiB down in %v, half of them read twice", size>>20, time.Since(begun))
	if got := grown(); got > mostMemory {
		t.Errorf("the process has grown by %d MiB", got>>20)
	} else {
		t.Logf("the process has grown by %d MiB", got>>20)
	}
}

// A counted hash knows how much it has.
type counted struct {
	h hash.Hash
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.h.Write(p)
}

// BenchmarkTransfer measures both directions, and OpenSSH's own sftp beside them.
func BenchmarkTransfer(b *testing.B) {
	const size = 256 << 20
	g := newTarget(b)
	content := newPattern()
	p := begin(b, g, "root", "upload", "download")
	b.Run("up", func(b *testing.B) {
		b.SetBytes(size)
		for i := range b.N {
			up := request{Op: "upload", Path: []byte(g.path("f")), Size: size, Modified: int64(i), Clash: clashReplace}
			if _, code := p.upload(up, content, 0); code != "" {
				b.Fatal(code)
			}
		}
	})
	b.Run("down", func(b *testing.B) {
		b.SetBytes(size)
		for range b.N {
			if _, code := p.download(request{Op: "download", Path: []byte(g.path("f"))}, io.Discard, 0); code != "" {
				b.Fatal(code)
			}
		}
	})
	port := g.addr[strings.LastIndexByte(g.addr, ':')+1:]
	for _, c := range []struct{ name, command string }{
		{"sftp-up", fmt.Sprintf("put %s %s", g.path("f"), g.path("h"))},
		{"sftp-down", fmt.Sprintf("get %s /dev/null", g.path("f"))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			for range b.N {
				cmd := exec.Command("sftp", "-q", "-b", "-", "-i", g.identity, "-P", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1")
				cmd.Stdin = strings.NewReader(c.command + "\n")
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}
