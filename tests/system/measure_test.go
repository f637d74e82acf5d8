package system

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/client"
	"sallyport/tests/chaoslink/wire"
)

// TestMeasure: sallyport bench finds what a way is made of, over both transports, and what lies behind the appliance; it
// tells apart what is not to be had from who may not have it.
func TestMeasure(t *testing.T) {
	b, link := throughWire(t, settings{extra: "metrics: {listen: \"127.0.0.1:9090\"}\n"})
	set := func(d wire.Direction, mbit int) {
		t.Helper()
		if err := link.Set(d, wire.Impairment{Delay: cable.Delay, Rate: mbit * 1e6 / 8}); err != nil {
			t.Fatal(err)
		}
	}
	set(wire.Down, 100)
	set(wire.Up, 10)
	measure := func(args ...string) (report client.BenchReport) {
		t.Helper()
		r := b.client(append([]string{"bench", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(r.stdout), &report); r.exit != 0 || r.stderr != "" || err != nil {
			t.Fatalf("%v: %v", err, r)
		}
		return report
	}
	within := func(what string, got, least, most float64) {
		t.Helper()
		if got < least || got > most {
			t.Errorf("%s: %.1f, want %.1f to %.1f", what, got, least, most)
		}
	}
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

	report := measure("--time", "300ms", "db-1")
	for i, transport := range transports {
		w := report.Ways[i]
		t.Logf("%+v %+v", w, w.RoundTrips)
		if w.Transport != transport || w.Failure != nil {
			t.Fatalf("%+v", w)
		}
		// Frames and packets around the bytes take some of the way, and QUIC may leave slow start long before it is filled.
		within(transport+" down, Mbit/s", float64(w.Down)/1e6, 10, 100)
		within(transport+" up, Mbit/s", float64(w.Up)/1e6, 2, 10)
		within(transport+" round trip, ms", milliseconds(w.RoundTrips.P50), 20, 40)
		within(transport+" jitter, ms", milliseconds(w.RoundTrips.Jitter), 0, 10)
		within(transport+" opening a flow, ms", milliseconds(w.Open), 20, 150)
		within(transport+" behind the appliance, ms", milliseconds(w.Target-w.Open), -30, 50)
		within(transport+" until sshd says who it is, ms", milliseconds(w.Banner-w.Target), 0, 500)
	}
	if !strings.HasPrefix(report.Verdict, "Good for typing and remote desktops. Large files will take their time: ") {
		t.Errorf("the verdict is %q", report.Verdict)
	}
	if n := b.counted(`sallyport_flows_opened_total{protocol="bench",transport="quic",vnet=""}`); n != 6 {
		t.Errorf("%d flows are counted", n)
	}
	b.logged(" target=sink protocol=bench rule=bench transport=https up=")
	if r := b.client("bench", "db-1", "--time", "100ms"); r.exit != 0 || !strings.Contains(r.stdout, "\nits SSH banner ") {
		t.Errorf("for people: %v", r)
	} else {
		t.Logf("\n%s", r.stdout)
	}

	// UDP is dropped without a word.
	b.Block("udp", 443)
	report = measure("--time", "300ms")
	if quic, https := report.Ways[0], report.Ways[1]; quic.Failure == nil || quic.Failure.Code != "E_NO_PATH" ||
		!strings.Contains(quic.Failure.Tried[0], "no answer after ") || https.Failure != nil || https.Down == 0 {
		t.Errorf("%+v", report)
	}
	b.Unblock("udp", 443)

	bob := filepath.Join(b.Dir, "bob")
	b.enrol("bob", bob)
	if r := b.as(bob, "", "bench", "--time", "100ms"); r.exit != 11 || r.stdout != "" ||
		!says("you may not measure your way to this appliance", "hint: ask an administrator to add you to bench in access.yaml").MatchString(r.stderr) {
		t.Errorf("bob measures: %v", r)
	}
}
