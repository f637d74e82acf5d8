package frame

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// The only version of the protocol so far.
const Version = 1

// A Hello says who opens a transport connection, and proves it. PROTOCOL.md §3.
type Hello struct {
	Versions  []uint8 `cbor:"1,keyasint,omitempty"`  // that the client speaks, ascending
	Software  string  `cbor:"2,keyasint,omitempty"`  // name, version and platform, for people
	Time      int64   `cbor:"3,keyasint,omitempty"`  // the client's clock, Unix milliseconds: a skew is told, not trusted
	Device    []byte  `cbor:"4,keyasint,omitempty"`  // the device's Ed25519 public key, 32 bytes
	Name      string  `cbor:"5,keyasint,omitempty"`  // what the person calls the device
	User      string  `cbor:"6,keyasint,omitempty"`  // whom the client takes itself for; may be empty
	Code      string  `cbor:"7,keyasint,omitempty"`  // an enrolment code
	Token     []byte  `cbor:"8,keyasint,omitempty"`  // an access token
	Binding   Binding `cbor:"9,keyasint,omitempty"`  // what Signature is bound to
	ServerKey []byte  `cbor:"10,keyasint,omitempty"` // SHA-256 of the SubjectPublicKeyInfo that the client saw
	Nonce     []byte  `cbor:"11,keyasint,omitempty"` // 32 bytes, with BindChallenge
	Share     []byte  `cbor:"12,keyasint,omitempty"` // ephemeral X25519 public key, with BindChallenge
	Signature []byte  `cbor:"13,keyasint,omitempty"` // Ed25519, by Device
}

// A Binding names what ties a proof to its connection.
type Binding uint8

const (
	BindNone      Binding = iota // no proof yet: the appliance answers with CHALLENGE
	BindExporter                 // the TLS exporter that both ends share
	BindChallenge                // the appliance's CHALLENGE, where no exporter is common to both
)

// A Challenge takes the exporter's place where TLS ends between the two.
type Challenge struct {
	Nonce []byte `cbor:"1,keyasint,omitempty"` // 32 bytes
	Share []byte `cbor:"2,keyasint,omitempty"` // ephemeral X25519 public key, 32 bytes
}

// A Welcome answers a Hello.
type Welcome struct {
	Version   uint8    `cbor:"1,keyasint,omitempty"`  // that both speak
	Software  string   `cbor:"2,keyasint,omitempty"`  // for people
	Time      int64    `cbor:"3,keyasint,omitempty"`  // the appliance's clock, Unix milliseconds
	Name      string   `cbor:"4,keyasint,omitempty"`  // of the appliance
	User      string   `cbor:"5,keyasint,omitempty"`  // whom the device belongs to
	Device    string   `cbor:"6,keyasint,omitempty"`  // the device's id
	Identity  [][]byte `cbor:"7,keyasint,omitempty"`  // the fleet's Ed25519 keys: the one that signs, then its successors
	Signature []byte   `cbor:"8,keyasint,omitempty"`  // by Identity[0]
	Token     []byte   `cbor:"9,keyasint,omitempty"`  // an access token for later HELLOs
	Expires   int64    `cbor:"10,keyasint,omitempty"` // Unix milliseconds after which OPEN needs a new HELLO; 0 never
	Flows     uint16   `cbor:"11,keyasint,omitempty"` // that this person may have at once
	Notice    string   `cbor:"12,keyasint,omitempty"` // a line for the person
}

// An OpenRequest asks for a flow.
type OpenRequest struct {
	Target   string `cbor:"1,keyasint,omitempty"` // a target's name, or an address; of "bench" what it does
	Protocol string `cbor:"2,keyasint,omitempty"` // "ssh", "rdp", "tcp", or "api" or "bench" for the appliance itself
	Port     uint16 `cbor:"3,keyasint,omitempty"` // 0: the target's own for the protocol
	VNet     string `cbor:"4,keyasint,omitempty"` // which VNet an address is meant in; may be empty
	Session  []byte `cbor:"5,keyasint,omitempty"` // the session that the flow joins, 16 bytes; empty: a new one
	Grant    []byte `cbor:"6,keyasint,omitempty"` // of an earlier Opened, for a time when the appliance cannot ask; empty: none
	Program  string `cbor:"7,keyasint,omitempty"` // that speaks the protocol for the client; empty: the flow's bytes are the target's own
}

// GrantSize is how long a grant is.
const GrantSize = 72

// Opened says that a flow stands.
type Opened struct {
	Flow     []byte `cbor:"1,keyasint,omitempty"` // 16 bytes
	Session  []byte `cbor:"2,keyasint,omitempty"` // 16 bytes
	Target   string `cbor:"3,keyasint,omitempty"` // as the appliance calls it
	Port     uint16 `cbor:"4,keyasint,omitempty"`
	Rule     string `cbor:"5,keyasint,omitempty"` // that allowed it
	Idle     int64  `cbor:"6,keyasint,omitempty"` // milliseconds without a byte after which it ends; 0 no limit
	Lifetime int64  `cbor:"7,keyasint,omitempty"` // milliseconds after which it ends; 0 no limit
	Grace    int64  `cbor:"8,keyasint,omitempty"` // milliseconds that it survives without a carrier
	Notice   string `cbor:"9,keyasint,omitempty"` // a line for the person

	Grant []byte `cbor:"10,keyasint,omitempty"` // to be shown at the next request for the same; empty: none
}

