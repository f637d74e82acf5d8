package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// An Errand sends a child, confined like a worker, over one NIC for a text: the configuration, before there is a worker.
//
//	text, err := host.Errand{Args: []string{"sallyportd", "fetch", "--cloud", "azure"}, Interface: "eth0"}.Run(ctx)
//
// The child runs as a user that owns nothing, not the state of a worker either. It calls Join, asks for the link by the name of ErrandLink and writes the text to ErrandText. It has the NIC for
// itself; when it has ended the NIC is where it was, down and without addresses.
type Errand struct {
	Args      []string      // the child's command line, its name first
	Interface string        // the NIC's name
	RunDir    string        // as a Parent's, which cannot run at the same time; default /run/sallyport
	Timeout   time.Duration // the child is killed then; default none
	Limit     int           // bytes of the text; default 1 MiB
	Output    *os.File      // the child's standard output and error; default the caller's own
	Log       *slog.Logger  // default: slog.Default
}

// ErrandLink is the name of an Errand's link.
const ErrandLink = "errand"

// ErrandText is, in the child, what the text is written to.
func ErrandText() *os.File { return os.NewFile(channelFD+1, "text") }

// An errandText is what the child has written so far, up to the limit.
type errandText struct {
	b     []byte
	limit int
	err   error
}

// read reads until the child has ended, or has written too much.
func (t *errandText) read(f *os.File, tooMuch func()) {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if t.b = append(t.b, buf[:n]...); len(t.b) > t.limit {
			t.err = fmt.Errorf("its text has more than %d bytes", t.limit)
			tooMuch()
			return
		}
		if err != nil { // the end, or that of the pipe
			return
		}
	}
}

// Run returns the child's text once the child has ended with status 0. Another status is an *ExitError.
func (e Errand) Run(ctx context.Context) (text []byte, err error) {
	p := Parent{Log: e.Log, RunDir: e.RunDir, Args: e.Args, Output: e.Output}.withDefaults()
	if e.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, e.Timeout, fmt.Errorf("not done in %v", e.Timeout))
		defer stop()
	}
	lock, err := lockRunDir(p.RunDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		lock.Close()
		if back := Release(p.RunDir, ErrandLink); back != nil && !errors.Is(back, os.ErrNotExist) {
			err = errors.Join(err, back)
		}
	}()
	l, err := newLauncher()
	if err != nil {
		return nil, err
	}
	defer l.close()
	plan := Plan{Links: []LinkPlan{{VNet: ErrandLink, Kind: Packet, Interface: e.Interface, DHCP: true}}, RunAs: strangerName()}
	p.Plan = func() (Plan, error) { return plan, nil }
	s := newSupervisor(p, l, &dog{log: p.Log})
	s.abrupt = true
	if plan, err := s.compute(); err != nil {
		return nil, err
	} else if s.held, err = s.prepare(plan, nil); err != nil {
		return nil, err
	}
	defer func() { s.held.closeExcept(&holding{}) }()
	return s.fetch(ctx, cmp.Or(e.Limit, 1<<20))
}

// fetch runs the child to its end.
func (s *supervisor) fetch(ctx context.Context, limit int) ([]byte, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s.extra = []*os.File{in}
	text, done := errandText{limit: limit}, make(chan struct{})
	go func() {
		defer close(done)
		text.read(out, stop)
	}()
	code, err := s.runWorker(ctx)
	in.Close()
	<-done
	switch {
	case err != nil:
		return nil, err
	case text.err != nil:
		return nil, text.err
	case ctx.Err() != nil && code != 0:
		return nil, context.Cause(ctx)
	case code != 0:
		return nil, &ExitError{code}
	}
	return text.b, nil
}
