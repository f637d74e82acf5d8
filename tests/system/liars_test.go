package system

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/frame"
)

// TestLiars is rows 23 to 33: a client that lies about lengths, limits and acknowledgements, or that floods, is told which
// rule it broke, and costs the appliance no memory.
func TestLiars(t *testing.T) {
	b := start(t, settings{extra: "metrics: {listen: \"127.0.0.1:9090\"}\n"})
	r := b.rawClient("ann")
	b.flowsOf(r, 20) // what everybody costs once
	at := b.memory()

	raw := func(kind byte, length int, payload ...byte) []byte {
		return append([]byte{kind, byte(length >> 16), byte(length >> 8), byte(length)}, payload...)
	}
	ack := func(acked, limit uint64) []byte {
		return raw(0x23, 16, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, acked), limit)...)
	}
	fin := func(n uint64) []byte { return raw(0x21, 8, binary.BigEndian.AppendUint64(nil, n)...) }
	data := func(n int) []byte { return raw(0x20, n, bytes.Repeat([]byte{'x'}, n)...) }
	banner := []byte("SSH-2.0-liar\r\n")
	sshData := raw(0x20, len(banner), banner...)
	type lie struct {
		says []byte
		code string // what the appliance says
	}
	within := map[string]lie{
		"25 DATA longer than any":     {raw(0x20, 1<<24-1), "E_FRAME_SIZE"},
		"25 NOTICE longer than any":   {raw(0x32, 5000), "E_FRAME_SIZE"},
		"26 PING of four bytes":       {raw(0x30, 4, 1, 2, 3, 4), "E_FRAME"},
		"26 DATA of no byte":          {raw(0x20, 0), "E_FRAME"},
		"26 NOTICE that is no CBOR":   {raw(0x32, 1, 0xff), "E_FRAME"},
		"27 unknown type":             {raw(0x7f, 0), "E_FRAME_TYPE"},
		"27 HELLO in a flow":          {raw(0x01, 3, 1, 2, 3), "E_FRAME_TYPE"},
		"27 unknown optional type":    {slices.Concat(raw(0x80, 3, 1, 2, 3), raw(0x7f, 0)), "E_FRAME_TYPE"},
		"30 data beyond the limit":    {slices.Concat(sshData, data(frame.FirstLimit)), "E_CREDIT"},
		"31 limit beyond 2^62":        {ack(0, 1<<62), "E_CREDIT"},
		"31 limit of 2^64-1":          {ack(0, 1<<64-1), "E_CREDIT"},
		"32 ack of what was not sent": {ack(1<<40, 1<<41), "E_ACK"},
		"32 limit that goes back":     {ack(0, 1), "E_ACK"},
		"33 FIN elsewhere":            {fin(7), "E_FIN"},
		"33 data after FIN":           {slices.Concat(sshData, fin(uint64(len(banner))), data(1)), "E_FIN"},
		"33 second FIN":               {slices.Concat(sshData, fin(uint64(len(banner))), fin(uint64(len(banner)))), "E_FIN"},
	}
	before := map[string]lie{
		"25 HELLO longer than any":   {raw(0x01, 1<<24-1), "E_FRAME_SIZE"},
		"26 HELLO that is no CBOR":   {raw(0x01, 4, 0xff, 0xff, 0xff, 0xff), "E_FRAME"},
		"27 OPEN before HELLO":       {raw(0x10, 100), "E_FRAME_TYPE"},
		"27 DATA before HELLO":       {data(1000), "E_FRAME_TYPE"},
		"garbage before HELLO":       {bytes.Repeat([]byte("garbage!"), 1000), "E_FRAME_TYPE"},
		"silence before HELLO":       {nil, "closed"},
		"half a HELLO":               {raw(0x01, 1000, 0xa1), "closed"},
		"optional frames, no HELLO":  {bytes.Repeat(raw(0x90, 60000, make([]byte, 60000)...), 20), "closed"},
		"23 client of a later world": {frame.Append(nil, frame.TypeHello, &frame.Hello{Versions: []uint8{2}, Software: "sallyport 9"}), "E_VERSION"},
	}
	for _, transport := range transports {
		for name, lie := range within {
			t.Run(name+"/"+transport, func(t *testing.T) {
				c := r.with(t).flow(transport)
				c.opened(t, frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
				c.Write(lie.says)
				if got := c.verdict(); got != lie.code {
					t.Errorf("the appliance says %s, want %s", got, lie.code)
				}
			})
		}
		t.Run("before HELLO/"+transport, func(t *testing.T) {
			r := r.with(t)
			var wg sync.WaitGroup // the silent ones wait together
			for name, lie := range before {
				wg.Go(func() {
					c := r.over(transport)
					go c.Write(lie.says) // the appliance need not read all of it
					begin := time.Now()
					if got := c.verdict(); !strings.HasPrefix(got, lie.code) {
						t.Errorf("%s: the appliance says %s, want %s", name, got, lie.code)
					}
					if took := time.Since(begin); took > 8*time.Second {
						t.Errorf("%s: the appliance took %v to say so", name, took)
					}
				})
			}
			wg.Wait()
		})
		t.Run("byte by byte/"+transport, func(t *testing.T) {
			c := r.with(t).over(transport)
			in, hello, err := c.introduce(frame.Hello{User: "ann", Software: "raw"})
			if err != nil {
				t.Fatal(err)
			}
			drip(c, hello)
			if _, err := in.ReadWelcome(c); err != nil {
				t.Fatalf("a HELLO in single bytes is not welcome: %v", err)
			}
			if c.session != nil {
				c = c.next(t)
			}
			drip(c, frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: "db-1", Protocol: "ssh"}))
			drip(c, sshData)
			if h, _, err := frame.ReadFrame(c); err != nil || h.Type != frame.TypeOpened {
				t.Fatalf("an OPEN in single bytes: %v, %v", h, err)
			}
			for {
				h, p, err := frame.ReadFrame(c)
				if err != nil {
					t.Fatal(err)
				}
				if h.Type == frame.TypeData {
					if !bytes.HasPrefix(p, []byte("SSH-2.0-OpenSSH")) {
						t.Errorf("the target says %q", p)
					}
					break
				}
			}
		})
		t.Run("flood of OPENs/"+transport, func(t *testing.T) {
			r := r.with(t)
			c := r.flow(transport)
			c.opened(t, frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
			flood := bytes.Repeat(frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: strings.Repeat("x", 200), Protocol: "ssh"}), 10000)
			go c.Write(flood)
			if got := c.verdict(); got != "E_FRAME_TYPE" {
				t.Errorf("the appliance says %s", got)
			}
		})
	}
	t.Run("25 and 27, counted and in the log", func(t *testing.T) {
		b := b.on(t)
		if n := b.counted(`sallyport_protocol_errors_total{code="E_FRAME_SIZE"`); n != 6 {
			t.Errorf("%d frames that were too long are counted, 6 were sent", n)
		}
		if n := b.counted("sallyport_frames_skipped_total"); n != 2 {
			t.Errorf("%d optional frames are counted, 2 were sent in flows", n)
		}
		for _, transport := range transports {
			const ann = `"flow ended" flow=\w+ user=ann device=\S+ source=10\.77\.1\.2 target=db-1 .*`
			for why, who := range map[string]string{
				`a DATA frame has at most 65536 bytes, this one 16777215`:  ann,
				`a NOTICE frame has at most 4096 bytes, this one 5000`:     ann,
				`a HELLO frame has at most 16384 bytes, this one 16777215`: `"protocol broken" user="" device="" source=10\.77\.1\.2`,
			} {
				line := regexp.MustCompile(`(?m)^.* msg=` + who + ` transport=` + transport + `.* cause=E_FRAME_SIZE why="` + why + `".*$`)
				b.eventually(5*time.Second, "one line about it", func() error {
					if lines := line.FindAllString(b.daemon.Output(), -1); len(lines) != 1 {
						return fmt.Errorf("%d lines %s: %q", len(lines), line, lines)
					}
					return nil
				})
			}
		}
	})
	t.Run("23 client of a later world, in words", func(t *testing.T) {
		for _, transport := range transports {
			c := r.with(t).over(transport)
			c.Write(frame.Append(nil, frame.TypeHello, &frame.Hello{Versions: []uint8{2, 3}, Software: "sallyport 9"}))
			h, p, err := frame.ReadFrame(c)
			var reason frame.Reason
			if err != nil || h.Type != frame.TypeRefused || frame.Parse(h.Type, p, &reason) != nil || reason.Code.Exit() != 15 ||
				reason.Sentence != "sallyport 9 speaks protocol version 2, 3, this appliance speaks 1" || reason.Hint != "install the client that belongs to this appliance" {
				t.Errorf("%s: %v %+v, %v", transport, h, reason, err)
			}
		}
	})
	t.Run("53 a name for the log's reader", func(t *testing.T) {
		b := b.on(t)
		for _, transport := range transports {
			c := r.with(t).flow(transport)
			c.Write(frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: "db\n1\x1b[31m\u202e msg=forged", Protocol: "ssh"}))
			if got := c.verdict(); got != "E_NAME" {
				t.Errorf("%s: the appliance says %s", transport, got)
			}
		}
		b.logged(`target="db?1?[31m? msg=forged"`)
		if strings.ContainsAny(b.daemon.Output(), "\x1b\u202e") {
			t.Error("the log has control characters")
		}
	})
	t.Run("streams before HELLO", func(t *testing.T) { r.with(t).manyStreams() })
	t.Run("24 another application protocol", func(t *testing.T) {
		_, err := r.with(t).dialQUIC("h3")
		var e *quic.TransportError
		if !errors.As(err, &e) || !e.Remote || e.ErrorMessage != "" && strings.Contains(strings.ToLower(e.ErrorMessage), "sallyport") {
			t.Errorf("the appliance says %v", err)
		}
		t.Logf("%v", err)
	})
	t.Run("34 more flows than a person may have", func(t *testing.T) { r.with(t).tooMany() })

	if got := b.client("ls"); got.exit != 0 {
		t.Errorf("afterwards: %v", got)
	}
	b.settled(at)
}

