package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Reading has a child, confined like a worker and of a user who owns nothing, read what somebody else has made, such as a
// file system, and takes the text that it makes of it. What goes wrong in the child, also an endless loop and a want of
// memory, is an error here.
//
//	text, err := host.Reading{Args: []string{"sallyportd", "volume"}, Input: f, Timeout: time.Minute}.Run(ctx)
//
// The child calls JoinReading.
type Reading struct {
	Args    []string      // the child's command line, its name first
	Input   *os.File      // open for reading only
	Timeout time.Duration // the child is killed then; default none
	Limit   int           // bytes of the text
	Output  *os.File      // the child's standard output and error; default the caller's own
}

// Run returns the child's text once the child has ended with status 0. Another status is an *ExitError.
func (r Reading) Run(ctx context.Context) ([]byte, error) {
	if r.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("not done in %v", r.Timeout))
		defer stop()
	}
	who, err := lookupAccount(strangerName())
	if err != nil {
		return nil, err
	}
	l, err := newLauncher()
	if err != nil {
		return nil, err
	}
	defer l.close()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd, err := l.start(r.Args, who, r.Output, r.Input, in)
	in.Close()
	if err != nil {
		return nil, err
	}
	kill := func() { cmd.Process.Kill() }
	defer context.AfterFunc(ctx, kill)()
	text := errandText{limit: r.Limit}
	text.read(out, kill)
	err = cmd.Wait()
	switch code := cmd.ProcessState.ExitCode(); {
	case text.err != nil:
		return nil, text.err
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case code != 0:
		return nil, &ExitError{code}
	}
	return text.b, nil
}

// JoinReading makes this process the child of a Reading: it gives up what it has no use for, and returns what it is to read
// and where its text goes.
func JoinReading() (input, text *os.File, err error) {
	var a, b unix.Stat_t
	if unix.Fstat(channelFD, &a) != nil || unix.Fstat(channelFD+1, &b) != nil || b.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, nil, errors.New("not started by a parent")
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, nil, fmt.Errorf("dumpable: %w", err)
	}
	if err := restrict(); err != nil {
		return nil, nil, err
	}
	return os.NewFile(channelFD, "input"), os.NewFile(channelFD+1, "text"), nil
}
