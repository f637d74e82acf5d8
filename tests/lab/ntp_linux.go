package lab

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// NTP starts a time server (RFC 5905) on an address of the namespace, whose clock is ahead.
func (l *Lab) NTP(n *Namespace, address netip.Addr, ahead time.Duration) {
	l.t.Helper()
	c, err := n.ListenPacket("udp", netip.AddrPortFrom(address, 123).String())
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	l.t.Cleanup(func() { c.Close(); <-done })
	stamp := func(d time.Duration) uint64 {
		now := time.Now().Add(d)
		return uint64(now.Unix()+2_208_988_800)<<32 | uint64(now.Nanosecond())<<32/1e9
	}
	go func() {
		defer close(done)
		ask := make([]byte, 1<<10)
		for {
			n, from, err := c.ReadFrom(ask)
			if err != nil {
				return
			}
			if n < 48 {
				l.t.Errorf("%d bytes are no question of NTP", n)
				continue
			}
			answer := make([]byte, 48)
			copy(answer, []byte{4<<3 | 4, 1, 6, 0xec, 12: 'G', 13: 'P', 14: 'S'})
			binary.BigEndian.PutUint64(answer[16:], stamp(ahead-time.Minute))
			copy(answer[24:], ask[40:48])
			binary.BigEndian.PutUint64(answer[32:], stamp(ahead))
			binary.BigEndian.PutUint64(answer[40:], stamp(ahead))
			c.WriteTo(answer, from)
		}
	}()
}
