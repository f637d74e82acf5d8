package system

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestTimeServers: the worker asks a time server on the VNet by its own stack, also one outside of what flows may reach,
// and tells the parent. This machine's clock is not touched: the daemon lacks the capability for it, and says so.
func TestTimeServers(t *testing.T) {
	b := start(t, settings{
		wrap:  []string{"setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time"},
		extra: "uplink: hub\ntime: {servers: [10.99.0.10, \"169.254.10.123\", ntp.none.example]}\n",
		prepare: func(b *bastion) {
			b.VNet.Run("ip", "address", "add", "169.254.10.123/32", "dev", "lo")
			for _, address := range []string{"10.99.0.10:123", "169.254.10.123:123"} {
				b.tells(address, 5*time.Minute)
			}
			config := readFile(b.t, b.dir+"/sallyport.yaml")
			b.write("sallyport.yaml", strings.Replace(config, "    dns: [10.99.0.10]", "    dns: [10.99.0.10]\n    gateway: [10.99.0.10]", 1))
		},
	})
	b.said(`msg="the time is known" servers=2 offset=5m`)
	b.said(`msg="the clock is not set" offset=5m`)
	if log := b.daemon.Output(); !strings.Contains(log, "operation not permitted") || strings.Contains(log, "the clock was set") {
		t.Errorf("the log:\n%s", log)
	}
	if r := b.client("--json", "proxy", "169.254.10.123"); r.exit == 0 {
		t.Errorf("a flow went to the time server: %v", r)
	}
}

// tells has a server in the VNet tell the time (RFC 5905), by a clock that is ahead.
func (b *bastion) tells(address string, ahead time.Duration) {
	b.t.Helper()
	c, err := b.VNet.ListenPacket("udp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	b.t.Cleanup(func() { c.Close(); <-done })
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
				b.t.Error(errors.New("not a question of NTP"))
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
