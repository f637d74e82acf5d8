package client

import (
	"time"

	"sallyport/frame"
)

// A bulk watches how fast a flow that is on QUIC moves bytes. One that moves much is tried on HTTPS, where a byte costs
// less, and stays there if that measures about as fast or faster. That happens once, and again only after the flow has
// lost its connection, for the way may be another then: a minute later, and later each time.
//
// Over a long way a QUIC connection that has once lost its pace, by a loss or a moment's delay, takes minutes to find it
// again, as TCP does not. There a flow that moves less, but all the time, is tried on HTTPS too, and stays if it becomes
// clearly faster.
//
//	watching → much for two spans  → trying → on HTTPS → settling, sampling → fast enough: stays
//	         → steady, and far off          → not to be had: done           → else: done, and back
type bulk struct {
	stage  stage
	since  time.Time // when the span that is measured began; zero: at the next look
	moved  uint64    // bytes by then
	much   int       // spans in a row with much to move
	steady int       // spans in a row in which something moved all the time, over a long way
	before float64   // bytes a second on QUIC, the best of those spans

	last    uint64 // bytes at the last look
	paused  bool   // between two looks of a sample nothing moved: that is not the transport's pace
	samples int    // that said nothing for that

	notBefore time.Time // after a loss
	pause     time.Duration
}

type stage int

const (
	watching stage = iota
	trying
	settling
	sampling
	stays
	done
)

const (
	bulkRate   = 16 << 20               // bytes a second that are much
	bulkSpan   = time.Second            // over which they are counted
	bulkSpans  = 2                      // in a row
	bulkSettle = 500 * time.Millisecond // a new connection gets to find its pace
	settleRTTs = 10                     // or so many round trips
	bulkSample = 2 * time.Second
	bulkAsGood = 0.95 // of the rate before: HTTPS leaves more of the appliance to others
	maxSamples = 5    // after which a flow that has so little to move stays

	farRTT   = 30 * time.Millisecond // of a long way
	farRate  = 256 << 10             // bytes a second that are worth a trial there
	farSpans = 5                     // in a row
	farGain  = 1.25                  // times the rate before, for less than bulkRate

	firstPause = time.Minute
	lastPause  = time.Hour
	tryBulkIn  = 2 * time.Second
)

// look takes how many bytes the flow has moved, both ways, and says whether it should move for that, and why.
func (b *bulk) look(now time.Time, moved uint64, onQUIC bool, rtt time.Duration) (frame.Why, bool) {
	if b.stage == watching && (!onQUIC || now.Before(b.notBefore)) || b.stage == trying || b.stage >= stays {
		return 0, false
	}
	if b.since.IsZero() {
		b.begin(now, moved)
		return 0, false
	}
	b.paused = b.paused || moved == b.last
	b.last = moved
	span := now.Sub(b.since)
	rate := float64(moved-b.moved) / span.Seconds()
	switch {
	case b.stage == watching && span >= bulkSpan:
		return b.count(rate, rtt, now, moved)
	case b.stage == settling && span >= max(bulkSettle, settleRTTs*rtt):
		b.stage = sampling
		b.begin(now, moved)
	case b.stage == sampling && span >= bulkSample:
		return b.judge(now, moved, rate)
	}
	return 0, false
}

// count takes the rate of a span on QUIC.
func (b *bulk) count(rate float64, rtt time.Duration, now time.Time, moved uint64) (frame.Why, bool) {
	much, steady := rate >= bulkRate, rtt >= farRTT && rate >= farRate && !b.paused
	b.begin(now, moved)
	if b.much++; !much {
		b.much = 0
	}
	if b.steady++; !steady {
		b.steady = 0
	}
	if !much && !steady {
		b.before = 0
		return 0, false
	}
	b.before = max(b.before, rate)
	if b.much < bulkSpans && b.steady < farSpans {
		return 0, false
	}
	b.stage = trying
	return frame.WhyBulk, true
}

// begin begins a span.
func (b *bulk) begin(now time.Time, moved uint64) {
	b.since, b.moved, b.last, b.paused = now, moved, moved, false
}

// judge takes the rate of a sample on HTTPS.
func (b *bulk) judge(now time.Time, moved uint64, rate float64) (frame.Why, bool) {
	enough := bulkAsGood * b.before
	if b.before < bulkRate {
		enough = farGain * b.before
	}
	if rate >= enough {
		b.stage = stays
		return 0, false
	}
	if !b.paused {
		b.stage = done
		return frame.WhySlower, true
	}
	if b.samples++; b.samples >= maxSamples {
		b.stage = stays
	}
	b.begin(now, moved)
	return 0, false
}

// tried notes whether the flow is on HTTPS now, as look wanted it.
func (b *bulk) tried(there bool) {
	if b.stage = done; there {
		b.stage, b.since = settling, time.Time{}
	}
}

// holds says that the flow is on HTTPS, for a trial or for good, and should not be called back to QUIC.
func (b *bulk) holds() bool { return b != nil && b.stage >= trying && b.stage <= stays }

// lost begins anew, but after a trial not at once: that may be what the connection was lost for.
func (b *bulk) lost(now time.Time) {
	if b == nil {
		return
	}
	next := bulk{notBefore: b.notBefore, pause: b.pause}
	if b.stage != watching {
		next.pause = min(max(firstPause, 2*b.pause), lastPause)
		next.notBefore = now.Add(next.pause)
	}
	*b = next
}
