package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A Bench measures a person's way to an appliance, by what the appliance has for that, and through it to a target's port,
// of which nothing is wanted but that it accepts. Each transport has a connection of its own, beside the agent's:
//
//	connect → open some flows, to the appliance and to the target → round trips → down → up
type Bench struct {
	Home    Home
	Profile *Profile
	Options Options                      // with Auto both transports are measured
	Time    time.Duration                // of each measurement, MinBench to MaxBench; default 2 seconds; bulk may take longer
	Target  *frame.OpenRequest           // nil: only the way to the appliance
	Step    func(transport, what string) // is told what begins; may be nil
}

// MinBench and MaxBench bound the time of a measurement. The appliance ends what takes longer than half a minute.
const MinBench, MaxBench = 100 * time.Millisecond, 10 * time.Second

// A BenchReport is what a Bench has found.
type BenchReport struct {
	Appliance string        `json:"appliance"`
	Target    string        `json:"target,omitempty"`
	Time      time.Duration `json:"time_ns"`               // of each measurement, at least
	Bound     int64         `json:"bound_bits_per_second"` // that the appliance lets measurements have
	Ways      []Way         `json:"ways"`                  // by transport
	Verdict   string        `json:"verdict"`               // in words
}

// A Way is what was measured over one transport, or why it was not to be had.
type Way struct {
	Transport  string        `json:"transport"`
	Failure    *Failure      `json:"failure,omitempty"` // then there are no figures
	Connect    time.Duration `json:"connect_ns,omitempty"`
	RoundTrips *RoundTrips   `json:"round_trips,omitempty"`          // of one byte, to the appliance and back
	Open       time.Duration `json:"open_ns,omitempty"`              // of a flow to the appliance itself
	Down       int64         `json:"down_bits_per_second,omitempty"` // of the flow's bytes, as they arrive here
	Up         int64         `json:"up_bits_per_second,omitempty"`   // as the appliance takes them
	Target     time.Duration `json:"target_open_ns,omitempty"`       // of a flow to the target
	Banner     time.Duration `json:"target_first_byte_ns,omitempty"` // from its request until an SSH server says who it is
}

// benchProtocol is that of the appliance's services, PROTOCOL.md §4.
const benchProtocol = "bench"

const (
	benchOpens    = 3                     // of which the middle counts; sshd holds it against a source if many come and do not sign in
	benchPace     = 20 * time.Millisecond // from one round trip to the next: somebody who types fast
	leastTrips    = 10                    // even if they take longer than a measurement should
	benchPatience = 10 * time.Second      // for a byte that must come
	benchFarewell = 2 * time.Second       // for what is on the way when a measurement ends
	benchChunk    = 256 << 10             // read or written at once: four frames

	// Bulk lasts for so many round trips at least, of which the first quarter does not count: the room that a flow has
	// grows from 16 KiB to 8 MiB in nine.
	bulkTrips  = 40
	bulkWarmup = 4
)

// Measure measures every transport that Options allow. An error says that none could be measured.
func (b *Bench) Measure(ctx context.Context) (*BenchReport, error) {
	r := &BenchReport{Appliance: b.Profile.Name, Time: cmp.Or(b.Time, 2*time.Second)}
	if b.Target != nil {
		r.Target = b.Target.Target
		if b.Target.Port != 0 {
			r.Target = net.JoinHostPort(r.Target, strconv.Itoa(int(b.Target.Port)))
		}
	}
	modes := []transport.Mode{transport.QUIC, transport.HTTPS}
	if mode := cmp.Or(b.Options.Transport, transport.Auto); mode != transport.Auto {
		modes = []transport.Mode{mode}
	}
	var failures []Failure
	for _, mode := range modes {
		way, err := b.measure(ctx, mode, r)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			failure := Explain(err)
			failures = append(failures, failure)
			way = Way{Transport: string(mode), Failure: &failure}
		}
		r.Ways = append(r.Ways, way)
	}
	if len(failures) == len(modes) {
		all := failures[0]
		for _, other := range failures[1:] {
			if other.Sentence != all.Sentence {
				all.Tried = append(all.Tried, other.Sentence)
			}
			all.Tried = append(all.Tried, other.Tried...)
		}
		return nil, &failed{all}
	}
	r.judge()
	return r, nil
}

// measure measures one transport.
func (b *Bench) measure(ctx context.Context, mode transport.Mode, r *BenchReport) (w Way, err error) {
	o := b.Options
	o.Transport = mode
	direct, err := NewDirect(b.Home, b.Profile, o)
	if err != nil {
		return w, err
	}
	defer direct.Close()
	step := func(what string) {
		if b.Step != nil {
			b.Step(string(mode), what)
		}
	}
	step("connecting")
	m := &measurement{direct: direct, length: r.Time}
	if m.session, err = direct.Session(ctx); err != nil {
		return w, err
	}
	w.Transport, w.Connect = m.session.Transport, pathOf(m.session).Took
	api := NewAPI(direct)
	bounds, err := api.Bench(ctx)
	api.Close()
	if err != nil {
		return w, err
	}
	r.Bound = bounds.Rate
	step("opening flows")
	if w.Open, _, err = m.opens(ctx, service("echo")); err != nil {
		return w, err
	}
	if b.Target != nil {
		step("opening flows to " + r.Target)
		if w.Target, w.Banner, err = m.opens(ctx, *b.Target); err != nil {
			return w, err
		}
	}
	step("round trips")
	if w.RoundTrips, err = m.roundTrips(ctx); err != nil {
		return w, err
	}
	m.length = min(max(m.length, bulkTrips*w.RoundTrips.P50), MaxBench)
	step("down")
	if w.Down, err = m.down(ctx); err != nil {
		return w, err
	}
	step("up")
	w.Up, err = m.up(ctx)
	return w, err
}

