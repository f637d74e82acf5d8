package transport

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Memory knows which transport has lately won the race to an appliance from a network, so that the next race begins
// with it. Its zero value is empty; a nil Memory remembers nothing.
type Memory struct {
	// Changed is told what is remembered when that has changed; may be nil.
	Changed func([]Win)

	mu    sync.Mutex
	wins  []Win                           // the latest last
	local func(netip.AddrPort) netip.Addr // tests' own; nil: LocalAddr
}

// A Win says which transport reached an appliance from a network.
type Win struct {
	Appliance string         `json:"appliance"` // host:port
	Network   netip.Prefix   `json:"network"`   // of the address that this computer used
	Remote    netip.AddrPort `json:"remote"`    // of the appliance, or of its proxy
	Transport string         `json:"transport"`
	At        time.Time      `json:"at"`
}

const (
	// memorySpan is how long a win counts: so long a network that lets UDP through again is not tried, and so rarely one
	// that does not costs the head start.
	memorySpan = 10 * time.Minute

	maxWins = 32
)

// Wins returns what is remembered and still counts.
func (m *Memory) Wins() []Win {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age()
	return slices.Clone(m.wins)
}

// Restore remembers what Wins returned earlier.
func (m *Memory) Restore(wins []Win) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wins = slices.Clone(wins)
	m.age()
}

// age forgets what does not count any more. The caller holds mu.
func (m *Memory) age() {
	now := time.Now()
	m.wins = slices.DeleteFunc(m.wins, func(w Win) bool { return now.Sub(w.At) >= memorySpan || w.At.After(now) })
	m.wins = m.wins[max(0, len(m.wins)-maxWins):]
}

// winner is the transport that won lately from the network that the appliance would be reached from now, or "".
func (m *Memory) winner(appliance string) string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age()
	for _, w := range slices.Backward(m.wins) {
		if w.Appliance == appliance && w.Network == m.network(w.Remote) {
			return w.Transport
		}
	}
	return ""
}

// note remembers a win. One that only repeats another does not make it count for longer, or a network that lets UDP
// through again would never be tried.
func (m *Memory) note(appliance string, remote netip.AddrPort, transport string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age()
	win := Win{appliance, m.network(remote), remote, transport, time.Now()}
	same := func(w Win) bool { return w.Appliance == appliance && w.Network == win.Network }
	if i := slices.IndexFunc(m.wins, same); i >= 0 && m.wins[i].Transport == transport || !win.Network.IsValid() {
		return
	}
	m.wins = append(slices.DeleteFunc(m.wins, same), win)
	m.age()
	if m.Changed != nil {
		m.Changed(slices.Clone(m.wins))
	}
}

// network is the one that remote would be reached from.
func (m *Memory) network(remote netip.AddrPort) netip.Prefix {
	local := LocalAddr
	if m.local != nil {
		local = m.local
	}
	a := local(remote)
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// LocalAddr is the address that this computer would use towards remote; not valid if there is no way. A UDP socket knows
// without sending anything.
func LocalAddr(remote netip.AddrPort) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return addrPort(c.LocalAddr()).Addr().WithZone("")
}
