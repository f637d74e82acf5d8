package boot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// maxLine is what one record of the kernel's log may hold of ours. The kernel refuses more than 976 bytes with all that
// is put before them (printk's LOG_LINE_MAX).
const maxLine = 900

// Priorities of the kernel's log (Documentation/admin-guide/serial-console, linux/kern_levels.h), with the facility of
// daemons (RFC 5424 §6.2.1).
const (
	facility = 3 << 3

	priorityError   = facility | 3
	priorityWarning = facility | 4
	priorityNotice  = facility | 5
	priorityDebug   = facility | 7
)

// priority is a level as the kernel has it. Ordinary lines are notices: consoles that hide what the kernel has to say
// about itself still show them.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return priorityError
	case l >= slog.LevelWarn:
		return priorityWarning
	case l >= slog.LevelInfo:
		return priorityNotice
	}
	return priorityDebug
}

// record writes text as records of the kernel's log that say who speaks: one a line, long ones in several.
func record(w io.Writer, who string, priority int, text string) error {
	var errs []error
	for part := range parts(text) {
		errs = append(errs, write(w, who, priority, part))
	}
	return errors.Join(errs...)
}

func write(w io.Writer, who string, priority int, part string) error {
	_, err := fmt.Fprintf(w, "<%d>%s: %s\n", priority, who, part)
	return err
}

// parts is text in pieces that fit into a record. What is not printable comes out as a question mark, so that nobody's text
// moves a terminal's cursor.
func parts(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			line = strings.Map(printable, strings.TrimRight(line, "\r\n"))
			for line != "" {
				part := clip(line, maxLine)
				line = line[len(part):]
				if !yield(part) {
					return
				}
			}
		}
	}
}

func printable(r rune) rune {
	if r == '\t' {
		return ' '
	}
	if r == utf8.RuneError || !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

// clip is as much of the beginning of s as fits into max bytes, of whole characters.
func clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}

// NewHandler makes a handler that writes records to the kernel's log, which is w: /dev/kmsg takes one a write. The kernel
// puts the time before them.
func NewHandler(w io.Writer, level slog.Level) slog.Handler {
	h := &handler{w: w, mu: new(sync.Mutex), buf: new(bytes.Buffer)}
	h.text = slog.NewTextHandler(h.buf, &slog.HandlerOptions{Level: level, ReplaceAttr: plain})
	return h
}

// plain leaves out what stands elsewhere in a record.
func plain(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

type handler struct {
	w    io.Writer
	mu   *sync.Mutex // of buf, which all that come of one handler share
	buf  *bytes.Buffer
	text slog.Handler // writes the attributes into buf
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	line := strings.TrimSpace(r.Message + " " + h.buf.String())
	return record(h.w, own, priority(r.Level), line)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.w, h.mu, h.buf, h.text.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.w, h.mu, h.buf, h.text.WithGroup(name)}
}

// own is before the lines of process 1. Another process of ours has its name after it, and no line of such a one can be
// taken for one of process 1.
const own = "sallyport"

// What another process may say, in records: a panic's trace and then some, and not so much that a slow console keeps the
// machine busy or the log forgets what was before.
const (
	saidAtOnce  = 500
	saidASecond = 50
)

// Relay writes what another process says, by lines, to the kernel's log, until r ends; name says which process it is. Of a
// line of package slog's text form the level becomes the record's and the time is left out; what else there is, such as a
// panic, is an error. What is too much is left out, and the next line says how much that was.
func Relay(r io.Reader, kmsg io.Writer, name string) error {
	lines := bufio.NewReaderSize(r, 16<<10)
	who := own + " " + name
	limit, left := rate.NewLimiter(saidASecond, saidAtOnce), 0
	for {
		line, err := lines.ReadSlice('\n')
		p, text := levelOf(string(line))
		for part := range parts(text) {
			if left > 0 && limit.Tokens() < saidASecond || !limit.Allow() { // else each line would have its own word about others
				left++
				continue
			}
			if left > 0 {
				record(kmsg, own, priorityWarning, fmt.Sprintf("the %s has said too much; %d lines are left out", name, left))
				left = 0
			}
			write(kmsg, who, p, part)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // the rest of a line that is too long is one of its own
			return err
		}
	}
}

// levelOf takes a line of slog apart.
func levelOf(line string) (priority int, text string) {
	rest, ok := strings.CutPrefix(line, "time=")
	if _, after, found := strings.Cut(rest, " level="); ok && found {
		level, text, _ := strings.Cut(after, " ")
		if name, _, _ := strings.Cut(strings.TrimSpace(level), "+"); levels[name] != 0 {
			return levels[name], message(text)
		}
	}
	return priorityError, line
}

// message takes the key and the quotes off what a line begins with.
func message(text string) string {
	rest, ok := strings.CutPrefix(text, "msg=")
	if !ok {
		return text
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return rest
	}
	said, _ := strconv.Unquote(quoted)
	return said + rest[len(quoted):]
}

var levels = map[string]int{"DEBUG": priorityDebug, "INFO": priorityNotice, "WARN": priorityWarning, "ERROR": priorityError}
