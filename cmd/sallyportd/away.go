package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/appliance"
	"sallyport/appliance/auth"
	"sallyport/appliance/store"
	"sallyport/frame"
	"sallyport/transport"
)

// Waiting for the database at the start: at first a moment, then ever longer.
const (
	firstWait = 250 * time.Millisecond
	longWait  = 5 * time.Second
)

var errNoDatabase = errors.New("the database has not answered since the start")

// openStore opens the database. One that does not answer is waited for until ctx ends, and people who come meanwhile are
// told so: a daemon that exits would only be started again.
func (d *daemon) openStore(ctx context.Context) (*store.Store, error) {
	s, err := store.Open(ctx, d.storeConfig())
	if errors.Is(err, store.ErrLater) && d.cfg.Store.URL == "" {
		// A later version was tried, and has given up before it was found good: what it did to the tables goes too.
		back, fault := store.Back(d.supply.State())
		if fault != nil {
			return nil, errors.Join(err, fault)
		}
		if back {
			d.log.Warn("the database is the one from before a later version was tried; what was changed during the trial is lost")
			s, err = store.Open(ctx, d.storeConfig())
		}
	}
	if !errors.Is(err, store.ErrDown) || d.cfg.Store.URL == "" {
		return s, err
	}
	begin := time.Now()
	d.log.Warn("waiting for the database: nobody can connect before it answers", "cause", err)
	waiting, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if err := d.serveWaiting(waiting, &wg); err != nil {
		return nil, err
	}
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
		if s, err = store.Open(ctx, d.storeConfig()); !errors.Is(err, store.ErrDown) {
			d.log.Info("the database has answered", "waited", time.Since(begin).Round(time.Millisecond))
			return s, err
		}
	}
}

// serveWaiting answers where people come in, and where Prometheus does, until ctx ends.
func (d *daemon) serveWaiting(ctx context.Context, wg *sync.WaitGroup) error {
	tcp, udp, err := d.listen()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "waiting for the database", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { // whoever opens the portal meanwhile
		w.Header().Set("Retry-After", "5")
		http.Error(w, waits+"; try again in a moment", http.StatusServiceUnavailable)
	})
	server := &transport.Server{Handler: waitingRoom{}, Identity: signer{d.identity}, Certificate: d.show, Software: software(), HTTP: mux,
		MaxPending: d.cfg.Limits.Unauthenticated, Balancers: d.cfg.Listen.ProxyProtocol}
	run := func(name string, serve func() error) {
		wg.Go(func() {
			if err := serve(); err != nil {
				d.log.Warn("nobody is told that the database is waited for", "listener", name, "cause", err)
			}
		})
	}
	run("https", func() error { defer tcp.Close(); return server.ServeHTTPS(ctx, tcp) })
	run("quic", func() error { defer udp.Close(); return server.ServeQUIC(ctx, udp) })
	if d.cfg.Metrics.Listen != "" {
		l, err := d.supply.Listener("metrics")
		if err != nil {
			return fmt.Errorf("listen for metrics: %w", err)
		}
		run("metrics", func() error { defer l.Close(); return d.serveMetrics(ctx, l) })
	}
	return nil
}

const waits = "the appliance has started and waits for its database"

// waitingRoom lets nobody in.
type waitingRoom struct{}

func (waitingRoom) Admit(context.Context, *frame.Hello, *frame.Peer) (*frame.Welcome, error) {
	return nil, &frame.SessionError{Reason: frame.Reason{Code: frame.Code(auth.ErrControlDown.Code),
		Sentence: waits, Hint: "try again in a moment"}}
}

func (waitingRoom) Flow(_ context.Context, c frame.Carrier, _ frame.Peer) { c.Close() }

// control is what the gateway asks while the database is away.
func (d *daemon) control() *appliance.Control {
	down := func() error {
		_, err := d.store.Health()
		return err
	}
	control := &appliance.Control{Down: down, Cache: d.cfg.Grants.Cache}
	if d.cfg.Store.URL != "" { // a file of the appliance's own is not away by itself
		control.Key = d.identity
	}
	return control
}

// storeHealth says since when the database does not answer, and why.
func (d *daemon) storeHealth() func() (time.Time, error) {
	if d.store != nil {
		return d.store.Health
	}
	begin := time.Now()
	return func() (time.Time, error) { return begin, errNoDatabase }
}

// A storeCollector shows whether the database answers.
type storeCollector struct{ health func() (time.Time, error) }

var (
	storeUp   = prometheus.NewDesc("sallyport_store_up", "1 while the database answers; while it does not, new sessions are paused.", nil, nil)
	storeDown = prometheus.NewDesc("sallyport_store_down_seconds", "For how long the database has not answered; 0 while it does.", nil, nil)
)

// Describe implements prometheus.Collector.
func (storeCollector) Describe(out chan<- *prometheus.Desc) {
	out <- storeUp
	out <- storeDown
}

// Collect implements prometheus.Collector.
func (c storeCollector) Collect(out chan<- prometheus.Metric) {
	since, err := c.health()
	away := 0.0
	if err != nil {
		away = time.Since(since).Seconds()
	}
	out <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, boolean(err == nil))
	out <- prometheus.MustNewConstMetric(storeDown, prometheus.GaugeValue, away)
}
