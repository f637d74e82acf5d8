package desktop

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"sallyport/appliance/rdp"
	"sallyport/frame"
)

// sockets are the errors that the browser's client knows by the numbers of Windows Sockets.
var sockets = map[frame.Code]int{"E_REFUSED": 10061, "E_TIMEOUT": 10060, "E_UNREACHABLE": 10065, "E_TARGET_RESET": 10054, "E_RESOLVE": 11001}

// Alerts of TLS.
const alertHandshake, alertCertificate = 40, 42

// cleanPathError is why there is no connection, as the browser's client wants it told. People read the notice.
func cleanPathError(err error, c rdp.Confirm) rdp.CleanPathError {
	reason, _ := frame.ReasonOf(err)
	switch reason.Code {
	case "E_RDP_SECURITY":
		return rdp.CleanPathError{X224: c.PDU}
	case "E_TARGET_IDENTITY":
		return rdp.CleanPathError{TLS: alertCertificate}
	case "E_TARGET_TLS":
		return rdp.CleanPathError{TLS: alertHandshake}
	case "E_TARGET_AUTH":
		return rdp.CleanPathError{HTTP: 401}
	case frame.Internal, "":
		return rdp.CleanPathError{HTTP: 500}
	}
	if n, ok := sockets[reason.Code]; ok {
		return rdp.CleanPathError{WSA: n}
	}
	return rdp.CleanPathError{HTTP: 403}
}

// maxCertificate is the most that a target's certificate has, in bytes: it must fit into the answer to the browser's client,
// whose lengths end at 64 KiB.
const maxCertificate = 48 << 10

func checkLength(target string, c *x509.Certificate) error {
	if n := len(c.Raw); n > maxCertificate {
		return frame.Refuse("E_TARGET_TLS", fmt.Sprintf("%s shows a certificate of %d KiB, and may show one of %d", target, n>>10, maxCertificate>>10), "give it a smaller one")
	}
	return nil
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
