package appliance

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/audit"
	"sallyport/frame"
	"sallyport/frame/frametest"
)

// limited is a site whose rule for db-1 has other limits. It echoes.
func limited(t *testing.T, limits string) *site {
	t.Helper()
	s := newSite(t)
	s.SetPolicy(s.parse(strings.Replace(siteAccess, "lifetime: 1h", limits, 1)))
	s.target("10.0.0.5:22", echo)
	return s
}

// TestIdle: a flow in which nothing moves ends after its rule's time, and says so; one in which something does goes on.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limited(t, "idle: 30m")
		still, moves := s.as("ann", "dev-1"), s.as("bob", "dev-2")
		begun := time.Now()
		still.SetReadDeadline(begun.Add(3 * time.Hour))
		line := []byte("SSH-2.0-moves\r\n")
		var ended time.Duration
		var why error
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, why = io.ReadAll(still)
			ended = time.Since(begun)
		}()
		for range 9 {
			time.Sleep(20 * time.Minute)
			if _, err := moves.Write(line); err != nil {
				t.Fatalf("after %v the flow that moves cannot: %v", time.Since(begun), err)
			}
			if _, err := io.ReadFull(moves, make([]byte, len(line))); err != nil {
				t.Fatalf("after %v the flow that moves does not: %v", time.Since(begun), err)
			}
		}
		<-read
		reason, _ := frame.ReasonOf(why)
		if reason.Code != "E_IDLE" || reason.Sentence != "nothing moved for 30m0s" || reason.Rule != "operators" || ended < 30*time.Minute || ended > 31*time.Minute {
			t.Errorf("the flow ended after %v with %+v", ended, reason)
		}
		still.Close()
		moves.Close()
		s.settle()
		if ends := s.ends(); !slices.Contains(ends, "ann E_IDLE") || slices.Contains(ends, "bob E_IDLE") {
			t.Errorf("the audit log has %q", ends)
		}
	})
}

// ends are the ends of flows in the audit log: whose, and the codes.
func (s *site) ends() (ends []string) {
	for _, e := range s.book.all() {
		if e.Kind == audit.FlowEnd {
			ends = append(ends, e.User+" "+e.Code)
		}
	}
	return ends
}

// TestBandwidth: what the rule of a flow says is what moves in each direction, whatever the client and the target can do.
func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, amount = 8e6 / 8, 10 << 20
		s := limited(t, "bandwidth: 8mbit")
		s.target("10.0.0.5:5432", func(c net.Conn) {
			go io.Copy(c, io.LimitReader(zeros{}, amount))
			io.CopyN(io.Discard, c, amount)
		})
		for _, way := range []struct {
			name, protocol string
			port           uint16
			move           func(f *frame.Stream) error
		}{
			{"down", "tcp", 5432, func(f *frame.Stream) error { _, err := io.CopyN(io.Discard, f, amount); return err }},
			{"up", "tcp", 5432, func(f *frame.Stream) error {
				if _, err := io.CopyN(f, zeros{}, amount); err != nil {
					return err
				}
				_, err := io.ReadAll(f) // until the target has it all
				return err
			}},
			{"there and back", "ssh", 22, func(f *frame.Stream) error {
				go func() {
					io.WriteString(f, "SSH-2.0-pours\r\n")
					io.CopyN(f, zeros{}, amount)
				}()
				_, err := io.CopyN(io.Discard, f, amount)
				return err
			}},
		} {
			begun := time.Now()
			f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: way.protocol, Port: way.port})
			if err != nil {
				t.Fatal(err)
			}
			if err := way.move(f); err != nil {
				t.Fatal(err)
			}
			took, want := time.Since(begun), time.Duration(amount/rate*float64(time.Second))
			if took < want*95/100 || took > want*115/100 {
				t.Errorf("%s: %d bytes took %v, want about %v", way.name, amount, took, want)
			}
			f.Close()
		}
		s.settle()
	})
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestNotices: a person is told five minutes before their right ends, and one, and once each; who has longer is not.
func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(20 * time.Minute).UTC()
		s := newSite(t)
		s.target("10.0.0.5:22", echo)
		s.SetPolicy(s.parse(siteAccess, fmt.Sprintf(`@id("until then") forbid (principal == User::"bob", action, resource) when { context.now > datetime(%q) };`, end.Format("2006-01-02T15:04:05Z"))))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.WatchTime(ctx)

		type line struct {
			left time.Duration
			text string
		}
		told := map[string][]line{}
		flows := map[string]*frame.Stream{}
		for user, device := range map[string]string{"ann": "dev-1", "bob": "dev-2"} {
			client, appliance := frametest.Pipe(0)
			peer := s.peer
			peer.User, peer.Device = user, device
			s.wg.Go(func() { s.Flow(context.Background(), appliance, peer) })
			f, _, err := frame.Open(t.Context(), client, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{Notice: func(n frame.Notice) {
				told[user] = append(told[user], line{time.Until(end), n.Text})
			}})
			if err != nil {
				t.Fatal(err)
			}
			flows[user] = f
		}
		go io.Copy(io.Discard, flows["ann"])
		_, err := io.ReadAll(flows["bob"])
		if reason, _ := frame.ReasonOf(err); reason.Code != "E_GRANT_ENDED" || !strings.Contains(reason.Sentence, `denied by policy "until then"`) {
			t.Errorf("bob's flow ended with %v", err)
		}
		if late := time.Since(end); late < 0 || late > lookAhead+time.Second {
			t.Errorf("bob's flow ended %v after his right", late)
		}
		synctest.Wait()
		if len(told["ann"]) > 0 {
			t.Errorf("ann is told %+v", told["ann"])
		}
		want := []line{{5 * time.Minute, "this session ends within 5 minutes, when the right to db-1:22 does"}, {time.Minute, "this session ends within a minute, when the right to db-1:22 does"}}
		if len(told["bob"]) != len(want) {
			t.Fatalf("bob is told %+v", told["bob"])
		}
		for i, l := range told["bob"] {
			if l.text != want[i].text || l.left > want[i].left || l.left < want[i].left-2*lookAhead {
				t.Errorf("%v before the end bob is told %q, want %+v", l.left, l.text, want[i])
			}
		}
		for _, f := range flows {
			f.Close()
		}
		s.settle()
	})
}
