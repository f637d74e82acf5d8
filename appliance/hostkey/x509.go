package hostkey

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// x509Algorithm is the algorithm of a pin that is a certificate of TLS.
const x509Algorithm = "x509"

// MaxX509 bounds a certificate that may be pinned.
const MaxX509 = 16 << 10

// isX509 says whether a blob is a certificate of TLS: DER begins with a SEQUENCE, a key of SSH with the length of a name.
func isX509(blob []byte) bool { return len(blob) > 1 && blob[0] == 0x30 }

func x509Fingerprint(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// CheckFixedX509 compares a certificate of TLS with those that an administrator has written down by their SHA-256 in
// hexadecimal.
func CheckFixedX509(target string, certificate []byte, sums []string) error {
	shown := x509Fingerprint(certificate)
	no := &MismatchError{Target: target, Shown: shown}
	for _, sum := range sums {
		no.Known = append(no.Known, "sha256:"+sum)
	}
	if slices.Contains(no.Known, shown) {
		return nil
	}
	return no
}
