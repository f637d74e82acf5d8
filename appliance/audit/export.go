package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"
)

// A batch has at most so many lines and bytes, unless its first line is larger.
const (
	batchLines = 500
	batchBytes = 1 << 20
)

// A Sink takes lines elsewhere; [File], [Syslog], [Webhook] and [OTLP] open one.
type Sink interface {
	// Send returns nil when the receiver has all records. After an error it is given all of them again.
	Send(ctx context.Context, records []Record) error
	Close() error
}

// A LaterError is a receiver's wish to be asked again only after a while.
type LaterError struct {
	After time.Duration
	Err   error
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

// sendTime bounds one Send.
const sendTime = 30 * time.Second

// An Export is the state of an exporter.
type Export struct {
	Name     string
	Sent     uint64    // lines up to this one have been passed on
	Lag      uint64    // lines that wait
	LastSent time.Time // when the latest were passed on; zero before the first since the log was opened
	Lost     uint64    // lines that retention removed before they were passed on, since the log was opened
	Err      error     // why the latest try failed; nil after one that went well
}

// An exporter passes the log on. The log itself is its spool; how far it has come is in a file of its own.
type exporter struct {
	log    *Log
	name   string
	sink   Sink
	cursor *cursor

	// Guarded by the log's mu.
	sent     uint64
	lastSent time.Time
	lost     uint64
	err      error
}

// exportForm is what an exporter may be called.
var exportForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Export passes the log on to sink until it is closed, in order and each line at least once, only lines that are on disk. It
// goes on where the exporter of this name has come to; a new one begins with the oldest line that there is. Retention
// waits for exporters that have been named here, so they should be before the first Write. The sink is closed with the
// log, or if Export fails.
func (l *Log) Export(name string, sink Sink) error {
	x := &exporter{log: l, name: name, sink: sink}
	if err := x.start(); err != nil {
		return errors.Join(fmt.Errorf("audit exporter %.40q: %w", name, err), sink.Close())
	}
	return nil
}

func (x *exporter) start() error {
	l := x.log
	if !exportForm.MatchString(x.name) {
		return errors.New("a name is 1 to 32 of a-z, 0-9 and dashes")
	}
	sent, err := readSent(l.path(x.file()))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case slices.ContainsFunc(l.exporters, func(other *exporter) bool { return other.name == x.name }):
		return errors.New("there is one of this name")
	case sent > l.seq:
		return fmt.Errorf("line %d has been passed on and the log ends with line %d: lines have been taken away; "+
			"if that is known, remove %s to pass on everything again", sent, l.seq, l.path(x.file()))
	}
	x.sent, x.cursor = sent, l.cursor(sent+1)
	l.exporters = append(l.exporters, x)
	l.tasks.Go(func() { x.run(l.ctx) })
	return nil
}

func (x *exporter) file() string { return "export-" + x.name + ".json" }

// sentForm is the file in which an exporter keeps how far it has come.
type sentForm struct {
	Sent uint64 `json:"sent"`
}

func readSent(path string) (uint64, error) {
	b, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var form sentForm
	if err := json.Unmarshal(b, &form); err != nil {
		return 0, fmt.Errorf("%s: %w; remove it to pass on everything again", path, err)
	}
	return form.Sent, nil
}

// run passes on what there is and what comes.
func (x *exporter) run(ctx context.Context) {
	defer x.sink.Close()
	defer x.cursor.close()
	for x.log.wait(ctx, x.cursor.next, true) == nil {
		records, ok := x.read(ctx)
		if !ok || !x.pass(ctx, records) {
			return
		}
		// Lines that come one by one travel together.
		if len(records) < batchLines && !rest(ctx, x.log.cfg.pause) {
			return
		}
	}
}

// read returns the next lines. It comes back without them only when ctx has ended.
func (x *exporter) read(ctx context.Context) ([]Record, bool) {
	for try := 0; ; try++ {
		x.log.mu.Lock()
		safe := x.log.synced
		x.log.mu.Unlock()
		b, err := x.cursor.read(safe, batchLines, batchBytes)
		if b.lost > 0 {
			x.log.cfg.Log.Error("audit: lines were removed before they were passed on", "exporter", x.name, "lines", b.lost)
			x.log.mu.Lock()
			x.lost += b.lost
			x.log.mu.Unlock()
		}
		if len(b.records) > 0 {
			return b.records, true // what went wrong behind them is met again
		}
		if !x.failed(ctx, try, err) {
			return nil, false
		}
	}
}

// pass gives records to the sink until it has them, then keeps how far that is. It returns false when ctx has ended.
func (x *exporter) pass(ctx context.Context, records []Record) bool {
	last := records[len(records)-1].Event.Seq
	for try := 0; ; try++ {
		sending, done := context.WithTimeout(ctx, sendTime)
		err := x.sink.Send(sending, records)
		done()
		if err == nil {
			if try > 0 {
				x.log.cfg.Log.Info("audit: lines are passed on again", "exporter", x.name)
			}
			x.keep(last)
			return true
		}
		if !x.failed(ctx, try, err) {
			return false
		}
	}
}

// keep writes down that lines up to last have been passed on. If that fails, they are passed on once more after a restart.
func (x *exporter) keep(last uint64) {
	b, err := json.Marshal(sentForm{last})
	if err == nil {
		err = replaceFile(x.log.path(x.file()), append(b, '\n'))
	}
	if err != nil {
		x.log.cfg.Log.Warn("audit: how far an exporter has come is not kept", "exporter", x.name, "cause", err)
	}
	x.log.mu.Lock()
	defer x.log.mu.Unlock()
	x.sent, x.lastSent, x.err = last, x.log.cfg.Clock(), err
}

// failed takes an error down and waits before the next try. It returns false when ctx has ended.
func (x *exporter) failed(ctx context.Context, try int, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if try == 0 {
		x.log.cfg.Log.Warn("audit: lines are not passed on; they wait in the log", "exporter", x.name, "cause", err)
	}
	x.log.mu.Lock()
	x.err = err
	x.log.mu.Unlock()
	wait := min(x.log.cfg.retryMin<<min(try, 20), x.log.cfg.retryMax)
	wait = wait/2 + rand.N(wait/2+1)
	var later *LaterError
	if errors.As(err, &later) {
		wait = max(wait, later.After)
	}
	return rest(ctx, wait)
}

// rest waits; false when ctx ends meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Exports returns the state of all exporters, in the order in which they were named.
func (l *Log) Exports() []Export {
	l.mu.Lock()
	defer l.mu.Unlock()
	states := make([]Export, len(l.exporters))
	for i, x := range l.exporters {
		states[i] = Export{Name: x.name, Sent: x.sent, Lag: l.seq - x.sent, LastSent: x.lastSent, Lost: x.lost, Err: x.err}
	}
	return states
}
