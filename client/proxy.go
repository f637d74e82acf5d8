package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sallyport/frame"
	"sallyport/relay"
)

// Proxy opens a flow and joins it to stdin and stdout until both directions have ended, or the flow has. The end of
// one direction is passed on while the other lives; for that stdout is closed if it can be.
func Proxy(ctx context.Context, d Dialer, req frame.OpenRequest, stdin io.Reader, stdout io.Writer) error {
	flow, _, err := d.Open(ctx, req)
	if err != nil {
		return err
	}
	closeWrite := func() error { return closeOf(stdout) }
	closeAll := func() error { return errors.Join(closeOf(stdin), closeOf(stdout)) }
	return join(ctx, flow, relay.Join(stdin, stdout, closeWrite, closeAll))
}

// join relays between a flow and what stands beside it, and closes both.
func join(ctx context.Context, flow Flow, c relay.Conn) error {
	defer c.Close()
	err := relay.Pump(ctx, flow, c, relay.Options{}).Err
	if err == nil {
		return flow.Close()
	}
	var local *relay.ConnError
	switch {
	case errors.As(err, &local):
		reason := frame.Reason{Code: frame.Closed, Sentence: fmt.Sprintf("the local side failed: %v", local.Err)}
		flow.Reset(reason)
		return &frame.StreamError{Reason: reason}
	case ctx.Err() != nil:
		flow.Reset(frame.Reason{Code: frame.Closed, Sentence: "the client was stopped"})
	default:
		flow.Close()
	}
	return err
}

func closeOf(v any) error {
	if c, ok := v.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