// Resume attaches a flow to another carrier. PROTOCOL.md §7.
type Resume struct {
	Flow     []byte `cbor:"1,keyasint,omitempty"`
	Epoch    uint64 `cbor:"2,keyasint,omitempty"`
	Received uint64 `cbor:"3,keyasint,omitempty"` // taken by the client's next hop
	Limit    uint64 `cbor:"4,keyasint,omitempty"` // the appliance may send up to here
	Nonce    []byte `cbor:"5,keyasint,omitempty"` // 16 bytes, of this attempt
	Proof    []byte `cbor:"6,keyasint,omitempty"` // HMAC-SHA-256
	Why      Why    `cbor:"7,keyasint,omitempty"` // for people; nothing depends on it
}

// Why says what made a client move a flow to another carrier.
type Why uint8

const (
	WhyLost   Why = iota // the carrier before is lost, or seems to be
	WhyBetter            // there is a transport that the client prefers
	WhyBulk              // the flow moves much: whether this transport is faster is about to be measured
	WhySlower            // it was not
)

// String is "lost", "better", "bulk" or "slower"; of those that are not known here "other".
func (w Why) String() string {
	if words := [...]string{"lost", "better", "bulk", "slower"}; int(w) < len(words) {
		return words[w]
	}
	return "other"
}

// Resumed answers a Resume.
type Resumed struct {
	Received uint64 `cbor:"1,keyasint,omitempty"` // taken by the appliance's next hop
	Limit    uint64 `cbor:"2,keyasint,omitempty"` // the client may send up to here
	Nonce    []byte `cbor:"3,keyasint,omitempty"` // 16 bytes
	Proof    []byte `cbor:"4,keyasint,omitempty"` // HMAC-SHA-256
}

// A Notice is a line for the person.
type Notice struct {
	Text string `cbor:"1,keyasint,omitempty"`
}

// A Drain asks the client to move its flows, or finish them, before a time.
type Drain struct {
	Left int64  `cbor:"1,keyasint,omitempty"` // milliseconds
	Text string `cbor:"2,keyasint,omitempty"`
}

// An Ack says what the next hop has taken and how far the peer may send. Nonces, in the first ACK after RESUMED
// only, are those of all attempts that the client made at this epoch.
type Ack struct {
	Acked  uint64
	Limit  uint64
	Nonces [][NonceSize]byte
}

// Append appends the whole frame to b.
func (a Ack) Append(b []byte) []byte {
	b = Header{TypeAck, 16 + len(a.Nonces)*NonceSize}.Append(b)
	b = binary.BigEndian.AppendUint64(b, a.Acked)
	b = binary.BigEndian.AppendUint64(b, a.Limit)
	for i := range a.Nonces {
		b = append(b, a.Nonces[i][:]...)
	}
	return b
}

// ParseAck reads the payload of an ACK frame whose header ParseHeader has accepted.
func ParseAck(p []byte) (Ack, error) {
	a := Ack{Acked: binary.BigEndian.Uint64(p), Limit: binary.BigEndian.Uint64(p[8:])}
	if a.Acked > MaxOffset || a.Limit > MaxOffset {
		return a, &SessionError{Reason: Reason{Code: Credit, Sentence: "an ACK states an offset beyond 2^62"}}
	}
	for p = p[16:]; len(p) > 0; p = p[NonceSize:] {
		a.Nonces = append(a.Nonces, [NonceSize]byte(p))
	}
	return a, nil
}

// appendFin appends a FIN frame for a direction that ends after offset bytes.
func appendFin(b []byte, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(Header{TypeFin, 8}.Append(b), offset)
}

func parseFin(p []byte) (offset uint64, err error) {
	if offset = binary.BigEndian.Uint64(p); offset > MaxOffset {
		return 0, &SessionError{Reason: Reason{Code: Credit, Sentence: "a FIN states an offset beyond 2^62"}}
	}
	return offset, nil
}

// AppendProbe appends a PING or PONG frame; a PONG repeats its PING's eight bytes.
func AppendProbe(b []byte, t Type, id [8]byte) []byte {
	return append(Header{t, len(id)}.Append(b), id[:]...)
}

// Append appends a control frame with CBOR payload to b. It panics if the message cannot be encoded or is longer than
// its type allows: messages are ours.
func Append(b []byte, t Type, message any) []byte {
	p, err := encoder.Marshal(message)
	if err != nil {
		panic(fmt.Sprintf("frame: encode %v: %v", t, err))
	}
	if len(p) > bounds[t].most {
		panic(fmt.Sprintf("frame: a %v of %d bytes", t, len(p)))
	}
	return append(Header{t, len(p)}.Append(b), p...)
}