// with is r for a subtest.
func (r *raw) with(t *testing.T) *raw { return &raw{r.on(t), r.key} }

// drip writes byte for byte.
func drip(w io.Writer, b []byte) {
	for i := range b {
		w.Write(b[i : i+1])
	}
}

// manyStreams opens as many streams as QUIC allows, of 1,000, on connections that have not said HELLO, and fills them.
func (r *raw) manyStreams() {
	before := r.memory()
	opened := 0
	for opened < 1000 {
		conn, err := r.dialQUIC("sallyport/1")
		if err != nil {
			r.t.Fatal(err)
		}
		for opened < 1000 {
			s, err := conn.OpenStream()
			if err != nil {
				break // as many as the appliance allows
			}
			opened++
			s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			go s.Write(make([]byte, 1<<20))
		}
	}
	during := r.memory()
	r.t.Logf("1000 streams of strangers: before %v; during %v", before, during)
	if during.rss > before.rss+32<<20 {
		r.t.Errorf("strangers' streams cost %d MiB", (during.rss-before.rss)>>20)
	}
}

// tooMany asks for one flow more than a person may have.
func (r *raw) tooMany() {
	c := r.flow("quic")
	var wg sync.WaitGroup
	answers := make([]string, 257)
	for i := range answers {
		s := c
		if i > 0 {
			s = c.next(r.t)
		}
		wg.Go(func() {
			s.Write(frame.Append(nil, frame.TypeOpen, &frame.OpenRequest{Target: "db-1", Protocol: "ssh"}))
			h, p, err := frame.ReadFrame(s)
			var reason frame.Reason
			switch {
			case err != nil:
				answers[i] = err.Error()
			case h.Type == frame.TypeRefused && frame.Parse(h.Type, p, &reason) == nil:
				answers[i] = fmt.Sprintf("%s: %s; %s", reason.Code, reason.Sentence, reason.Hint)
			default:
				answers[i] = h.Type.String()
			}
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, a := range answers {
		counts[a]++
	}
	if counts["OPENED"] != 256 || counts["E_LIMIT: you have 256 flows open, which is the limit; close one, or ask for a higher limit"] != 1 || len(counts) != 2 {
		r.t.Errorf("257 OPENs were answered %v", counts)
	}
	c.session.CloseWithError(0, "")
	r.eventually(10*time.Second, "the flows end with their connection", func() error {
		if flows := r.flows(); len(flows) > 0 {
			return fmt.Errorf("%d flows are left", len(flows))
		}
		return nil
	})
}
