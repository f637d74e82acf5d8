package frametest

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"

	"sallyport/frame"
)

// A Broker joins a client's end of a flow and an appliance's by carriers that may be cut, and keeps the flow.
type Broker struct {
	T         testing.TB
	Buffer    int                                                // of each direction of a carrier; 0: 64 KiB
	Client    frame.Options                                      // of the client's end
	Appliance frame.Options                                      // of the appliance's
	Wrap      func(c, a *PipeCarrier) (client, on frame.Carrier) // spoils a new carrier; may be nil

	mu      sync.Mutex
	current *PipeCarrier // the client's end of the latest carrier
	carried sync.WaitGroup
	kept    *frame.Stream
	forks   int
}

// Bond is what the two ends of one connection have in common.
func Bond() *frame.Bond {
	b := &frame.Bond{User: "ann"}
	var secret [32]byte
	rand.Read(b.Binding[:])
	rand.Read(secret[:])
	b.Secret = func([]byte) ([]byte, error) { return secret[:], nil }
	return b
}

// Open opens a flow that outlives its carriers.
func (b *Broker) Open() (client, appliance *frame.Stream) {
	b.T.Helper()
	client, appliance, err := b.TryOpen()
	if err != nil {
		b.T.Fatal(err)
	}
	return client, appliance
}

// TryOpen is Open over a carrier that may fail. If it fails after the appliance's end was made, that is returned.
func (b *Broker) TryOpen() (client, appliance *frame.Stream, err error) {
	bond := Bond()
	at, on := b.pair()
	ready := make(chan *frame.Stream, 1)
	b.carried.Go(func() {
		in, err := frame.Accept(context.Background(), on, b.Appliance)
		if err != nil {
			close(ready)
			return
		}
		opened := frame.Opened{Flow: make([]byte, 16), Session: make([]byte, 16), Grace: 3600e3}
		if err := in.Keep(bond, opened.Flow, opened.Session); err != nil {
			b.T.Error(err)
		}
		ready <- in.Accept(opened)
		carried(in)
	})
	client, opened, err := frame.Open(context.Background(), at, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, b.Client)
	appliance = <-ready
	if err != nil {
		return nil, appliance, err
	}
	b.kept = appliance
	return client, appliance, client.Keep(bond, opened)
}

// carried returns when the carrier is closed that a request came on.
func carried(in *frame.Incoming) {
	gone := make(chan struct{})
	in.Watch(context.Background(), func() { close(gone) })
	<-gone
}

// pair makes a carrier.
func (b *Broker) pair() (client, appliance frame.Carrier) {
	c, a := Pipe(b.Buffer)
	b.mu.Lock()
	b.current = c
	b.mu.Unlock()
	if b.Wrap != nil {
		return b.Wrap(c, a)
	}
	return c, a
}

// Cut breaks the latest carrier: what is on its way is lost.
func (b *Broker) Cut() {
	b.mu.Lock()
	c := b.current
	b.mu.Unlock()
	c.Break()
}

// Offer makes a new carrier and lets the appliance serve it. It returns the client's end.
func (b *Broker) Offer() (frame.Carrier, *frame.Bond) {
	bond := Bond()
	c, a := b.pair()
	b.carried.Go(func() { b.Serve(a, bond) })
	return c, bond
}

// Serve is what an appliance does with a carrier that resumes.
func (b *Broker) Serve(a frame.Carrier, bond *frame.Bond) {
	in, err := frame.Accept(context.Background(), a, b.Appliance)
	if err != nil {
		return // it was cut
	}
	if in.Resume == nil {
		in.Refuse(frame.Refuse("E_USAGE", "only RESUME is expected here", ""))
		return
	}
	switch done, end := b.kept.Attach(in, bond, func() error { return nil }); done {
	case frame.Answered:
	case frame.Attached:
		carried(in)
	case frame.LostRace:
		in.Supersede()
	case frame.Over:
		in.Refuse(end)
	case frame.Forked:
		b.mu.Lock()
		b.forks++
		b.mu.Unlock()
		fallthrough
	default:
		in.Refuse(frame.Refuse(frame.ResumeUnknown, "there is no such flow", ""))
	}
}

// Hold resumes the client's flow whenever it is detached, until it has ended, and returns how often.
func (b *Broker) Hold(ctx context.Context, client *frame.Stream) (resumed int) {
	for {
		if _, end := client.Detached(ctx); end != nil {
			return resumed
		}
		c, bond := b.Offer()
		err := client.Resume(ctx, c, bond, frame.WhyLost)
		var refusal *frame.StreamError
		switch {
		case err == nil:
			resumed++
		case errors.As(err, &refusal) && refusal.Remote:
			b.T.Errorf("resume: %v", err)
			client.Reset(refusal.Reason)
			return resumed
		}
	}
}

// Forks is how often a key was in two places.
func (b *Broker) Forks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.forks
}

// Wait returns when all carriers are closed.
func (b *Broker) Wait() { b.carried.Wait() }
