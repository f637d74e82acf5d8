package appliance

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"sallyport/frame"
	"sallyport/relay"
)

// What people measure their way to the appliance by: a flow of the protocol policy.Bench leads to one of these services
// instead of to a target. It is a flow like any other in all besides; nothing is dialled for it.
const (
	benchEcho   = "echo"   // what comes goes back
	benchSink   = "sink"   // what comes is taken
	benchSource = "source" // zeros go out until the client ends its direction
)

// A person has one flow that measures, and one that ends while it begins.
const maxBenchOfOne = 2

// benches are the people who measure, or have just done. Its zero value is nobody.
type benches struct {
	mu     sync.Mutex
	people map[string]*measurer
}

// A measurer is somebody who measures.
type measurer struct {
	flows  int
	budget budget
}

// open returns a service for a person, or says why it cannot be had now.
func (b *benches) open(service, user string, limits Limits) (relay.Conn, error) {
	if !slices.Contains([]string{benchEcho, benchSink, benchSource}, service) {
		return nil, frame.Refuse("E_NAME", fmt.Sprintf("there is no measurement %q: echo, sink or source", frame.Clip(service, 32)),
			"command and appliance may be of different versions")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
	m := b.people[user]
	switch {
	case (m == nil || m.flows == 0) && b.measuring() >= limits.Bench:
		return nil, &frame.StreamError{Reason: frame.Reason{Code: "E_BUSY", Sentence: "others measure their way to the appliance now, as many as may at once",
			Hint: "try again in a minute", Retry: 30000}}
	case m != nil && m.flows >= maxBenchOfOne:
		return nil, frame.Refuse("E_LIMIT", "you measure already", "wait until that has ended")
	case m == nil:
		m = &measurer{budget: newBudget(limits.BenchRate)}
		if b.people == nil {
			b.people = map[string]*measurer{}
		}
		b.people[user] = m
	}
	m.flows++
	return &benchConn{service: service, budget: m.budget, came: make(chan struct{}, 1), went: make(chan struct{}, 1),
		leave: sync.OnceFunc(func() { b.leave(user) })}, nil
}

func (b *benches) leave(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.people[user].flows--
}

// measuring is how many people have flows that measure. The caller holds mu.
func (b *benches) measuring() (n int) {
	for _, m := range b.people {
		if m.flows > 0 {
			n++
		}
	}
	return n
}

// forget drops those who have not measured for so long that they may move as much as anybody new: who leaves and comes
// back at once has what is left. The caller holds mu.
func (b *benches) forget() {
	for user, m := range b.people {
		if m.flows == 0 && m.budget.full() {
			delete(b.people, user)
		}
	}
}

// A benchConn is a service as a relay's conn.
type benchConn struct {
	service    string
	budget     budget
	came, went chan struct{} // have a token when an echo has got bytes or the client's end, has given bytes back
	leave      func()

	mu    sync.Mutex
	echo  []byte // to go back, maxEcho bytes at most
	ended bool   // the client has ended its direction
}

// maxEcho is what an echo holds: round trips are of few bytes.
const maxEcho = 4 << 10

// Take implements relay.Taker.
func (c *benchConn) Take(p []byte) (int, error) {
	if c.service != benchEcho {
		return c.budget.take(len(p)), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.budget.take(min(len(p), maxEcho-len(c.echo)))
	c.echo = append(c.echo, p[:n]...)
	signal(c.came)
	return n, nil
}

// WaitWritable implements relay.Taker.
func (c *benchConn) WaitWritable(ctx context.Context) error {
	full := func() bool { return len(c.echo) == maxEcho }
	if err := c.waitWhile(ctx, full, c.went); err != nil {
		return err
	}
	return c.budget.wait(ctx, budgetPiece)
}

// CloseWrite implements relay.Taker.
func (c *benchConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	signal(c.came)
	return nil
}

// WaitReadable implements relay.Source.
func (c *benchConn) WaitReadable(ctx context.Context, _ func()) (bool, error) {
	silent := func() bool { return c.service != benchSource && len(c.echo) == 0 && !c.ended }
	if err := c.waitWhile(ctx, silent, c.came); err != nil {
		return true, err
	}
	return true, c.budget.wait(ctx, budgetPiece)
}

// Read implements relay.Source.
func (c *benchConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.service == benchSource && !c.ended:
		n := c.budget.take(len(p))
		clear(p[:n]) // another flow's bytes may have been there
		return n, nil
	case len(c.echo) > 0:
		n := c.budget.take(min(len(p), len(c.echo)))
		copy(p, c.echo[:n])
		c.echo = append(c.echo[:0], c.echo[n:]...)
		signal(c.went)
		return n, nil
	case c.ended:
		return 0, io.EOF
	}
	return 0, nil
}

// Buffered implements relay.Source.
func (c *benchConn) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.echo)
}

// Close implements relay.Conn. What is blocked returns because the relay's context has ended.
func (c *benchConn) Close() error {
	c.leave()
	return nil
}

// waitWhile waits while a state lasts whose end is signalled.
func (c *benchConn) waitWhile(ctx context.Context, state func() bool, over <-chan struct{}) error {
	for {
		c.mu.Lock()
		lasts := state()
		c.mu.Unlock()
		if !lasts {
			return nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signal leaves a token for whoever waits, if there is none.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
