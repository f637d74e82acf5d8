package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ErrClosed is returned by the methods of a closed log.
var ErrClosed = errors.New("the log is closed")

// A Log is written by one process. Its methods may be called by many goroutines.
type Log struct {
	cfg  Config
	keys []ed25519.PublicKey
	held *os.File // the lock

	syncing sync.Mutex // held by whoever makes lines safe; taken before mu

	mu        sync.Mutex
	file      file      // the last segment
	segments  []segment // in order
	seq       uint64    // of the latest line
	hash      string    // of it
	head      Head      // the latest
	published uint64    // the head in head.json
	changed   chan struct{}
	closed    bool
	exporters []*exporter

	synced    uint64 // lines up to this one are on disk
	unsafe    span   // lines that fsync has failed for: the kernel may have dropped them
	suspect   bool   // they are in this segment, so the next line begins another one
	torn      bool   // part of a line stands behind the segment's end
	rotateNot time.Time
	trouble   trouble

	dirty    chan struct{}   // there is a line to make safe
	unsigned chan struct{}   // there is a line without a head
	signed   chan struct{}   // there is a head to publish
	ctx      context.Context // of all tasks; ends with Close
	stop     context.CancelFunc
	tasks    sync.WaitGroup
}

// A span is of lines, both ends belong to it.
type span struct{ from, to uint64 }

func (s span) has(seq uint64) bool { return s.from <= seq && seq <= s.to }

// Open goes on with the log in a folder, or begins one. What an earlier process has left half written is cut off, and an
// event says so; where anything else is not as it should be, Open refuses.
func Open(cfg Config) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	held, err := hold(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Log{
		cfg: cfg, held: held, ctx: ctx, stop: stop,
		keys:  append([]ed25519.PublicKey{cfg.Key.Public().(ed25519.PublicKey)}, cfg.Known...),
		dirty: make(chan struct{}, 1), unsigned: make(chan struct{}, 1), signed: make(chan struct{}, 1),
	}
	if err := l.resume(); err != nil {
		stop()
		if l.file != nil {
			err = errors.Join(err, l.file.Close())
		}
		return nil, errors.Join(fmt.Errorf("audit log: %w", err), held.Close())
	}
	l.tasks.Go(func() { l.tend(ctx) })
	if cfg.Sync > 0 {
		l.tasks.Go(func() { l.keepSafe(ctx) })
	}
	return l, nil
}

// hold makes the folder and takes its lock.
func hold(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("another process writes in %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// Close signs what there is and ends the exporters: they go on where they were when the log is opened again.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.notify()
	l.mu.Unlock()

	l.stop()
	l.tasks.Wait()
	l.mu.Lock()
	err := l.prepare()
	if err == nil {
		err = l.putHead(becauseClosing)
	}
	l.mu.Unlock()
	if err == nil {
		err = l.publish()
	}
	return errors.Join(err, l.file.Close(), l.held.Close())
}

// Head returns the latest signed head.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Last returns the number of the latest line.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

// notify wakes those who wait for the log to grow. It is called with mu held.
func (l *Log) notify() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// wait returns nil when there is a line seq, on disk if safe is set.
func (l *Log) wait(ctx context.Context, seq uint64, safe bool) error {
	for {
		l.mu.Lock()
		have := l.seq
		if safe {
			have = l.synced
		}
		if have >= seq || l.closed {
			defer l.mu.Unlock()
			if have >= seq {
				return nil
			}
			return ErrClosed
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *Log) path(name string) string { return filepath.Join(l.cfg.Dir, name) }

// current is the segment that is being written. It is called with mu held.
func (l *Log) current() *segment { return &l.segments[len(l.segments)-1] }

// signal leaves word in a channel of one place.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
