package wire

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a link.
type Options struct {
	Seed uint64                           // of all that happens
	Log  func(format string, args ...any) // may be nil
}

// A Link carries frames between two NICs until it is closed.
type Link struct {
	ways [2]*way
	fds  []int
	log  func(format string, args ...any)
	wg   sync.WaitGroup
	once sync.Once
}

// Open begins to carry frames between two NICs of the caller's namespace. Both are Plain from now on, and must be up.
func Open(first, second string, o Options) (*Link, error) {
	var fds []int
	size := 0
	for _, name := range []string{first, second} {
		if err := Plain(name); err != nil {
			closeAll(fds)
			return nil, err
		}
		nic, err := net.InterfaceByName(name)
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fd, err := openNIC(nic)
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, fd)
		size = max(size, etherSize+nic.MTU)
	}
	return start(fds[0], fds[1], size, o)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// start carries frames of up to size bytes between two sockets, which it takes over.
func start(first, second, size int, o Options) (*Link, error) {
	l := &Link{log: o.Log, fds: []int{first, second}}
	begin := time.Now()
	for d, ends := range [2][2]int{{first, second}, {second, first}} {
		wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			closeAll(l.fds)
			return nil, fmt.Errorf("eventfd: %w", err)
		}
		l.fds = append(l.fds, wake)
		l.ways[d] = &way{from: ends[0], to: ends[1], wake: wake, begin: begin, shaper: newShaper(o.Seed, Direction(d), size)}
	}
	for _, w := range l.ways {
		l.wg.Go(w.carry)
	}
	return l, nil
}

// Set changes what happens to the packets that come from now on.
func (l *Link) Set(d Direction, i Impairment) error {
	if err := i.Validate(); err != nil {
		return err
	}
	if l.log != nil {
		l.log("%v: %v", d, i)
	}
	for _, d := range d.ways() {
		l.ways[d].set(i)
	}
	return nil
}

// Run does the steps of a script one after the other.
func (l *Link) Run(ctx context.Context, steps []Step) error {
	for _, s := range steps {
		select {
		case <-time.After(s.Wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := l.Set(s.Direction, s.Impairment); err != nil {
			return err
		}
	}
	return nil
}

// Stats are those of one direction, or of both together.
func (l *Link) Stats(d Direction) Stats {
	var sum Stats
	for _, d := range d.ways() {
		sum = sum.plus(l.ways[d].statistics())
	}
	return sum
}

// Close ends the link; what was on its way is lost.
func (l *Link) Close() error {
	l.once.Do(func() {
		for _, w := range l.ways {
			w.close()
		}
		l.wg.Wait()
		closeAll(l.fds)
	})
	return nil
}

// A way is one direction.
type way struct {
	from, to int
	wake     int // an eventfd that is written when something has changed
	begin    time.Time

	mu     sync.Mutex
	closed bool
	shaper *shaper
}

func (w *way) set(i Impairment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shaper.set(i)
	w.rouse()
}

func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rouse()
	w.closed = true
}

// rouse makes carry look again. The caller holds mu: the eventfd is closed some time after closed is set.
func (w *way) rouse() {
	if !w.closed {
		unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// statistics may be asked for after the end too.
func (w *way) statistics() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.shaper.stats.Missed += missed(w.from)
	}
	return w.shaper.stats
}

// carry runs on a thread of its own, whose scheduling is not for others; it ends with the goroutine.
//
// The thread goes before all that computes on the same cores, since a packet that is late by another's time slice would
// be an impairment that nobody asked for: measured beside three busy loops on two cores, the 99th percentile of a delay
// is late by 0.1 ms instead of 6 ms. Niceness does not do it where the kernel groups processes by session. The kernel
// adds 50 µs to a sleep of an ordinary thread, and Go's timers up to a millisecond: hence ppoll with the least slack.
func (w *way) carry() {
	runtime.LockOSThread()
	first := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	unix.SchedSetAttr(0, first, 0) // who has no right to it goes without
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	t := turn{way: w, batch: newBatch()}
	for t.take() {
	}
}

// A turn is what carry does again and again, and the memory for it.
type turn struct {
	*way
	batch *batch
	slots []*packet // memory for the next frames
	out   []*packet
	polls [2]unix.PollFd
	limit unix.Timespec
}

// take brings what has come in and what is due one step further, and waits if nothing is left to do.
func (t *turn) take() bool {
	t.mu.Lock()
	for len(t.slots) < batchSize {
		t.slots = append(t.slots, t.shaper.take())
	}
	t.mu.Unlock()
	n, errno := t.batch.recv(t.from, t.slots)

	t.mu.Lock()
	now := time.Since(t.begin)
	for i, p := range t.slots[:n] {
		t.admit(p, int(t.batch.hdrs[i].size), now)
	}
	t.slots = append(t.slots[:0], t.slots[n:]...)
	t.out = t.shaper.due(t.out[:0], now)
	next := t.shaper.next()
	answers := t.shaper.answers
	t.shaper.answers = nil
	t.mu.Unlock()

	for _, a := range answers {
		unix.Send(t.from, a, unix.MSG_DONTWAIT)
	}
	t.send()
	switch {
	case t.isClosed():
		return false
	case n == batchSize || errno == unix.ENETDOWN: // the latter is told once
		return true
	}
	t.wait(t.from, unix.POLLIN, next)
	return true
}

func (t *turn) admit(p *packet, size int, now time.Duration) {
	if size > len(p.memory) {
		t.shaper.stats.Received++
		t.shaper.stats.Giant++
		t.shaper.give(p)
		return
	}
	p.frame = p.memory[:size]
	t.shaper.admit(p, now)
}

// send sends what is due, at the pace of the NIC.
func (t *turn) send() {
	sent, refused := 0, 0
	for left := t.out; len(left) > 0; {
		n, errno := t.batch.send(t.to, left)
		switch errno {
		case 0:
			sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			t.wait(t.to, unix.POLLOUT, never)
			if t.isClosed() {
				return
			}
		default: // down, or its own queue is full
			refused++
			n = 1
		}
		left = left[n:]
	}
	if len(t.out) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shaper.stats.Sent += sent
	t.shaper.stats.Refused += refused
	for _, p := range t.out {
		t.shaper.give(p)
	}
}

func (t *turn) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// wait sleeps until the descriptor is ready, or something has changed, or a time has come.
func (t *turn) wait(fd int, events int16, until time.Duration) {
	t.polls = [2]unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(t.wake), Events: unix.POLLIN}}
	var limit *unix.Timespec
	if until != never {
		t.limit = unix.NsecToTimespec(int64(max(0, until-time.Since(t.begin))))
		limit = &t.limit
	}
	unix.Ppoll(t.polls[:], limit, nil)
	if t.polls[1].Revents != 0 {
		var b [8]byte
		unix.Read(t.wake, b[:])
	}
}
