package appliance

import (
	"context"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"sallyport/appliance/api"
	"sallyport/relay"
)

// How an appliance is, is measured so often and remembered for an hour: enough to see whether it gets worse. For more there
// is Prometheus.
const (
	healthEvery = 10 * time.Second
	healthKept  = int(time.Hour / healthEvery)
)

// health is what has been measured. Its zero value has measured nothing.
type health struct {
	mu       sync.Mutex
	began    time.Time
	samples  []api.HealthSample // the latest last
	up, down uint64             // bytes of flows that have ended
}

// ended counts the bytes of a flow that is open no more.
func (h *health) ended(r relay.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up += uint64(max(0, r.Up))
	h.down += uint64(max(0, r.Down))
}

// A reading is what counters said at a time.
type reading struct {
	at       time.Time
	flows    int
	up, down uint64
	cpu      float64 // seconds
}

// Measure keeps an eye on how the appliance is, until ctx ends. The function cpu says how many seconds of
// processor time the process has used.
func (g *Gateway) Measure(ctx context.Context, cpu func() float64) {
	before := g.reading(cpu)
	g.health.mu.Lock()
	g.health.began = before.at
	g.health.mu.Unlock()
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := g.reading(cpu)
		g.health.add(sample(before, now))
		before = now
	}
}

func (g *Gateway) reading(cpu func() float64) reading {
	g.health.mu.Lock()
	r := reading{at: time.Now(), up: g.health.up, down: g.health.down, cpu: cpu()}
	g.health.mu.Unlock()
	g.live.each(func(f *flow) {
		r.flows++
		if s := f.stream.Load(); s != nil && !f.ended.Load() {
			v := s.Vitals()
			r.up += v.Taken
			r.down += v.Acked
		}
	})
	return r
}

// sample is what has happened between two readings. A flow that ends just now may be missing in one of them.
func sample(before, now reading) api.HealthSample {
	took := now.at.Sub(before.at).Seconds()
	rate := func(before, now uint64) int64 {
		if now < before || took <= 0 {
			return 0
		}
		return int64(float64(now-before) * 8 / took)
	}
	s := api.HealthSample{Time: now.at.UTC(), Flows: now.flows, Up: rate(before.up, now.up), Down: rate(before.down, now.down), Memory: memory()}
	if took > 0 {
		s.CPU = (now.cpu - before.cpu) / took
	}
	return s
}

func (h *health) add(s api.HealthSample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == healthKept {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
	h.samples = append(h.samples, s)
}

// memory is what the process has of the system, but for what it has given back.
func memory() uint64 {
	read := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(read)
	return read[0].Value.Uint64() - read[1].Value.Uint64()
}

// health tells an administrator how the appliance is.
func (c call) health() (any, error) {
	h := &c.gateway.health
	h.mu.Lock()
	defer h.mu.Unlock()
	return api.Health{Version: c.gateway.Version, Since: h.began.UTC(), Every: healthEvery, CPUs: runtime.GOMAXPROCS(0), Samples: append([]api.HealthSample{}, h.samples...)}, nil
}
