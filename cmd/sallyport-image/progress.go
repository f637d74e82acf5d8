package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"sallyport/image/deb"
)

// progress says on stderr what is being done, a line a step, with the seconds since the beginning. On a terminal a download
// counts within its line.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time

	mu       sync.Mutex
	shown    time.Time
	counting bool
}

func (e env) progress() *progress {
	f, ok := e.stderr.(*os.File)
	return &progress{out: e.stderr, terminal: ok && term.IsTerminal(int(f.Fd())), began: time.Now()}
}

func (p *progress) step(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.out, "%6.1f s  %s\n", time.Since(p.began).Seconds(), what)
}

func (p *progress) fetching(d deb.Package, done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done >= d.Size {
		p.clear()
		return
	}
	if !p.terminal || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown, p.counting = time.Now(), true
	fmt.Fprintf(p.out, "\r\x1b[K%6.1f s  fetching %s: %d %%", time.Since(p.began).Seconds(), d.Name, 100*done/max(1, d.Size))
}

// clear takes the line that counts away.
func (p *progress) clear() {
	if p.counting {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.counting = false
	}
}
