package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/beevik/ntp"
)

const (
	timePoll     = 512 * time.Second // between two corrections; the kernel's loop is set to it
	timeRetry    = 5 * time.Second   // the first, after servers that have not answered; then ever later
	timeTimeout  = 5 * time.Second   // for an answer
	timeDistance = 1500 * time.Millisecond

	// timeAgree is how far a server may be from the median and still agree with it.
	timeAgree = time.Second
)

var errDisagree = errors.New("the servers disagree")

// keepTime asks the time servers of the configuration what time it is and tells the parent, until ctx ends.
func (d *daemon) keepTime(ctx context.Context) {
	if len(d.cfg.Time.Servers) == 0 {
		return
	}
	out := d.uplink()
	if out != nil {
		out.anywhere = true
	}
	list := ask{timeout: timeTimeout, dial: (&net.Dialer{}).DialContext}
	for _, s := range d.cfg.Time.Servers {
		address := withPort(s, "123")
		list.servers = append(list.servers, address)
		if out != nil {
			out.allow("ntp://" + address)
			list.dial = out.dial
		}
	}
	known, failing := false, false
	for retry := timeRetry; ; {
		offset, n, err := list.offset(ctx)
		if err == nil {
			err = d.supply.SetClock(offset)
		}
		if ctx.Err() != nil {
			return
		}
		wait := timePoll
		if err != nil {
			if !failing {
				d.log.Warn("the time servers are of no use now", "servers", d.cfg.Time.Servers, "cause", err)
			}
			wait, retry = retry, min(2*retry, timePoll)
		} else {
			if failing || !known {
				d.log.Info("the time is known", "servers", n, "offset", offset)
			}
			retry, known = timeRetry, true
		}
		failing = err != nil
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// withPort is a host, in whatever form, with a port.
func withPort(host, port string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(a.String(), port)
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, port)
}

// An ask is a question to NTP servers (RFC 5905), each of which is asked once.
type ask struct {
	servers []string // with ports
	timeout time.Duration
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// offset is by how much this machine's clock is behind, by the median of those n servers that have answered. Most of them
// must agree with it.
func (a ask) offset(ctx context.Context) (offset time.Duration, n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	offsets, faults := make([]time.Duration, len(a.servers)), make([]error, len(a.servers))
	var wg sync.WaitGroup
	for i, server := range a.servers {
		wg.Go(func() { offsets[i], faults[i] = a.one(ctx, server) })
	}
	wg.Wait()
	var good []time.Duration
	for i, fault := range faults {
		if fault == nil {
			good = append(good, offsets[i])
		}
	}
	if len(good) == 0 {
		return 0, 0, errors.Join(faults...)
	}
	slices.Sort(good)
	median := good[(len(good)-1)/2]
	agree := 0
	for _, o := range good {
		if max(o-median, median-o) <= timeAgree {
			agree++
		}
	}
	if agree*2 <= len(good) {
		return 0, len(good), fmt.Errorf("%w: %v", errDisagree, good)
	}
	return median, len(good), nil
}

// one asks one server, whose answer must make sense.
func (a ask) one(ctx context.Context, server string) (time.Duration, error) {
	answer, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: a.timeout, Dialer: func(_, remote string) (net.Conn, error) {
		c, err := a.dial(ctx, "udp", remote)
		if err == nil {
			context.AfterFunc(ctx, func() { c.Close() }) // when all have answered, or nobody waits any more
		}
		return c, err
	}})
	if err == nil {
		err = answer.Validate()
	}
	if err == nil && answer.RTT > timeDistance {
		err = fmt.Errorf("its answer took %v", answer.RTT)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", server, err)
	}
	return answer.ClockOffset, nil
}