func service(name string) frame.OpenRequest {
	return frame.OpenRequest{Target: name, Protocol: benchProtocol}
}

// A measurement is of one connection.
type measurement struct {
	direct  *Direct
	session *transport.Session
	length  time.Duration
}

// on opens a flow, has it used, and ends it: one of the appliance's in order, so that nothing of it is on the way when the
// next begins.
func (m *measurement) on(ctx context.Context, req frame.OpenRequest, use func(*frame.Stream) error) error {
	s, _, err := m.session.Open(ctx, req, nil)
	if err != nil {
		return m.direct.reason(ctx, err)
	}
	over := func() { s.Reset(frame.Reason{Code: frame.Closed, Sentence: "the measurement is over"}) }
	defer context.AfterFunc(ctx, over)()
	if err = use(s); err == nil && req.Protocol == benchProtocol && ended(s) {
		s.Close()
	} else {
		over()
	}
	s.Wait()
	if err != nil {
		err = m.direct.reason(ctx, err)
	}
	return err
}

// ended ends our direction of a flow and says whether the other has ended in a while.
func ended(s *frame.Stream) bool {
	s.CloseWrite()
	s.SetReadDeadline(time.Now().Add(benchFarewell))
	_, err := io.Copy(io.Discard, s)
	return err == nil
}

// opens opens some flows, one after the other, and returns how long that took, and how long it took until an SSH server
// has said who it is: the medians.
func (m *measurement) opens(ctx context.Context, req frame.OpenRequest) (open, banner time.Duration, err error) {
	var opens, banners []time.Duration
	for range benchOpens {
		begin := time.Now()
		err := m.on(ctx, req, func(s *frame.Stream) error {
			opens = append(opens, time.Since(begin))
			if req.Protocol != "ssh" {
				return nil
			}
			s.SetReadDeadline(time.Now().Add(benchPatience))
			_, err := io.ReadFull(s, make([]byte, 1))
			banners = append(banners, time.Since(begin))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return frame.Refuse("E_NO_BANNER", fmt.Sprintf("%s accepts connections and says nothing", req.Target), "check what listens there")
			}
			return err
		})
		if err != nil {
			return 0, 0, err
		}
	}
	return percentile(opens, 50), percentile(banners, 50), nil
}

// roundTrips sends one byte after the other and times their return. The first does not count.
func (m *measurement) roundTrips(ctx context.Context) (r *RoundTrips, err error) {
	err = m.on(ctx, service("echo"), func(s *frame.Stream) error {
		var times []time.Duration
		one := []byte{1}
		for end := time.Now().Add(m.length); len(times) <= leastTrips || time.Now().Before(end); {
			begin := time.Now()
			s.SetDeadline(begin.Add(benchPatience))
			if _, err := s.Write(one); err != nil {
				return err
			}
			if _, err := io.ReadFull(s, one); err != nil {
				return err
			}
			times = append(times, time.Since(begin))
			if err := sleep(ctx, benchPace-times[len(times)-1]); err != nil {
				return err
			}
		}
		r = spreadOf(times[1:])
		return nil
	})
	return r, err
}

// down is how many bits a second arrive.
func (m *measurement) down(ctx context.Context) (rate int64, err error) {
	err = m.on(ctx, service("source"), func(s *frame.Stream) error {
		begin := time.Now()
		counts, end := begin.Add(m.length/bulkWarmup), begin.Add(m.length)
		s.SetReadDeadline(end)
		var bytes uint64
		for b := make([]byte, benchChunk); ; {
			n, err := s.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if time.Now().After(counts) {
				bytes += uint64(n)
			}
		}
		rate, err = m.rate(bytes, end.Sub(counts))
		return err
	})
	return rate, err
}

// up is how many bits a second the appliance takes, as it acknowledges them.
func (m *measurement) up(ctx context.Context) (rate int64, err error) {
	err = m.on(ctx, service("sink"), func(s *frame.Stream) error {
		begin := time.Now()
		s.SetWriteDeadline(begin.Add(m.length))
		var writing sync.WaitGroup
		defer writing.Wait() // whose flow ends with ctx
		var written error
		writing.Go(func() {
			for b := make([]byte, benchChunk); written == nil; {
				_, written = s.Write(b)
			}
		})
		if err := sleep(ctx, m.length/bulkWarmup); err != nil {
			return err
		}
		counts, before := time.Now(), s.Vitals().Acked
		if err := sleep(ctx, time.Until(begin.Add(m.length))); err != nil {
			return err
		}
		length, after := time.Since(counts), s.Vitals().Acked
		if writing.Wait(); !errors.Is(written, os.ErrDeadlineExceeded) {
			return written
		}
		rate, err = m.rate(after-before, length)
		return err
	})
	return rate, err
}

// rate is in bits a second. Nothing is no figure.
func (m *measurement) rate(bytes uint64, length time.Duration) (int64, error) {
	if bytes == 0 {
		return 0, frame.Refuse(frame.Lost, fmt.Sprintf("nothing arrived in %v", m.length), fmt.Sprintf("measure for longer: --time %v", MaxBench))
	}
	return int64(float64(bytes) * 8 / length.Seconds()), nil
}

// sleep sleeps, unless ctx ends.
func sleep(ctx context.Context, length time.Duration) error {
	select {
	case <-time.After(length):
		return ctx.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
