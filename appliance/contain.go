package appliance

import (
	"context"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"time"

	"sallyport/frame"
	"sallyport/relay"
)

// A panic below a flow, in what it was dialled with or in the transport, ends that flow and nothing else. The flow's own
// goroutine has a recover; the pump and the frames call the conn and the carrier from goroutines of theirs too, and
// under locks, so there a panic becomes an error before it reaches them.

// A panicError is a panic that was caught.
type panicError struct {
	incident string // stands in the log, with the stack
	value    any
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// reason is what the client is told.
func (e *panicError) reason() frame.Reason {
	return frame.Reason{Code: frame.Internal, Sentence: "the appliance met a bug and ended this connection",
		Hint: "tell its administrator: incident " + e.incident, Incident: e.incident}
}

// caught makes an error of what recover returned, and logs it with the stack of the panic; who says whose it was.
func (g *Gateway) caught(v any, who ...any) *panicError {
	e := &panicError{hex.EncodeToString(random()[:4]), v}
	g.Log.Error("panic", append(who, "incident", e.incident, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))...)
	return e
}

// ofPeer is who, for a connection.
func ofPeer(p frame.Peer) []any {
	return []any{"user", p.User, "device", p.Device, "source", p.Remote.Addr(), "transport", p.Transport}
}

// contain makes an error of a panic in the call that defers it.
func (f *flow) contain(err *error) {
	if v := recover(); v != nil {
		*err = f.gateway.caught(v, f.attrs()...)
	}
}

// containedConn is a flow's conn.
type containedConn struct {
	relay.Conn
	flow *flow
}

func (c *containedConn) WaitReadable(ctx context.Context, later func()) (now bool, err error) {
	now = true // a panic is for now
	defer c.flow.contain(&err)
	return c.Conn.WaitReadable(ctx, later)
}

func (c *containedConn) Read(p []byte) (n int, err error) {
	defer c.flow.contain(&err)
	return c.Conn.Read(p)
}

func (c *containedConn) Take(p []byte) (n int, err error) {
	defer c.flow.contain(&err)
	return c.Conn.Take(p)
}

func (c *containedConn) WaitWritable(ctx context.Context) (err error) {
	defer c.flow.contain(&err)
	return c.Conn.WaitWritable(ctx)
}

func (c *containedConn) CloseWrite() (err error) {
	defer c.flow.contain(&err)
	return c.Conn.CloseWrite()
}

// containedCarrier is a flow's carrier. When it is made nobody knows the flow yet.
type containedCarrier struct {
	frame.Carrier
	gateway *Gateway
	peer    frame.Peer
}

func (c *containedCarrier) contain(err *error) {
	if v := recover(); v != nil {
		*err = c.gateway.caught(v, ofPeer(c.peer)...)
	}
}

func (c *containedCarrier) Read(p []byte) (n int, err error) {
	defer c.contain(&err)
	return c.Carrier.Read(p)
}

func (c *containedCarrier) Write(p []byte) (n int, err error) {
	defer c.contain(&err)
	return c.Carrier.Write(p)
}

func (c *containedCarrier) SetReadDeadline(t time.Time) (err error) {
	defer c.contain(&err)
	return c.Carrier.SetReadDeadline(t)
}

func (c *containedCarrier) SetWriteDeadline(t time.Time) (err error) {
	defer c.contain(&err)
	return c.Carrier.SetWriteDeadline(t)
}

func (c *containedCarrier) CloseWrite() (err error) {
	defer c.contain(&err)
	return c.Carrier.CloseWrite()
}

func (c *containedCarrier) Close() (err error) {
	defer c.contain(&err)
	return c.Carrier.Close()
}
