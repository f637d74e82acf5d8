package transport

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var remote = netip.MustParseAddrPort("203.0.113.9:443")

// remembering is a Memory of a computer with one address, which the test may change.
func remembering(address string) (*Memory, *netip.Addr) {
	local := netip.MustParseAddr(address)
	return &Memory{local: func(netip.AddrPort) netip.Addr { return local }}, &local
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, local := remembering("192.0.2.7")
		expect := func(what, want string) {
			t.Helper()
			if got := m.winner("bastion:443"); got != want {
				t.Errorf("%s: %q won, not %q", what, got, want)
			}
		}
		expect("at first", "")
		m.note("bastion:443", remote, "https")
		expect("at once", "https")
		*local = netip.MustParseAddr("192.0.2.200")
		expect("another address of the network", "https")
		*local = netip.MustParseAddr("192.0.3.7")
		expect("another network", "")
		m.note("bastion:443", remote, "quic")
		expect("in it", "quic")
		*local = netip.MustParseAddr("192.0.2.7")
		expect("back", "https")
		if got := m.winner("other:443"); got != "" {
			t.Errorf("another appliance: %q", got)
		}

		time.Sleep(6 * time.Minute)
		m.note("bastion:443", remote, "https") // repeats, and does not prolong
		time.Sleep(4*time.Minute - time.Second)
		expect("just before ten minutes", "https")
		time.Sleep(time.Second)
		expect("after ten minutes", "")

		*local = netip.MustParseAddr("2001:db8:1:2:3::4")
		m.note("bastion:443", remote, "https")
		*local = netip.MustParseAddr("2001:db8:1:2:5::6")
		expect("the same /64", "https")
		*local = netip.MustParseAddr("2001:db8:1:3::")
		expect("another /64", "")
		*local = netip.Addr{}
		m.note("bastion:443", remote, "quic")
		expect("no network at all", "")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	m, local := remembering("10.0.0.1")
	changes := 0
	m.Changed = func(w []Win) { changes = len(w) }
	for i := range 2 * maxWins {
		*local = netip.AddrFrom4([4]byte{10, 0, byte(i), 1})
		m.note("bastion:443", remote, "https")
	}
	if got := len(m.Wins()); got != maxWins || changes != maxWins {
		t.Errorf("%d remembered, %d told", got, changes)
	}
	next, _ := remembering("10.0.63.1")
	next.Restore(m.Wins())
	if got := next.winner("bastion:443"); got != "https" {
		t.Errorf("restored: %q", got)
	}
	next.Restore([]Win{{Appliance: "bastion:443", At: time.Now().Add(time.Hour)}})
	if got := next.Wins(); len(got) > 0 {
		t.Errorf("of the future: %v", got)
	}
}

// lane is a contender that takes so long and ends with err.
func lane(name string, takes time.Duration, err error, begun chan<- string) contender {
	return contender{name, func(ctx context.Context) (*Session, error) {
		begun <- name
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		return &Session{Transport: name, close: func() {}}, nil
	}}
}

func TestRace(t *testing.T) {
	refused := errors.New("refused")
	for _, tt := range []struct {
		name          string
		first, second time.Duration
		firstErr      error
		secondErr     error
		won, begun    string
		took          time.Duration
	}{
		{"the first answers", 100 * time.Millisecond, 0, nil, nil, "a", "a", 100 * time.Millisecond},
		{"the first stalls", time.Hour, 100 * time.Millisecond, nil, nil, "b", "a b", 350 * time.Millisecond},
		{"the first fails", 10 * time.Millisecond, 100 * time.Millisecond, refused, nil, "b", "a b", 110 * time.Millisecond},
		{"the first is slow and still faster", 300 * time.Millisecond, time.Second, nil, nil, "a", "a b", 300 * time.Millisecond},
		{"both fail", 10 * time.Millisecond, 100 * time.Millisecond, refused, refused, "", "a b", 110 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lanes := make(chan string, 2)
				begin := time.Now()
				s, err := race(t.Context(), "bastion:443", []contender{
					lane("a", tt.first, tt.firstErr, lanes), lane("b", tt.second, tt.secondErr, lanes)})
				took, won := time.Since(begin), ""
				synctest.Wait() // for the loser
				close(lanes)
				var begun []string
				for name := range lanes {
					begun = append(begun, name)
				}
				if err == nil {
					won = s.Transport
				}
				if won != tt.won || strings.Join(begun, " ") != tt.begun || took != tt.took {
					t.Errorf("%q won of %v after %v, %v", won, begun, took, err)
				}
			})
		})
	}
}

// TestOrder: Dial begins with the transport that is remembered, and a pinned transport has no other beside it.
func TestOrder(t *testing.T) {
	m, local := remembering("192.0.2.7")
	m.note("bastion:443", remote, "https")
	names := func(c *Client) (list []string) {
		for _, lane := range c.order() {
			list = append(list, lane.name)
		}
		return list
	}
	for _, tt := range []struct {
		mode    Mode
		network string
		want    []string
	}{
		{Auto, "192.0.2.7", []string{"https", "quic"}},
		{"", "192.0.2.7", []string{"https", "quic"}},
		{Auto, "198.51.100.1", []string{"quic", "https"}},
		{QUIC, "192.0.2.7", []string{"quic"}},
		{HTTPS, "198.51.100.1", []string{"https"}},
	} {
		*local = netip.MustParseAddr(tt.network)
		if got := names(&Client{Address: "bastion:443", Mode: tt.mode, Memory: m}); !slices.Equal(got, tt.want) {
			t.Errorf("%s from %s: %v", tt.mode, tt.network, got)
		}
	}
	if got := names(&Client{Address: "bastion:443"}); !slices.Equal(got, []string{"quic", "https"}) {
		t.Errorf("without a memory: %v", got)
	}
	c := &Client{Address: "bastion:443", Memory: m}
	*local = netip.MustParseAddr("192.0.2.7")
	if c.Stale(&Session{Transport: "https"}) || c.Stale(&Session{Transport: "quic"}) {
		t.Error("a session is stale at once")
	}
	*local = netip.MustParseAddr("198.51.100.1")
	if !c.Stale(&Session{Transport: "https"}) || c.Stale(&Session{Transport: "quic"}) {
		t.Error("in another network only HTTPS is stale")
	}
}
