package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/netstack"
)

// serveMetrics answers Prometheus on l until ctx ends.
func (d *daemon) serveMetrics(ctx context.Context, l net.Listener) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(d.gateway.Metrics, trailCollector{d.trail.Log}, storeCollector{d.storeHealth()}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for name, n := range d.networks {
		if s, ok := n.(counted); ok {
			registry.MustRegister(newStackCollector(name, s))
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// counted is a network that counts.
type counted interface{ Stats() netstack.Stats }

// A stackCollector shows what a VNet's stack counts.
type stackCollector struct {
	stack   counted
	metrics []stackMetric
}

type stackMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(netstack.Stats) uint64
}

func newStackCollector(vnet string, s counted) *stackCollector {
	c := &stackCollector{stack: s}
	add := func(name, help string, kind prometheus.ValueType, value func(netstack.Stats) uint64) {
		desc := prometheus.NewDesc("sallyport_vnet_"+name, help, nil, prometheus.Labels{"vnet": vnet})
		c.metrics = append(c.metrics, stackMetric{desc, kind, value})
	}
	count := prometheus.CounterValue
	add("up", "1 while flows are possible: the link carries packets and the appliance has an address.", prometheus.GaugeValue, func(s netstack.Stats) uint64 {
		if s.Up {
			return 1
		}
		return 0
	})
	add("dials_total", "Connections asked for.", count, func(s netstack.Stats) uint64 { return s.Dials })
	add("denied_total", "Connections refused by the fence.", count, func(s netstack.Stats) uint64 { return s.Denied })
	add("escaped_packets_total", "Packets that passed the fence and were dropped at the link; always 0, or there is a bug.", count, func(s netstack.Stats) uint64 { return s.Escaped })
	add("connections", "TCP connections now.", prometheus.GaugeValue, func(s netstack.Stats) uint64 { return s.Connected })
	add("failed_total", "TCP connections that did not come about.", count, func(s netstack.Stats) uint64 { return s.Failed })
	add("retransmits_total", "TCP segments sent again.", count, func(s netstack.Stats) uint64 { return s.Retransmits })
	add("timed_out_total", "TCP connections whose peer fell silent.", count, func(s netstack.Stats) uint64 { return s.TimedOut })
	add("received_bytes_total", "Bytes of frames received.", count, func(s netstack.Stats) uint64 { return s.Link.RxBytes })
	add("sent_bytes_total", "Bytes of frames sent.", count, func(s netstack.Stats) uint64 { return s.Link.TxBytes })
	add("dropped_frames_total", "Frames dropped in either direction.", count, func(s netstack.Stats) uint64 { return s.Link.RxDropped + s.Link.TxDropped })
	add("missed_frames_total", "Frames that the kernel dropped since the appliance did not read them in time.", count, func(s netstack.Stats) uint64 { return s.Link.RxMissed })
	return c
}

// Describe implements prometheus.Collector.
func (c *stackCollector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *stackCollector) Collect(out chan<- prometheus.Metric) {
	stats := c.stack.Stats()
	for _, m := range c.metrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(stats)))
	}
}
