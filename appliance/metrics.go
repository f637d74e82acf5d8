package appliance

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/frame"
	"sallyport/relay"
)

// Metrics counts what a Gateway does. It is a prometheus.Collector; make it with NewMetrics.
type Metrics struct {
	signIns *prometheus.CounterVec
	opened  *prometheus.CounterVec
	refused *prometheus.CounterVec
	ended   *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	breaks  *prometheus.CounterVec
	skipped prometheus.Counter
	opening prometheus.Histogram
	live    prometheus.Gauge
	resumes *prometheus.CounterVec
	without prometheus.Gauge
	cached  prometheus.Counter
}

// NewMetrics returns metrics at zero. No label holds a person's or a target's name: those are the audit's.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sallyport", Name: name, Help: help}, labels)
	}
	return &Metrics{
		signIns: counter("sign_ins_total", "HELLOs decided, by transport and result (ok, or the error's code).", "transport", "result"),
		opened:  counter("flows_opened_total", "Flows opened, by VNet, protocol and transport.", "vnet", "protocol", "transport"),
		refused: counter("flows_refused_total", "Flows refused, by the error's code.", "code"),
		ended:   counter("flows_ended_total", "Flows ended, by cause (ended, or the error's code).", "cause"),
		bytes:   counter("flow_bytes_total", "Bytes relayed by flows that have ended, up from the client and down to it.", "direction"),
		breaks:  counter("protocol_errors_total", "Connections and flows closed because their client broke the protocol, by the error's code.", "code"),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sallyport", Name: "frames_skipped_total",
			Help: "Optional frames of flows that this version does not know, and skipped."}),
		opening: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "sallyport", Name: "flow_open_seconds",
			Help: "Time from OPEN to OPENED: decision, lookup and dial.", Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10}}),
		live:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sallyport", Name: "flows_live", Help: "Flows that are open now."}),
		resumes: counter("flow_resumes_total", "Flows that came back on another connection, by its transport and result (ok, or the error's code).", "transport", "result"),
		cached: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sallyport", Name: "grants_used_total",
			Help: "Flows that a grant of before has opened while the database did not answer."}),
		without: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sallyport", Name: "flows_detached", Help: "Open flows that have no connection now."}),
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.signIns, m.opened, m.refused, m.ended, m.bytes, m.breaks, m.skipped, m.opening, m.live, m.resumes, m.without, m.cached}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(c chan<- *prometheus.Desc) {
	for _, one := range m.all() {
		one.Describe(c)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(c chan<- prometheus.Metric) {
	for _, one := range m.all() {
		one.Collect(c)
	}
}

func (m *Metrics) signIn(transport, result string) {
	if m != nil {
		m.signIns.WithLabelValues(transport, result).Inc()
	}
}

func (m *Metrics) flowOpened(f *flow) {
	if m != nil {
		m.opened.WithLabelValues(f.grant.VNet, f.grant.Protocol, f.peer.Transport).Inc()
		m.opening.Observe(time.Since(f.begun).Seconds())
		m.live.Inc()
	}
}

// known is a label's value: codes that a client makes up are one.
func known(result string) string {
	if result == "ok" || result == "ended" || frame.Code(result).Known() {
		return result
	}
	return string(frame.Internal)
}

func (m *Metrics) resumed(transport, result string) {
	if m != nil {
		m.resumes.WithLabelValues(transport, known(result)).Inc()
	}
}

func (m *Metrics) waiting(flows int) {
	if m != nil {
		m.without.Set(float64(flows))
	}
}

func (m *Metrics) flowRefused(code string) {
	if m != nil {
		m.refused.WithLabelValues(code).Inc()
	}
}

func (m *Metrics) grantUsed() {
	if m != nil {
		m.cached.Inc()
	}
}

func (m *Metrics) breach(code frame.Code) {
	if m != nil {
		m.breaks.WithLabelValues(string(code)).Inc()
	}
}

func (m *Metrics) frameSkipped(frame.Type) {
	if m != nil {
		m.skipped.Inc()
	}
}

func (m *Metrics) flowEnded(r relay.Result, cause string) {
	if m != nil {
		m.live.Dec()
		m.ended.WithLabelValues(known(cause)).Inc()
		m.bytes.WithLabelValues("up").Add(float64(r.Up))
		m.bytes.WithLabelValues("down").Add(float64(r.Down))
	}
}
