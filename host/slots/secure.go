package slots

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// The firmware's variables about Secure Boot, by the "Unified Extensible Firmware Interface Specification" (chapter 32).
const (
	secureBoot = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	database   = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"

	maxDatabase = 1 << 20 // bytes; firmware gives all its variables less than that
	attributes  = 4       // bytes before the value, where efivarfs shows a variable
)

// The types of signature lists, as GUIDs lie in them.
var (
	typeX509   = [16]byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	typeSHA256 = [16]byte{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
)

// A Trust is what a firmware starts under Secure Boot: its db.
type Trust struct {
	certs   []*x509.Certificate
	digests [][]byte
}

// ReadTrust reads what the firmware starts from the EFI variables below dir, as ReadLoader does. It is nil where Secure Boot
// is off, or not there: everything is started.
func ReadTrust(dir string) (*Trust, error) {
	on, err := readFile(filepath.Join(dir, secureBoot), attributes+1)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (len(on) != attributes+1 || on[attributes] != 1) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("EFI variable SecureBoot: %w", err)
	}
	b, err := readFile(filepath.Join(dir, database), attributes+maxDatabase)
	if err != nil {
		return nil, fmt.Errorf("EFI variable db: %w", err)
	}
	return parseTrust(b[min(len(b), attributes):])
}

// parseTrust reads signature lists (section 32.4.1). What it does not know it passes over: firmware may.
func parseTrust(b []byte) (*Trust, error) {
	const head, owner = 28, 16 // of a list, and of each signature in it
	t := new(Trust)
	for len(b) > 0 {
		if len(b) < head {
			return nil, errors.New("EFI variable db: cut short")
		}
		u := binary.LittleEndian.Uint32
		size, header, each := u(b[16:]), u(b[20:]), u(b[24:])
		if uint64(size) > uint64(len(b)) || uint64(head)+uint64(header) > uint64(size) || each <= owner {
			return nil, errors.New("EFI variable db: a list is cut short")
		}
		kind, signatures := [16]byte(b[:16]), b[head+header:size]
		b = b[size:]
		for ; len(signatures) >= int(each); signatures = signatures[each:] {
			switch value := signatures[owner:each]; kind {
			case typeX509:
				if cert, err := x509.ParseCertificate(value); err == nil {
					t.certs = append(t.certs, cert)
				}
			case typeSHA256:
				t.digests = append(t.digests, value)
			}
		}
	}
	return t, nil
}

// Starts says whether the firmware starts a program with this digest, of which these are the certificates whose signatures
// hold. One counts that is in db, or that one in db has signed. What dbx forbids is not looked at.
func (t *Trust) Starts(digest []byte, signers []*x509.Certificate) bool {
	if t == nil {
		return true
	}
	for _, d := range t.digests {
		if bytes.Equal(d, digest) {
			return true
		}
	}
	for _, s := range signers {
		for _, c := range t.certs {
			if c.Equal(s) || c.CheckSignature(s.SignatureAlgorithm, s.RawTBSCertificate, s.Signature) == nil {
				return true
			}
		}
	}
	return false
}