// Parse decodes a control frame's CBOR payload. It accepts exactly what Append produces for the same message:
// deterministic encoding (RFC 8949 §4.2), known keys only, no zero value spelled out.
func Parse(t Type, p []byte, message any) error {
	if err := decoder.Unmarshal(p, message); err != nil {
		return malformed(fmt.Sprintf("%v does not decode: %v", t, err))
	}
	again, err := encoder.Marshal(message)
	if err != nil || !bytes.Equal(again, p) {
		return malformed(fmt.Sprintf("%v is not in its one encoding", t))
	}
	if c, ok := message.(interface{ check() error }); ok {
		if err := c.check(); err != nil {
			return malformed(fmt.Sprintf("%v: %v", t, err))
		}
	}
	return nil
}

var encoder = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var decoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  16,
		MaxMapPairs:       32,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func (h *Hello) check() error {
	if len(h.Versions) == 0 {
		return fmt.Errorf("no version")
	}
	for i := 1; i < len(h.Versions); i++ {
		if h.Versions[i] <= h.Versions[i-1] {
			return fmt.Errorf("versions do not ascend")
		}
	}
	if h.Binding > BindChallenge {
		return fmt.Errorf("binding %d is not known", h.Binding)
	}
	if err := h.texts(); err != nil {
		return err
	}
	return sizes(
		size{"device key", h.Device, 32, h.Binding != BindNone},
		size{"server key", h.ServerKey, 32, h.Binding == BindExporter},
		size{"signature", h.Signature, 64, h.Binding != BindNone},
		size{"nonce", h.Nonce, 32, h.Binding == BindChallenge},
		size{"share", h.Share, 32, h.Binding == BindChallenge},
	)
}

// texts bounds what is long only by mistake, so that the rest of a HELLO fits beside it.
func (h *Hello) texts() error {
	if len(h.Token) > maxToken {
		return fmt.Errorf("the access token has %d bytes, at most %d fit", len(h.Token), maxToken)
	}
	for _, s := range []string{h.Software, h.Name, h.User, h.Code} {
		if len(s) > maxName {
			return fmt.Errorf("a text of %d bytes, at most %d fit", len(s), maxName)
		}
	}
	return nil
}

const (
	maxToken = 12 << 10 // bytes of an access token in HELLO
	maxName  = 255      // bytes of each text in HELLO
)

func (c *Challenge) check() error {
	return sizes(size{"nonce", c.Nonce, 32, true}, size{"share", c.Share, 32, true})
}

func (w *Welcome) check() error {
	for _, k := range w.Identity {
		if len(k) != 32 {
			return fmt.Errorf("an identity key has 32 bytes")
		}
	}
	if len(w.Identity) == 0 {
		return fmt.Errorf("no identity key")
	}
	return sizes(size{"signature", w.Signature, 64, true})
}

func (o *OpenRequest) check() error {
	if o.Protocol == "" || len(o.Protocol) > 16 {
		return fmt.Errorf("a protocol's name has 1 to 16 bytes")
	}
	if len(o.Target) > 255 || len(o.VNet) > 64 {
		return fmt.Errorf("a name is too long")
	}
	if len(o.Program) > 16 {
		return fmt.Errorf("a program's name has at most 16 bytes")
	}
	return sizes(size{"session id", o.Session, 16, false}, size{"grant", o.Grant, GrantSize, false})
}

func (o *Opened) check() error {
	return sizes(size{"flow id", o.Flow, 16, true}, size{"session id", o.Session, 16, true}, size{"grant", o.Grant, GrantSize, false})
}

func (r *Resume) check() error {
	if r.Received > MaxOffset || r.Limit > MaxOffset {
		return fmt.Errorf("an offset is beyond 2^62")
	}
	return sizes(size{"flow id", r.Flow, 16, true}, size{"nonce", r.Nonce, NonceSize, true}, size{"proof", r.Proof, 32, true})
}

func (r *Resumed) check() error {
	if r.Received > MaxOffset || r.Limit > MaxOffset {
		return fmt.Errorf("an offset is beyond 2^62")
	}
	return sizes(size{"nonce", r.Nonce, NonceSize, true}, size{"proof", r.Proof, 32, true})
}

func (r *Reason) check() error {
	if len(r.Code) < 3 || len(r.Code) > 32 || strings.Trim(string(r.Code), codeLetters) != "" {
		return fmt.Errorf("a code has 3 to 32 capital letters, digits and underscores")
	}
	return nil
}

const codeLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// A size is a field of fixed length: absent, if it need not be there, or exactly so long.
type size struct {
	name string
	b    []byte
	n    int
	must bool
}

func sizes(fields ...size) error {
	for _, f := range fields {
		if len(f.b) != f.n && (f.must || len(f.b) != 0) {
			return fmt.Errorf("the %s has %d bytes, not %d", f.name, f.n, len(f.b))
		}
	}
	return nil
}
