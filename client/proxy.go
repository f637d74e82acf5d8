package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sallyport/frame"
	"sallyport/relay"
)

// stopGrace is what a flow gets to end in order after its command was told to stop, or nobody reads its stdout any more:
// ssh closes our stdin and stdout and sends SIGHUP in the same breath, and its last words should arrive.
const stopGrace = time.Second

// Proxy opens a flow and joins it to stdin and stdout until both directions have ended, or the flow has. The end of
// one direction is passed on while the other lives; for that stdout is closed if it can be. Somebody who closes the other
// end of stdout has left: what still comes for them is dropped, and the end of stdin is waited for a moment.
func Proxy(ctx context.Context, d Dialer, req frame.OpenRequest, stdin io.Reader, stdout io.Writer) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	opening := ctx
	ctx, stop := delayed(ctx, stopGrace)
	defer stop()
	closeWrite := func() error { return closeOf(stdout) }
	closeAll := func() error { return errors.Join(closeOf(stdin), closeOf(stdout)) }
	c := relay.Join(stdin, &audience{stdout, leave}, closeWrite, closeAll)
	first := &First{Conn: c}
	flow, _, err := d.Open(opening, req, first)
	if err != nil {
		return err
	}
	return first.join(ctx, flow)
}

// An audience is a stdout that may not be read to its end. Who leaves it early is no failure of the flow, and does not
// miss what comes later.
type audience struct {
	io.Writer
	left func()
}

func (a *audience) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	if err != nil && nobodyReads(err) {
		a.left()
		return len(p), nil
	}
	return n, err
}

// delayed is a context that ends some time after ctx has.
func delayed(ctx context.Context, by time.Duration) (later context.Context, stop func()) {
	later, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() { time.AfterFunc(by, func() { cancel(context.Cause(ctx)) }) })
	return later, func() {
		unhook()
		cancel(nil)
	}
}

// join relays between a flow and what stands beside it, and closes both.
func join(ctx context.Context, flow Flow, c relay.Conn) error {
	defer c.Close()
	err := relay.Pump(ctx, flow, c, relay.Options{}).Err
	if err == nil {
		return flow.Close()
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	c.WaitWritable(flush) // what came before the end is still being written
	var local *relay.ConnError
	switch {
	case errors.As(err, &local):
		return failedHere(flow, local.Err)
	case ctx.Err() != nil:
		flow.Reset(frame.Reason{Code: frame.Closed, Sentence: "the client was stopped"})
	default:
		flow.Close()
	}
	return err
}

// failedHere ends a flow whose local side has failed.
func failedHere(flow Flow, err error) error {
	reason := frame.Reason{Code: frame.Closed, Sentence: fmt.Sprintf("the local side failed: %v", err)}
	flow.Reset(reason)
	return &frame.StreamError{Reason: reason}
}

func closeOf(v any) error {
	if c, ok := v.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
