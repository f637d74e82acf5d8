package audit

import (
	"context"
	"time"
)

// tend signs what no head covers yet, publishes heads and removes old segments, as long as ctx lives.
func (l *Log) tend(ctx context.Context) {
	var due <-chan time.Time // for a head
	retain := time.NewTicker(l.cfg.retainEvery)
	defer retain.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.unsigned:
			if due == nil {
				due = time.After(l.cfg.HeadEvery)
			}
		case <-due:
			due = nil
			if l.sign(becauseTime) != nil {
				due = time.After(l.cfg.HeadEvery)
			}
		case <-l.signed:
			if l.publish() != nil {
				due = time.After(l.cfg.HeadEvery)
			}
		case <-retain.C:
			l.retain()
		}
	}
}

// sign writes a head if there are lines without one, or if the one that there is is not in head.json yet.
func (l *Log) sign(why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.head.Seq == l.seq {
		if l.published != l.head.Seq {
			signal(l.signed)
		}
		return nil
	}
	err := l.prepare()
	if err == nil && l.head.Seq != l.seq {
		err = l.putHead(why)
	}
	return err
}

// publish replaces head.json. The head's line is on disk first: head.json never says more than the log has, not even
// after a loss of power.
func (l *Log) publish() error {
	l.mu.Lock()
	h := l.head
	done := l.published == h.Seq
	l.mu.Unlock()
	if done {
		return nil
	}
	err := l.makeSafe(h.Seq)
	if err == nil {
		err = replaceFile(l.path(headFile), []byte(h.Line+"\n"))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.trouble.head == nil {
		l.cfg.Log.Error("audit: "+headFile+" is not replaced: the end of the log is not protected", "cause", err)
	}
	l.trouble.head = err
	if err == nil {
		l.published = h.Seq
	}
	return err
}
