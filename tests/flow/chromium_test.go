package flow_test

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/tests/chaoslink/chaos"
	"sallyport/tests/chromium"
)

// asleep is for how long a page sleeps; as long as SALLYPORT_SOAK says, if it does. In the first 30 seconds the appliance does
// not notice.
func asleep(t *testing.T) time.Duration {
	text := os.Getenv("SALLYPORT_SOAK")
	if text == "" {
		return 5 * time.Second
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return min(long, time.Minute)
}

// browse opens the site's page, which becomes a device.
func (s *site) browse() *chromium.Browser {
	s.t.Helper()
	s.page = script(s.t, "page.ts")
	b := chromium.New(s.t)
	b.Call("Page.enable", nil)
	b.Call("Page.navigate", map[string]any{"url": s.origin + "/"})
	b.Until("window.seen?.said === 'ready'", 30*time.Second)
	s.t.Cleanup(func() {
		if broken := b.Run("JSON.stringify(seen.broken)"); broken != "[]" {
			s.t.Errorf("the page breaks its policy: %s", broken)
		}
	})
	return b
}

// TestChromium: in a browser, too, nothing is lost, doubled or moved, however often the connection breaks.
func TestChromium(t *testing.T) {
	s := newSite(t)
	b := s.browse()
	b.Run(fmt.Sprintf("go('exchange', %d, %d, %d, %d)", s.echo, size, piece, pause))
	var wg sync.WaitGroup
	s.breakLink(&wg)
	b.Until("seen.said.startsWith('{')", 90*time.Second)
	wg.Wait()
	var o outcome
	if err := json.Unmarshal([]byte(b.Run("seen.said")), &o); err != nil {
		t.Fatal(err)
	}
	o.check(t, size)
}

// goesOn says that what the target says arrives, whole, and how many connections the flow has had.
func goesOn(t *testing.T, b *chromium.Browser) (attached string) {
	t.Helper()
	before := b.Run("seen.received")
	b.Until(fmt.Sprintf("seen.received > %s + 65536 && seen.state === 'open'", before), time.Minute)
	if wrong := b.Run("seen.wrong"); wrong != "-1" {
		t.Errorf("byte %s is wrong", wrong)
	}
	return b.Run("seen.attached")
}

// TestRestart: a flow of a browser goes on when the transport is another one.
func TestRestart(t *testing.T) {
	s := newSite(t)
	b := s.browse()
	b.Run(fmt.Sprintf("go('watch', %d)", s.counter))
	for i := range 3 {
		if attached := goesOn(t, b); attached != fmt.Sprint(i+1) {
			t.Errorf("the flow has had %s connections, not %d", attached, i+1)
		}
		s.restart()
	}
	goesOn(t, b)
	b.Run("flow.close()")
	b.Until("seen.state === 'ended'", 20*time.Second)
}

// TestAsleep: a page that slept goes on where it was, also when its connection broke meanwhile.
func TestAsleep(t *testing.T) {
	s := newSite(t)
	b := s.browse()
	b.Run(fmt.Sprintf("go('watch', %d)", s.counter))
	long := asleep(t)
	for _, cut := range []bool{false, true} {
		goesOn(t, b)
		b.Call("Page.setWebLifecycleState", map[string]any{"state": "frozen"})
		if cut {
			s.link.Do(chaos.Fault{Kind: chaos.Cut})
		}
		time.Sleep(long)
		s.link.Do(chaos.Fault{Kind: chaos.Pass})
		b.Call("Page.setWebLifecycleState", map[string]any{"state": "active"})
		begun := time.Now()
		attached := goesOn(t, b)
		t.Logf("asleep for %v, cut %v: goes on after %v, %s connections: %s", long, cut, time.Since(begun).Round(time.Millisecond), attached, b.Run("seen.lost.join()"))
	}
}

// TestSilence: a link that swallows what passes without a word is noticed, and left for another connection.
func TestSilence(t *testing.T) {
	s := newSite(t)
	b := s.browse()
	b.Run(fmt.Sprintf("go('watch', %d)", s.counter))
	goesOn(t, b)
	s.link.Do(chaos.Fault{Kind: chaos.HalfOpen})
	b.Until("seen.state === 'lost'", 20*time.Second)
	s.link.Do(chaos.Fault{Kind: chaos.Pass})
	if attached := goesOn(t, b); attached == "1" {
		t.Error("the flow is on the connection that was silent")
	}
}

// TestRevoked: who takes a browser's right away ends its flows, with a reason that the page has.
func TestRevoked(t *testing.T) {
	s := newSite(t)
	b := s.browse()
	b.Run(fmt.Sprintf("go('watch', %d)", s.counter))
	goesOn(t, b)
	for _, d := range s.devices.List() {
		if err := s.devices.Revoke(d.ID); err != nil {
			t.Fatal(err)
		}
		s.gateway.EndDevice(d.ID, fmt.Errorf("revoked"))
	}
	b.Until("seen.state === 'ended'", 20*time.Second)
	t.Logf("the page says %q", b.Run("seen.said"))
	if s.book.count(audit.FlowEnd) != 1 {
		t.Error("the audit log has no end of the flow")
	}
}
