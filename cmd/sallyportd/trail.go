package main

import (
	"crypto/ed25519"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/config"
)

// trail is the audit log as the gateway sees it.
type trail struct {
	*audit.Log
	folder fs.FS
}

func (t trail) Read(f audit.Filter) iter.Seq2[audit.Event, error] { return audit.Read(t.folder, f) }

// openTrail opens the audit log.
func (d *daemon) openTrail() error {
	key, err := auth.OpenAuditKey(d.supply.State())
	if err != nil {
		return err
	}
	d.auditKey = key.Public().(ed25519.PublicKey)
	c, dir := d.cfg.Audit, filepath.Join(d.supply.State(), "audit")
	settings := audit.Config{Dir: dir, Key: key, Name: d.cfg.Name, Sync: c.Sync, Keep: time.Duration(c.KeepDays) * 24 * time.Hour,
		KeepBytes: int64(c.KeepMB) << 20, Log: d.log}
	if c.Wait {
		settings.Sync = -1
	}
	if d.trail.Log, err = audit.Open(settings); err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	d.trail.folder = os.DirFS(dir)
	d.write(audit.Event{Kind: audit.DaemonStart, Client: software()})
	return nil
}

// write writes an event that tells of what happens in any case.
func (d *daemon) write(e audit.Event) {
	if err := d.trail.Write(e); err != nil {
		d.log.Error("an event is not in the audit log", "event", e.Kind, "object", e.Object, "user", e.User, "cause", err)
	}
}

// passOn begins to pass the audit log on to its receivers, which may lie behind any of the appliance's networks.
func (d *daemon) passOn() error {
	for _, e := range d.cfg.Audit.Export {
		sink, err := d.sink(e)
		if err == nil {
			err = d.trail.Export(e.Name, sink)
		}
		if err != nil {
			return fmt.Errorf("audit receiver %s: %w", e.Name, err)
		}
	}
	return nil
}

// sink makes a receiver of the audit log, which is reached by the uplink.
func (d *daemon) sink(e config.Export) (audit.Sink, error) {
	out := d.uplink()
	var dial audit.Dial
	if out != nil {
		out.allow(e.Webhook, e.OTLP, "syslog://"+e.Syslog)
		dial = out.dial
	}
	trust := audit.TLS{CA: e.CA}
	switch {
	case e.Database:
		return databaseSink{d.store, d.cfg.Name}, nil
	case e.File != "":
		return audit.File{Path: e.File}.Open()
	case e.Syslog != "":
		return audit.Syslog{Address: e.Syslog, TLS: trust, Dial: dial}.Open()
	case e.Webhook != "":
		return audit.Webhook{URL: e.Webhook, TokenFile: e.TokenFile, TLS: trust, Dial: dial}.Open()
	default:
		return audit.OTLP{URL: e.OTLP, TokenFile: e.TokenFile, TLS: trust, Dial: dial, Log: d.log}.Open()
	}
}

// A trailCollector shows whether the audit log is written, and how far its receivers are.
type trailCollector struct{ *audit.Log }

var (
	trailTrouble = prometheus.NewDesc("sallyport_audit_trouble", "1 while events cannot be written, and sessions are refused for it.", nil, nil)
	trailEvents  = prometheus.NewDesc("sallyport_audit_lines", "The number of the last line of the audit log.", nil, nil)
	trailLag     = prometheus.NewDesc("sallyport_audit_export_lag", "Lines of the audit log that a receiver has not been passed.", []string{"receiver"}, nil)
	trailFailing = prometheus.NewDesc("sallyport_audit_export_failing", "1 while a receiver does not take what it is passed.", []string{"receiver"}, nil)
	trailLost    = prometheus.NewDesc("sallyport_audit_export_lost", "Lines that were removed before a receiver had them, since the start.", []string{"receiver"}, nil)
)

// Describe implements prometheus.Collector.
func (c trailCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{trailTrouble, trailEvents, trailLag, trailFailing, trailLost} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c trailCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(trailTrouble, boolean(c.Trouble() != nil))
	gauge(trailEvents, float64(c.Last()))
	for _, e := range c.Exports() {
		gauge(trailLag, float64(e.Lag), e.Name)
		gauge(trailFailing, boolean(e.Err != nil), e.Name)
		gauge(trailLost, float64(e.Lost), e.Name)
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// closeTrail writes that the daemon stops, and closes the audit log.
func (d *daemon) closeTrail() {
	if d.trail.Log == nil {
		return
	}
	d.write(audit.Event{Kind: audit.DaemonStop})
	if err := d.trail.Close(); err != nil {
		d.log.Error("the audit log was not closed in order", "cause", err)
	}
}
