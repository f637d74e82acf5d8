package audit

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// A removal is which segments may go, the oldest of the log, and why.
type removal struct {
	segments []segment
	bytes    int64
	through  uint64   // the number of their last line
	why      string   // a sentence
	unsent   []string // exporters that have not passed all of it on
}

// retain removes segments that are too old, or too many. First a line says so and a head signs it: lines that are missing
// without such a line were removed by somebody else.
func (l *Log) retain() {
	l.mu.Lock()
	r := l.removable(l.cfg.Clock())
	l.mu.Unlock()
	if len(r.segments) == 0 {
		return
	}
	if err := l.announce(r); err != nil {
		l.cfg.Log.Warn("audit: old segments stay: their removal cannot be written down", "cause", err)
		return
	}
	if len(r.unsent) > 0 {
		l.cfg.Log.Error("audit: lines are removed that were not passed on", "through", r.through, "exporters", strings.Join(r.unsent, ","))
	}
	for _, s := range r.segments {
		l.mu.Lock()
		l.segments = l.segments[1:] // before the file goes: who looks for a line again finds another segment
		l.mu.Unlock()
		if err := os.Remove(l.path(s.name())); err != nil {
			l.cfg.Log.Error("audit: an old segment stays until the log is opened again", "cause", err)
		}
	}
}

// removable says what may go now. The segment that is being written never does. It is called with mu held.
func (l *Log) removable(now time.Time) removal {
	sent := uint64(math.MaxUint64)
	for _, x := range l.exporters {
		sent = min(sent, x.sent)
	}
	var total int64
	for _, s := range l.segments {
		total += s.size
	}
	var r removal
	for i, s := range l.segments[:len(l.segments)-1] {
		next := l.segments[i+1]
		tooMany := l.cfg.KeepBytes > 0 && total-r.bytes > l.cfg.KeepBytes
		tooOld := l.cfg.Keep > 0 && now.Sub(next.began) > l.cfg.Keep
		if !tooMany && (!tooOld || next.first-1 > sent) {
			break
		}
		r.segments = append(r.segments, s)
		r.bytes += s.size
		r.through = next.first - 1
		r.why = fmt.Sprintf("older than %v", l.cfg.Keep)
		if tooMany {
			r.why = fmt.Sprintf("more than %d bytes", l.cfg.KeepBytes)
		}
	}
	for _, x := range l.exporters {
		if x.sent < r.through {
			r.unsent = append(r.unsent, x.name)
		}
	}
	return r
}

// announce writes down what is about to be removed, signed and on disk.
func (l *Log) announce(r removal) error {
	e := Event{Kind: Retention, Why: r.why, Detail: map[string]string{
		"through": strconv.FormatUint(r.through, 10), "segments": strconv.Itoa(len(r.segments)), "bytes": strconv.FormatInt(r.bytes, 10),
	}}
	if len(r.unsent) > 0 {
		e.Code = CodeUnsent
		e.Detail["exporters"] = strings.Join(r.unsent, ",")
	}
	if _, err := l.add(e); err != nil {
		return err
	}
	if err := l.sign(becauseRemoval); err != nil {
		return err
	}
	return l.publish()
}

// CodeUnsent is the code of a retention that removed what an exporter had not passed on.
const CodeUnsent = "E_AUDIT_UNSENT"

// removedThrough is the last line that a retention event removes.
func removedThrough(e Event) uint64 {
	through, err := strconv.ParseUint(e.Detail["through"], 10, 64)
	if err != nil || through >= e.Seq {
		return 0
	}
	return through
}
