package desktop

import (
	"crypto/x509"
	"testing"

	"sallyport/appliance/rdp"
	"sallyport/frame"
)

// TestChain: certificates that a target shows fit into the answer, or are refused in words.
func TestChain(t *testing.T) {
	chain := func(n, size int) (all []*x509.Certificate) {
		for range n {
			all = append(all, &x509.Certificate{Raw: make([]byte, size)})
		}
		return all
	}
	for _, fits := range [][]*x509.Certificate{chain(1, maxChain), chain(maxChain/128, 128)} {
		if err := checkLength("desk", fits); err != nil {
			t.Error(err)
		}
		rdp.AppendCleanPathAnswer(nil, make([]byte, rdp.MaxX224), raw(fits), "desk")
	}
	for _, long := range [][]*x509.Certificate{chain(1, 256<<10), chain(3, maxChain/2)} {
		if r, known := frame.ReasonOf(checkLength("desk", long)); !known || r.Code != "E_TARGET_TLS" {
			t.Errorf("%d certificates: %+v", len(long), r)
		}
	}
}
