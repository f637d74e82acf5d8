package system

import (
	"strings"
	"testing"
	"time"
)

// TestAddressChanges: a computer that gets another address in the same network keeps its QUIC connection, which migrates
// (RFC 9000 §9): the flow on it is not even resumed. Over HTTPS it is.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	var shells []*shell
	for _, transport := range transports {
		s := b.shell(b.home, transport)
		s.echoes(10 * time.Second)
		shells = append(shells, s)
	}
	for _, change := range []string{"address del 10.77.1.2/24 dev eth0", "address add 10.77.1.3/24 dev eth0", "route add default via 10.77.1.1"} {
		if out, err := b.Client.Command(t.Context(), "ip", strings.Fields(change)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v, %s", change, err, out)
		}
	}
	changed := time.Now()
	for i, s := range shells {
		s.echoes(5 * time.Second)
		took := time.Since(changed)
		if t.Logf("%s answers %v after the change", transports[i], took.Round(time.Millisecond)); took > 1500*time.Millisecond {
			t.Errorf("%s took %v", transports[i], took)
		}
	}
	time.Sleep(2 * time.Second)
	if quic, https := b.moves("quic"), b.moves("https"); quic != 0 || https != 1 {
		t.Errorf("%d flows over QUIC and %d over HTTPS were resumed", quic, https)
	}
	for _, s := range shells {
		s.echoes(time.Second)
		s.over(inOrder)
	}
}
