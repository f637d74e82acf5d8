package system

import (
	"net/netip"
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
			for _, address := range []string{"10.99.0.10", "169.254.10.123"} {
				b.NTP(b.VNet.Namespace, netip.MustParseAddr(address), 5*time.Minute)
			}
			config := readFile(b.t, b.dir+"/sallyport.yaml")
			b.write("sallyport.yaml", strings.Replace(config, "    dns: [10.99.0.10]", "    dns: [10.99.0.10]\n    gateway: [10.99.0.10]", 1))
		},
	})
	for _, line := range []string{`msg="the time is known" servers=2 offset=`, `msg="the clock is not set" offset=`} {
		b.said(line)
		_, after, _ := strings.Cut(b.daemon.Output(), line)
		offset, err := time.ParseDuration(strings.Fields(after)[0])
		if err != nil || (offset-5*time.Minute).Abs() > 5*time.Second { // as long as a busy machine may take to ask
			t.Errorf("%s%v, %v", line, offset, err)
		}
	}
	if log := b.daemon.Output(); !strings.Contains(log, "operation not permitted") || strings.Contains(log, "the clock was set") {
		t.Errorf("the log:\n%s", log)
	}
	if r := b.client("--json", "proxy", "169.254.10.123"); r.exit == 0 {
		t.Errorf("a flow went to the time server: %v", r)
	}
}
