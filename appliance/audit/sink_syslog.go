package audit

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"
)

// A Syslog is a sink that sends the lines as syslog messages (RFC 5424), counted in octets, over TLS (RFC 5425) or over TCP
// in clear (RFC 6587).
//
// Syslog has no answers. So each batch has a connection of its own, and that the receiver closes it after us is the sign
// that it has read all of it. One that does neither close nor reset it within some seconds is taken to have read it.
type Syslog struct {
	Address  string // host:port; the port of syslog over TLS is 6514
	Clear    bool   // TCP without TLS
	TLS      TLS
	Facility int // default 13, the one for audit logs
	Dial     Dial
}

// Open reads the files.
func (c Syslog) Open() (Sink, error) {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, err
	}
	if c.Facility < 0 || c.Facility > 23 {
		return nil, fmt.Errorf("%d is not a facility: they are 1 to 23", c.Facility)
	}
	s := &syslogSink{address: c.Address, facility: cmp.Or(c.Facility, 13), dial: c.Dial.orHost(), closeTime: 5 * time.Second}
	if !c.Clear {
		if s.tls, err = c.TLS.config(); err != nil {
			return nil, err
		}
		s.tls.ServerName = cmp.Or(s.tls.ServerName, host)
		s.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return s, nil
}

type syslogSink struct {
	address  string
	facility int
	tls      *tls.Config // nil: in clear
	dial     Dial

	closeTime time.Duration // how long the receiver may take to close its side
}

func (s *syslogSink) Close() error { return nil }

func (s *syslogSink) Send(ctx context.Context, records []Record) error {
	raw, err := s.dial(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	conn := raw
	if s.tls != nil {
		t := tls.Client(raw, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = t
	}
	var b []byte
	for _, r := range records {
		m := syslogMessage(r, s.facility)
		b = fmt.Appendf(b, "%d %s", len(m), m)
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	return s.finish(ctx, conn, raw)
}

// A halfCloser is a connection of which one direction can be closed.
type halfCloser interface{ CloseWrite() error }

// finish closes our side and waits for the receiver to close its own.
func (s *syslogSink) finish(ctx context.Context, conn, raw net.Conn) error {
	for _, c := range []net.Conn{conn, raw} { // TLS's end, then TCP's
		half, ok := c.(halfCloser)
		if !ok {
			return fmt.Errorf("a connection of %T cannot be closed one way", c)
		}
		if err := half.CloseWrite(); err != nil {
			return err
		}
		if conn == raw {
			break
		}
	}
	if err := raw.SetReadDeadline(time.Now().Add(s.closeTime)); err != nil {
		return err
	}
	if ctx.Err() != nil { // its deadline has just been written over
		return context.Cause(ctx)
	}
	_, err := io.Copy(io.Discard, io.LimitReader(conn, maxAnswer))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// syslogMessage is a line as a message: priority and version, time, host, program, process, kind, number, text.
func syslogMessage(r Record, facility int) []byte {
	e := r.Event
	return fmt.Appendf(nil, `<%d>1 %s %s sallyport - %s [meta sequenceId="%d"] %s`,
		facility*8+syslogSeverity(level(e)), e.Time.UTC().Format(timeForm), syslogName(e.Appliance), syslogName(e.Kind),
		(e.Seq-1)%(1<<31-1)+1, r.Line)
}

// syslogSeverity is 6, information, 4, warning, or 3, error.
func syslogSeverity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	}
	return 6
}

// syslogName is s as a field of the header, which has no spaces and nothing but ASCII.
func syslogName(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "-"
	}
	return s
}
