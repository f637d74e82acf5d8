package desktop

import (
	"crypto/x509"
	"testing"

	"sallyport/appliance/rdp"
	"sallyport/frame"
)

// TestLongCertificate: a certificate that a target shows fits into the answer, or is refused in words.
func TestLongCertificate(t *testing.T) {
	fits := &x509.Certificate{Raw: make([]byte, maxCertificate)}
	if err := checkLength("desk", fits); err != nil {
		t.Error(err)
	}
	rdp.AppendCleanPathAnswer(nil, make([]byte, rdp.MaxX224), fits.Raw, "desk")
	if r, known := frame.ReasonOf(checkLength("desk", &x509.Certificate{Raw: make([]byte, 256<<10)})); !known || r.Code != "E_TARGET_TLS" {
		t.Errorf("a certificate of 256 KiB: %+v", r)
	}
}
