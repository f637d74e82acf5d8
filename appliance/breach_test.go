package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/appliance/api"
	"sallyport/frame"
	"sallyport/frame/frametest"
)

// counted is what a counter stands at, for one value of its label if it has one.
func counted(t *testing.T, m *Metrics, name, value string) (n float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, one := range f.Metric {
			if f.GetName() == name && (value == "" || one.Label[0].GetValue() == value) {
				n += one.Counter.GetValue()
			}
		}
	}
	return n
}

// TestBreach: who breaks the protocol stands in the log once, with what was done, wherever in a flow's life that is, and
// is counted.
func TestBreach(t *testing.T) {
	tooLong := frame.Header{Type: frame.TypeData, Length: 1<<24 - 1}.Append(nil)
	const why = `why="a DATA frame has at most 65536 bytes, this one 16777215"`
	open := func(req frame.OpenRequest) []byte { return frame.Append(nil, frame.TypeOpen, &req) }
	for name, c := range map[string]struct {
		says []byte
		line string // the beginning of the log's line
		code frame.Code
		why  string
	}{
		"before OPEN": {tooLong, `msg="protocol broken" user=ann device=dev-1 source=192.0.2.1 transport=quic`, frame.FrameSize, why},
		"in an api flow": {append(open(frame.OpenRequest{Protocol: api.Protocol}), tooLong...),
			`msg="protocol broken" user=ann device=dev-1 source=192.0.2.1 transport=quic`, frame.FrameSize, why},
		"in an open flow": {append(open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"}), tooLong...), `msg="flow ended" `, frame.FrameSize, why},
		"another breach":  {append(frame.Header{Type: frame.TypeFin, Length: 8}.Append(nil), make([]byte, 8)...), `msg="protocol broken" `, frame.FrameType, `why="a FIN frame does not belong here"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			var log watched
			s.Log = slog.New(slog.NewTextHandler(&log, nil))
			s.target("10.0.0.5:22", echo)
			client, appliance := frametest.Pipe(0)
			ctx, lose := context.WithCancelCause(t.Context())
			s.wg.Go(func() { s.Flow(ctx, appliance, s.peer) })
			go client.Write(c.says)
			s.wg.Go(func() {
				io.Copy(io.Discard, client)
				lose(frame.Refuse(frame.Lost, "the liar has hung up", "")) // which is not why the flow ended
				client.Close()
			})
			s.settle()
			text := log.String()
			if strings.Count(text, string(c.code)) != 1 || !strings.Contains(text, c.line) || !strings.Contains(text, "cause="+string(c.code)) || !strings.Contains(text, c.why) {
				t.Errorf("the log says\n%s\nwant one line with %s and %s", text, c.line, c.why)
			}
			if n := counted(t, s.Metrics, "sallyport_protocol_errors_total", string(c.code)); n != 1 {
				t.Errorf("%v breaches are counted", n)
			}
		})
	}
}

// TestBreachesDoNotFlood: the log has some lines of each device and of strangers, and then one now and then, which says
// how many there were; all of them are counted.
func TestBreachesDoNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log watched
		g := &Gateway{Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: NewMetrics()}
		liar := frame.Peer{Transport: "https", User: "ann", Device: "dev-1", Remote: netip.MustParseAddrPort("192.0.2.1:5")}
		stranger := frame.Peer{Transport: "https", Remote: netip.MustParseAddrPort("192.0.2.2:5")}
		breach := &frame.SessionError{Reason: frame.Reason{Code: "E_PROXY_HEADER", Sentence: "a header\nmsg=forged"}}
		for range 1000 {
			g.Breach(liar, fmt.Errorf("read: %w", breach))
			g.Breach(stranger, breach)
		}
		for _, nothing := range []error{nil, io.EOF, errors.New("E_FRAME"), frame.Refuse("E_CODE_UNKNOWN", "no", ""),
			&frame.SessionError{Remote: true, Reason: frame.Reason{Code: frame.FrameBad}}, &frame.StreamError{Remote: true, Reason: frame.Reason{Code: frame.Credit}}} {
			g.Breach(frame.Peer{Device: "dev-2"}, nothing)
		}
		text := log.String()
		if a, b := strings.Count(text, "source=192.0.2.1"), strings.Count(text, "source=192.0.2.2"); a != breachBurst || b != breachBurst || strings.Count(text, "\n") != a+b {
			t.Errorf("%d lines of the device, %d of strangers, of\n%s", a, b, text)
		}
		if n := counted(t, g.Metrics, "sallyport_protocol_errors_total", "E_PROXY_HEADER"); n != 2000 {
			t.Errorf("%v are counted", n)
		}
		time.Sleep(breachEvery)
		g.Breach(liar, breach)
		if left := strings.TrimPrefix(log.String(), text); strings.Count(left, "\n") != 1 || !strings.Contains(left, " unsaid=990\n") {
			t.Errorf("then the log says %q", left)
		}
	})
}

// TestSkipped: optional frames of a world to come are skipped, before a flow is open and after, and counted.
func TestSkipped(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	client, appliance := frametest.Pipe(0)
	s.wg.Go(func() { s.Flow(t.Context(), appliance, s.peer) })
	optional := append(frame.Header{Type: frame.Optional, Length: 3}.Append(nil), "new"...)
	if _, err := client.Write(optional); err != nil {
		t.Fatal(err)
	}
	f, _, err := frame.Open(t.Context(), client, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client.Write(optional)
	io.WriteString(f, "SSH-2.0-client\r\n")
	f.CloseWrite()
	if got, err := io.ReadAll(f); string(got) != "SSH-2.0-echo\r\nSSH-2.0-client\r\n" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	f.Close()
	if n := counted(t, s.Metrics, "sallyport_frames_skipped_total", ""); n != 2 {
		t.Errorf("%v are counted", n)
	}
}
