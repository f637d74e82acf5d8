// Package update is the file by which an appliance that runs from the image becomes a later version of itself: a unified
// kernel image with a signed header before it.
//
//	// who releases
//	h, err := update.Write(out, update.Header{Name: update.Name, Version: "1.4.0", Flavour: "kvm"}, uki, key)
//
//	// who installs
//	u, err := update.Open(in, keys...)      // the header is read, and one of the keys has signed it
//	err = u.Header.Fits(running)            // it is later, above the floor, and for this machine
//	_, err = io.Copy(temporary, u)          // io.EOF only after all bytes are there and are those that were signed
//
// # The file
//
// A line, "sallyport-update-1". Two bytes, the length of the header, most significant first. The header, JSON in the one
// form that Header.Append writes. 64 bytes, an Ed25519 signature (RFC 8032, section 5.1.6) over the line, its end, and the
// header. Then the image, and nothing after it.
//
// The signature covers the image by its SHA-256, which the header has. So the signature is verified before any byte of the
// image is read, and a file that is too long is refused before it is stored.
package update

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"
)

const (
	magic = "sallyport-update-1\n"

	// Name is what every update is of. Another product that shares the key is not taken for ours.
	Name = "sallyport"

	// MaxSize bounds the image: three times what one measures, and two of them fit an EFI system partition of 128 MiB
	// beside what it begins with.
	MaxSize = 64 << 20

	// maxHeader bounds the header. Four versions and names at their longest have less than 500 bytes.
	maxHeader = 1 << 10

	// MaxFile is the longest that a file can be, in bytes.
	MaxFile = int64(len(magic)) + 2 + maxHeader + ed25519.SignatureSize + MaxSize
)

// What is wrong with a file. What is returned wraps one of these and says more.
var (
	ErrFile     = errors.New("not an update file")                // or one that is cut, altered or too long
	ErrUnsigned = errors.New("signed by none of the known keys")  // or altered in its header
	ErrOlder    = errors.New("not later than what runs")          // or below the floor
	ErrFlavour  = errors.New("for another flavour of the image")  // whose drivers this machine may need
	ErrVersion  = errors.New("not a version such as 1.4.0")       // or 1.4.0-rc.1, by Semantic Versioning 2.0.0
	ErrOther    = errors.New("not what its header says")          // by what the image says of itself
	ErrKey      = errors.New("not an Ed25519 public key, base64") // of 32 bytes
)

// A Header says what an update is.
type Header struct {
	Name    string `json:"name"`            // Name
	Version string `json:"version"`         // by Semantic Versioning 2.0.0, as CheckVersion has it
	Floor   string `json:"floor,omitempty"` // once it has proved itself, nothing older is taken any more; not later than Version
	Flavour string `json:"flavour"`         // of the image: all, kvm, azure …
	SHA256  string `json:"sha256"`          // of the image, in hex
	Size    int64  `json:"size"`            // of the image, in bytes; 1 to MaxSize
}

// A flavour and a version become parts of file names on FAT, whose names have at most 255 characters.
var (
	flavourForm = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

	// Of Semantic Versioning's pre-releases these are the ones that the boot loader orders in the same way. It has 1.0.0-rc9
	// before 1.0.0-rc10, and letters before numbers: what was installed would not be what starts.
	versionForm = regexp.MustCompile(`^\d{1,9}\.\d{1,9}\.\d{1,9}(-[A-Za-z]+(\.\d{1,9})*)?$`)
)

const maxVersion = 48

// FlavourAll is the flavour that has the drivers of all others.
const FlavourAll = "all"

// CheckVersion says whether v is a version that an update can have.
func CheckVersion(v string) error {
	if len(v) > maxVersion || !versionForm.MatchString(v) || !semver.IsValid("v"+v) {
		return fmt.Errorf("%w: %.64q", ErrVersion, v)
	}
	return nil
}

// Ordered is a version as the boot loader orders it (UAPI Group Version Format Specification): 1.4.0~rc.1 comes before
// 1.4.0, and 1.4.0-rc.1 would come after it.
func Ordered(version string) string { return strings.Replace(version, "-", "~", 1) }

// Compare orders two versions as Semantic Versioning does (section 11). One that is none is before all.
func Compare(a, b string) int { return semver.Compare("v"+a, "v"+b) }

func (h Header) check() error {
	if h.Name != Name {
		return fmt.Errorf("%w: of %.64q", ErrFile, h.Name)
	}
	if err := CheckVersion(h.Version); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	if h.Floor != "" {
		if err := CheckVersion(h.Floor); err != nil {
			return fmt.Errorf("%w: floor: %w", ErrFile, err)
		}
		if Compare(h.Floor, h.Version) > 0 {
			return fmt.Errorf("%w: its floor %s is later than itself", ErrFile, h.Floor)
		}
	}
	if !flavourForm.MatchString(h.Flavour) {
		return fmt.Errorf("%w: flavour %.64q", ErrFile, h.Flavour)
	}
	if sum, err := hex.DecodeString(h.SHA256); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%w: no SHA-256", ErrFile)
	}
	if h.Size < 1 || h.Size > MaxSize {
		return fmt.Errorf("%w: an image of %d bytes; at most %d", ErrFile, h.Size, int64(MaxSize))
	}
	return nil
}

// Append appends the header's JSON, in its one form.
func (h Header) Append(b []byte) []byte {
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings and a number
	}
	return append(b, text...)
}

