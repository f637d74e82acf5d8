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

// maxChain is the most that a target's certificates have together, in bytes: they must fit into the answer to the browser's
// client, whose lengths end at 64 KiB.
const maxChain = 48 << 10

func checkLength(target string, chain []*x509.Certificate) error {
	total := 0
	for _, c := range chain {
		total += len(c.Raw)
	}
	if total > maxChain {
		return frame.Refuse("E_TARGET_TLS", fmt.Sprintf("%s shows %d KiB of certificates, and may show %d", target, total>>10, maxChain>>10), "give it its own certificate, and those that have signed it")
	}
	return nil
}

func raw(chain []*x509.Certificate) (all [][]byte) {
	for _, c := range chain {
		all = append(all, c.Raw)
	}
	return all
}

func fingerprint(chain []*x509.Certificate) string {
	sum := sha256.Sum256(chain[0].Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
