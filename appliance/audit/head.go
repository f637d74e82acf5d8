package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

const (
	// formatVersion is said in each head. A log of another one is refused, not guessed at.
	formatVersion = 1

	// headContext begins what a head's signature is over, so that no signature of the same key for another purpose can
	// be taken for one. The head's line follows, up to its sig field.
	headContext = "sallyport-audit-head-v1\n"

	// A head ends with its signature.
	sigBegin = `,"sig":"`
	sigEnd   = `"}`
	sigText  = len(sigBegin) + 2*ed25519.SignatureSize + len(sigEnd)

	headFile = "head.json"
)

// Why a head was written; its field why. Nothing but another head follows a head that says closing.
const (
	becauseBegins  = "segment begins"
	becauseEnds    = "segment ends"
	becauseOpened  = "log opened"
	becauseLines   = "lines"
	becauseTime    = "time"
	becauseRemoval = "retention"
	becauseClosing = "log closed"
)

// A Head is a signed head: a line that vouches for all lines up to it.
type Head struct {
	Seq  uint64
	Time time.Time
	Line string // the line itself, to be kept elsewhere as a witness
}

// KeyID names a key in heads: the first 8 bytes of its SHA-256, in hexadecimal.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// signHead returns e, whose fields are all set but Sig, as a line with its newline.
func signHead(e Event, key ed25519.PrivateKey) ([]byte, error) {
	unsigned, err := encode(e)
	if err != nil {
		return nil, err
	}
	signed := unsigned[:len(unsigned)-1] // without the brace
	sig := ed25519.Sign(key, append([]byte(headContext), signed...))
	return fmt.Appendf(nil, "%s%s%x%s\n", signed, sigBegin, sig, sigEnd), nil
}

// checkHead verifies the signature of a head's line without its newline. Not one of its bytes can be another.
func checkHead(e Event, b []byte, keys []ed25519.PublicKey) error {
	if e.Format != formatVersion {
		return fmt.Errorf("a head of format %d, this program reads %d", e.Format, formatVersion)
	}
	cut := len(b) - sigText
	if cut < 0 {
		return errors.New("a head without a signature")
	}
	sig, err := hex.DecodeString(e.Sig)
	if err != nil || string(b[cut:]) != fmt.Sprintf("%s%x%s", sigBegin, sig, sigEnd) {
		return errors.New("a head that does not end with its signature")
	}
	signed := append([]byte(headContext), b[:cut]...)
	for _, key := range keys {
		if KeyID(key) != e.Key {
			continue
		}
		if !ed25519.Verify(key, signed, sig) {
			return errors.New("the signature of this head is wrong: the head has been changed")
		}
		return nil
	}
	return fmt.Errorf("this head is signed by the key %q, which is none of the appliance's that are known here", e.Key)
}

// ParseHead reads a head that was kept as a witness: a line of kind "head", such as head.json holds.
func ParseHead(b []byte, keys ...ed25519.PublicKey) (Head, error) {
	b = bytes.TrimSuffix(b, []byte("\n"))
	e, err := parseLine(b)
	if err == nil && e.Kind != HeadKind {
		err = fmt.Errorf("an event of the kind %q, not a head", e.Kind)
	}
	if err == nil {
		err = checkHead(e, b, keys)
	}
	if err != nil {
		return Head{}, err
	}
	return Head{e.Seq, e.Time, string(b)}, nil
}

// readHead reads head.json.
func readHead(fsys fs.FS, keys []ed25519.PublicKey) (Head, error) {
	f, err := fsys.Open(headFile)
	if err != nil {
		return Head{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLine+1))
	if err != nil {
		return Head{}, err
	}
	if !bytes.HasSuffix(b, []byte("\n")) {
		return Head{}, errors.New("it ends in the middle")
	}
	return ParseHead(b, keys...)
}