// ParseHeader reads a header's JSON. It takes only the form that Append writes.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) > maxHeader {
		return Header{}, fmt.Errorf("%w: a header of %d bytes", ErrFile, len(b))
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return Header{}, fmt.Errorf("%w: header: %w", ErrFile, err)
	}
	if err := h.check(); err != nil {
		return Header{}, err
	}
	if !bytes.Equal(h.Append(nil), b) {
		return Header{}, fmt.Errorf("%w: a header of another form", ErrFile)
	}
	return h, nil
}

// A Running is what an update is compared with.
type Running struct {
	Version string // that runs
	Flavour string // of the image that runs
	Floor   string // the greatest floor of any update that was installed; may be empty
}

// Fits says whether an update may take the place of what runs: nil, or an error that wraps ErrOlder or ErrFlavour.
func (h Header) Fits(r Running) error {
	switch {
	case h.Flavour != r.Flavour && h.Flavour != FlavourAll:
		return fmt.Errorf("%w: %s, and this one is %s", ErrFlavour, h.Flavour, r.Flavour)
	case r.Floor != "" && Compare(h.Version, r.Floor) < 0:
		return fmt.Errorf("%w: %s is below the floor %s that an earlier update has set", ErrOlder, h.Version, r.Floor)
	case Compare(h.Version, r.Version) <= 0:
		return fmt.Errorf("%w: %s, and %s runs", ErrOlder, h.Version, r.Version)
	}
	return nil
}

// Matches says whether an image is what the header says: nil, or an error that wraps ErrOther. The image's own words are its
// os-release(5). By them the boot loader orders it, and not by the header.
func (h Header) Matches(release map[string]string) error {
	for _, word := range [][2]string{
		{"ID", Name}, {"VERSION_ID", h.Version}, {"IMAGE_VERSION", Ordered(h.Version)}, {"VARIANT_ID", h.Flavour},
	} {
		if got := release[word[0]]; got != word[1] {
			return fmt.Errorf("%w: the image has %s=%.64s, not %s", ErrOther, word[0], got, word[1])
		}
	}
	return nil
}

// Write writes an update file of the image, and returns its header; what h says of hash and size does not matter. The image
// is read twice.
func Write(w io.Writer, h Header, image io.ReadSeeker, key ed25519.PrivateKey) (Header, error) {
	sum := sha256.New()
	size, err := io.Copy(sum, io.LimitReader(image, MaxSize+1))
	if err != nil {
		return Header{}, fmt.Errorf("read the image: %w", err)
	}
	h.SHA256, h.Size = hex.EncodeToString(sum.Sum(nil)), size
	if err := h.check(); err != nil {
		return Header{}, err
	}
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return Header{}, fmt.Errorf("read the image: %w", err)
	}
	text := h.Append(nil)
	b := binary.BigEndian.AppendUint16([]byte(magic), uint16(len(text)))
	b = append(b, text...)
	b = append(b, ed25519.Sign(key, signed(text))...)
	if _, err := w.Write(b); err != nil {
		return Header{}, err
	}
	_, err = io.CopyN(w, image, size)
	return h, err
}

// signed is what the signature is over.
func signed(header []byte) []byte { return append([]byte(magic), header...) }

// An Update is a file that is being read: the image, by Read.
type Update struct {
	Header Header

	r    io.Reader
	left int64
	sum  hash.Hash
	err  error // sticky, of Read
}

// Open reads the header from r and verifies its signature, with any of the keys. The error wraps ErrFile or ErrUnsigned,
// unless r has failed.
func Open(r io.Reader, keys ...ed25519.PublicKey) (*Update, error) {
	start := make([]byte, len(magic)+2)
	if err := fill(r, start, "before its header"); err != nil {
		return nil, err
	}
	if string(start[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it begins otherwise", ErrFile)
	}
	n := int(binary.BigEndian.Uint16(start[len(magic):]))
	if n > maxHeader {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrFile, n)
	}
	rest := make([]byte, n+ed25519.SignatureSize)
	if err := fill(r, rest, "in its header"); err != nil {
		return nil, err
	}
	text, signature := rest[:n], rest[n:]
	if !verified(signed(text), signature, keys) { // before the header is parsed: nobody else's bytes get that far
		return nil, ErrUnsigned
	}
	h, err := ParseHeader(text)
	if err != nil {
		return nil, err
	}
	return &Update{Header: h, r: r, left: h.Size, sum: sha256.New()}, nil
}

func fill(r io.Reader, b []byte, where string) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends %s", ErrFile, where)
	}
	return err
}

func verified(message, signature []byte, keys []ed25519.PublicKey) bool {
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, signature) {
			return true
		}
	}
	return false
}

// Read reads the image. io.EOF means that it was whole and that which was signed, and that the file ended with it; what has
// been read before may be anything. Other errors wrap ErrFile, unless the file could not be read.
func (u *Update) Read(b []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.left == 0 {
		u.err = u.finish()
		return 0, u.err
	}
	n, err := u.r.Read(b[:min(int64(len(b)), u.left)])
	u.sum.Write(b[:n])
	u.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && u.left > 0:
		u.err = fmt.Errorf("%w: %d bytes of its image are missing", ErrFile, u.left)
	case err != nil && !errors.Is(err, io.EOF):
		u.err = err
	}
	return n, u.err
}

// finish judges the image when all of its bytes are there.
func (u *Update) finish() error {
	if hex.EncodeToString(u.sum.Sum(nil)) != u.Header.SHA256 {
		return fmt.Errorf("%w: its image is not the one that was signed", ErrFile)
	}
	switch n, err := io.ReadFull(u.r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("%w: something follows its image", ErrFile)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}
