package frame

import (
	"cmp"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Options of a flow. The zero value is good.
type Options struct {
	Governor *Governor    // of the room granted to peers; nil: no bound but MaxRoom
	MaxRoom  int          // most bytes that one flow may be allowed ahead of what was taken; default 8 MiB
	MaxHeld  int          // most bytes of slabs that one flow keeps until they are acknowledged; default 8 MiB
	Notice   func(Notice) // receives lines for the person; may be nil
	Drain    func(Drain)  // is told that the appliance is about to stop; may be nil
	Skipped  func(Type)   // is told of each optional frame that is not known here; may be nil

	// Early sends what need not wait for the appliance's answer: Open calls it in a goroutine of its own meanwhile, and
	// ends ctx when the answer has come. It may be nil.
	Early func(ctx context.Context, s *Stream)

	// LocalAddr and RemoteAddr are what the Stream's methods of these names return; default: the protocol's name.
	LocalAddr, RemoteAddr net.Addr
}

func (o Options) withDefaults() Options {
	o.MaxRoom = cmp.Or(o.MaxRoom, 8<<20)
	o.MaxHeld = cmp.Or(o.MaxHeld, maxReplay)
	if o.Skipped == nil {
		o.Skipped = func(Type) {}
	}
	o.LocalAddr = cmp.Or(o.LocalAddr, net.Addr(addr{}))
	o.RemoteAddr = cmp.Or(o.RemoteAddr, net.Addr(addr{}))
	return o
}

type addr struct{}

func (addr) Network() string { return "sallyport" }
func (addr) String() string  { return "sallyport" }

const (
	maxReplay  = 8 << 20               // bytes of slabs that one direction holds until they are acknowledged, unless Options say less
	freeReplay = 128 << 10             // bytes of them that need no leave of the governor: two slabs at least
	fairRoom   = 64 << 10              // the room that a flow keeps when the governor has little left
	ackAt      = 32 << 10              // bytes taken after which the peer is told at once
	ackDelay   = 20 * time.Millisecond // after which it is told in any case
	farewell   = 2 * time.Second       // how long a flow that is over waits for the peer to hang up
	lastWrites = 5 * time.Second       // how long the last frame of a flow may take to leave
	maxFrames  = 256 << 10             // bytes of frames around what the peer may still send, read by a flow that is over
	maxPongs   = 8                     // PINGs that may wait for an answer; more are dropped
	maxExtra   = 8 << 10               // bytes of other frames that may wait for a peer that does not read
	closeGrace = 10 * time.Second      // how long Close goes on sending what was written before
)

// A Stream is one end of a flow. It is a net.Conn with CloseWrite, and a relay's stream: Reserve and Commit send,
// Deliver receives. Receive by Read or by Deliver, not by both.
//
// After the flow has ended every call returns why: a *StreamError whose Remote says which side decided.
type Stream struct {
	opts            Options
	send            sync.Mutex       // held by Write, so that what one call writes stays together
	head            [HeaderSize]byte // the reader's
	short           [16]byte         // the reader's: ACK, FIN, PING and PONG cost no memory of their own
	readBy, writeBy deadline

	mu      sync.Mutex
	changed chan struct{} // closed when something below changes; nil while nobody waits
	err     error         // why the flow ended
	at      *attachment   // the carrier; nil while the flow is detached
	leaving int           // carriers that have lost the flow and on which somebody is at work still
	reading bool          // somebody has the reader's role, or had it when it was cut off
	orphan  bool          // the reader was cut off, perhaps within a frame: nothing more can be read
	gone    bool          // the flow has ended and its carrier is closed
	done    chan struct{} // closed when the flow has ended

	resumption

	// Sending.
	replay                       queue  // unacknowledged slabs, the sent ones first
	unsent                       int    // index of the first slab in replay that was not sent
	held                         int    // bytes of slabs in replay and lent
	covered                      int    // bytes of held that the governor has reserved
	lent                         *slab  // by Reserve
	spare                        *slab  // lent before and not used
	large                        bool   // the source has filled a slab: lend large ones
	committed                    uint64 // offset after the last byte in replay
	sent                         uint64 // offset after the last byte that was given to the carrier
	reached                      uint64 // the most that sent ever was, and one more for FIN
	acked                        uint64 // offset after the last byte that the peer's next hop took, and one more for FIN
	sendLimit                    uint64
	finQueued, finSent, finAcked bool

	// Receiving.
	taker             Taker           // Deliver's; nil while Read is used
	delivering        bool            // Deliver is under way
	balked            error           // of taker
	drainCtx          context.Context // of drain, if that was ever needed; ends with Deliver
	stopDrain         func()
	spill             queue  // arrived and not taken
	received          uint64 // offset after the last byte that arrived
	taken             uint64 // offset after the last byte that the next hop took, and one more for FIN
	told              uint64 // taken, as the peer knows it
	limit             uint64 // as the peer knows it
	room              int    // that the next limit allows beyond taken
	used              int    // bytes taken since room last grew
	draining          bool   // somebody takes from spill
	taking            bool   // and has the next hop at work
	deaf              bool   // Close was called: nothing more is read
	wasted            bool   // bytes came that nobody will take
	finSeen, finTaken bool

	// What the writer owes.
	writing  bool
	ackDue   bool
	ackTime  *time.Timer // runs ackLate, if ackArmed
	ackArmed bool
	pongs    [][8]byte
	extra    []byte  // whole frames to go before anything else: OPEN, OPENED, NOTICE, DRAIN
	reset    *Reason // to be sent
	closing  bool    // the carrier's direction is to be closed when nothing else is due
	out      []byte  // the writer's own buffer
	writer   func()  // write, bound once: starting it costs no memory

	grace *time.Timer // ends what Close has not ended
}

// A Taker is the next hop of bytes that have arrived; relay.Taker says more.
type Taker = interface {
	Take(p []byte) (int, error)
	WaitWritable(ctx context.Context) error
	CloseWrite() error
}

func newStream(c Carrier, o Options) *Stream {
	s := &Stream{
		at: newAttachment(c), opts: o.withDefaults(), done: make(chan struct{}),
		sendLimit: FirstLimit,
		limit:     FirstLimit, room: FirstLimit,
	}
	s.writer = s.write
	s.born = time.Now()
	return s
}

// wake lets those who wait look again. The caller holds mu.
func (s *Stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// wait returns a channel that is closed when something changes. The caller holds mu and looks again after it.
func (s *Stream) wait() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// finished says that both directions have ended and the peer knows it. The caller holds mu.
func (s *Stream) finished() bool { return s.finAcked && s.finTaken && s.told == s.taken }

// end makes err the reason why the flow ended, unless there is one already. The caller holds mu.
func (s *Stream) end(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	close(s.done)
	for s.replay.len() > 0 {
		s.drop(s.replay.pop())
	}
	s.unsent = 0
	s.opts.Governor.give(s.room - FirstLimit)
	s.room = FirstLimit
	if s.spare != nil {
		s.spare.release()
		s.spare = nil
	}
	for _, t := range []*time.Timer{s.ackTime, s.grace, s.stall, s.stuck} {
		if t != nil {
			t.Stop()
		}
	}
	s.wake()
}

// drop frees a slab of replay, at once or when the writer is done with it. The caller holds mu.
func (s *Stream) drop(b *slab) {
	s.letGo(len(b.mem))
	if b.pinned {
		b.dropped = true
		return
	}
	b.release()
}

// Reset ends the flow and tells the peer why. It returns when the peer has hung up, or after a few seconds.
// After the flow has ended it does nothing.
func (s *Stream) Reset(r Reason) {
	s.mu.Lock()
	if s.err == nil && !s.finished() {
		s.fail(&StreamError{Reason: r})
	}
	mine := s.takeRole()
	s.mu.Unlock()
	if mine {
		s.hangUp()
	}
}

// takeRole says whether the reader's role was free, or was left by one that was cut off, and takes it for hangUp.
// The caller holds mu.
func (s *Stream) takeRole() bool {
	mine := !s.reading || s.orphan
	s.reading, s.orphan = true, false
	return mine
}

// closedHere is what a peer is told that sends to a flow which was closed.
func closedHere() *StreamError { return Refuse(Closed, "the other side has closed the flow", "") }

// fail ends the flow for a reason of ours and has the writer tell the peer. The caller holds mu.
func (s *Stream) fail(err error) {
	if s.err != nil {
		return
	}
	reason, _ := ReasonOf(err)
	s.end(err)
	s.reset = ptr(reason.clipped())
	if s.at != nil {
		s.at.SetWriteDeadline(time.Now().Add(lastWrites))
	}
	s.start()
}

// hangUp waits until the writer has sent what it owes and the peer has hung up, then closes the carrier. Closing
// earlier could destroy frames that the peer has not read yet. The caller has the reader's role.
func (s *Stream) hangUp() {
	s.mu.Lock()
	at := s.at
	if s.writing && at != nil {
		// The peer may have stopped reading: a write must not hold us for ever.
		at.SetWriteDeadline(time.Now().Add(lastWrites))
	}
	s.rest()
	last := at != nil && at.last
	if s.taker != nil {
		s.discard()
	}
	s.end(net.ErrClosed)
	underWay := int64(s.limit - min(s.limit, s.received)) // at most, if the peer is honest
	s.mu.Unlock()
	if at != nil {
		if last {
			at.SetReadDeadline(time.Now().Add(farewell))
			io.Copy(io.Discard, io.LimitReader(at, 2*underWay+maxFrames))
		}
		at.close()
	}
	s.mu.Lock()
	s.gone = true
	s.wake()
	s.mu.Unlock()
}

// Wait returns when the carrier is closed, which Close does not wait for. Close or Reset must have been called, or
// Deliver or Read be under way.
func (s *Stream) Wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.gone {
		changed := s.wait()
		s.mu.Unlock()
		<-changed
		s.mu.Lock()
	}
}

// discard gives up what has arrived and was not taken. The caller holds mu, and nobody takes from spill.
func (s *Stream) discard() {
	for s.spill.len() > 0 {
		s.spill.pop().release()
		s.wasted = true
	}
}

// rest waits until the writer has nothing left to do. The caller holds mu.
func (s *Stream) rest() {
	for s.writing {
		changed := s.wait()
		s.mu.Unlock()
		<-changed
		s.mu.Lock()
	}
}

// Notify sends the person a line.
func (s *Stream) Notify(n Notice) {
	s.owe(Append(nil, TypeNotice, &Notice{Text: Clip(n.Text, maxLine)}))
}

// AskToMove tells the client that the appliance is about to stop.
func (s *Stream) AskToMove(d Drain) {
	d.Text = Clip(d.Text, maxLine)
	s.owe(Append(nil, TypeDrain, &d))
}

// owe has the writer send a whole frame.
func (s *Stream) owe(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && len(s.extra) < maxExtra { // a peer that does not read misses lines for the person
		s.extra = append(s.extra, frame...)
		s.start()
	}
}
