package netstack

import (
	"sync/atomic"

	"sallyport/netstack/link"
)

// counts are what a stack counts itself.
type counts struct{ dials, denied atomic.Uint64 }

// Stats is what a stack has seen since it was made.
type Stats struct {
	Name    string
	Up      bool   // flows are possible: the link carries packets, and there is an address
	Dials   uint64 // flows asked for
	Denied  uint64 // of these, refused by the fence
	Escaped uint64 // packets that passed the fence and were dropped at the link: always 0, or there is a bug
	Muted   uint64 // answers to strangers that were dropped at the link

	Connected   uint64 // TCP connections now
	Opened      uint64 // TCP connections out that were tried
	Failed      uint64 // of these, without success
	Resets      uint64 // RST received
	Retransmits uint64
	TimedOut    uint64 // connections whose peer fell silent

	Link link.Stats
}

// Stats reads the counters.
func (s *Stack) Stats() Stats {
	tcp := s.stack.Stats().TCP
	return Stats{
		Name:        s.name,
		Up:          s.Err() == nil,
		Dials:       s.counts.dials.Load(),
		Denied:      s.counts.denied.Load(),
		Escaped:     s.guard.escaped.Load(),
		Muted:       s.guard.muted.Load(),
		Connected:   tcp.CurrentConnected.Value(),
		Opened:      tcp.ActiveConnectionOpenings.Value(),
		Failed:      tcp.FailedConnectionAttempts.Value(),
		Resets:      tcp.ResetsReceived.Value(),
		Retransmits: tcp.Retransmits.Value(),
		TimedOut:    tcp.EstablishedTimedout.Value(),
		Link:        s.guard.Stats(),
	}
}
