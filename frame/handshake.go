package frame

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ExporterLabel is the label (RFC 8446 §7.5) under which both ends of a TLS connection export the 32 bytes, with an
// empty context, that a HELLO's proof is bound to.
const ExporterLabel = "EXPORTER-sallyport-hello"

// ResumeLabel is the label under which they export the 32 bytes, with a flow's id as context, that the flow's keys are
// derived from.
const ResumeLabel = "EXPORTER-sallyport-resume"

// The contexts keep a signature made for one purpose from serving another.
const (
	deviceContext    = "sallyport/1 device proof\x00"
	applianceContext = "sallyport/1 appliance proof\x00"
)

// A Channel is what a handshake knows of the connection that it runs on.
type Channel struct {
	// Exporter is the TLS exporter's value; nil where TLS ends somewhere between the two.
	Exporter []byte

	// Secret exports under ResumeLabel what belongs to a flow; nil where Exporter is.
	Secret func(flow []byte) ([]byte, error)

	// ServerKeys are SHA-256 of the appliance's SubjectPublicKeyInfo: for a client the one that it saw, for an
	// appliance those that it may have shown.
	ServerKeys [][]byte

	// Blind accepts, at an appliance, a client that says nothing of the certificate: a browser cannot see it.
	Blind bool
}

// A Signer holds an Ed25519 private key, perhaps where nobody can read it.
type Signer interface {
	Public() ed25519.PublicKey
	Sign(message []byte) ([]byte, error)
}

// An Introduction is a client's handshake under way: its HELLO is written, WELCOME is still to be read. Frames may be
// written after HELLO before WELCOME has come, if the channel has an exporter.
type Introduction struct {
	hello   Hello
	signer  Signer
	channel Channel
	sent    []byte // the HELLO that counts, encoded
	binding []byte
	secret  func(flow []byte) ([]byte, error)
}

// Introduce makes the HELLO for h, with binding and proof filled in, and returns it as a frame to write.
func Introduce(h Hello, signer Signer, ch Channel) (*Introduction, []byte, error) {
	in := &Introduction{hello: h, signer: signer, channel: ch}
	in.hello.Versions = []uint8{Version}
	if err := in.hello.texts(); err != nil {
		return nil, nil, err
	}
	if ch.Exporter == nil {
		in.sent = Append(nil, TypeHello, &Hello{Versions: in.hello.Versions, Software: h.Software})
		return in, in.sent, nil
	}
	in.secret = ch.Secret
	frame, err := in.prove(BindExporter, ch.Exporter)
	return in, frame, err
}

// Bond is what the connection gives its flows, once its WELCOME has called the person user.
func (in *Introduction) Bond(user string) *Bond {
	return &Bond{User: user, Device: sha256.Sum256(in.signer.Public()), Binding: sha256.Sum256(in.binding), Secret: in.secret}
}

// prove signs the HELLO over binding.
func (in *Introduction) prove(kind Binding, binding []byte) ([]byte, error) {
	h := &in.hello
	h.Binding, h.Device = kind, in.signer.Public()
	if len(in.channel.ServerKeys) > 0 {
		h.ServerKey = in.channel.ServerKeys[0]
	}
	h.Signature = nil
	sig, err := in.signer.Sign(deviceMessage(binding, h))
	if err != nil {
		return nil, fmt.Errorf("sign with the device key: %w", err)
	}
	h.Signature = sig
	in.binding = binding
	in.sent = Append(nil, TypeHello, h)
	return in.sent, nil
}

// ReadWelcome reads the appliance's answer from rw, answers a CHALLENGE on the way, and verifies the appliance's
// signature. Whether Welcome.Identity is the right key is the caller's question. A refusal is a *SessionError.
func (in *Introduction) ReadWelcome(rw io.ReadWriter) (*Welcome, error) {
	for challenged := false; ; {
		h, p, err := ReadFrame(rw)
		if err != nil {
			return nil, err
		}
		switch {
		case h.Type == TypeRefused:
			var r Reason
			if err := Parse(h.Type, p, &r); err != nil {
				return nil, err
			}
			return nil, &SessionError{Reason: r.clipped(), Remote: true}
		case h.Type == TypeChallenge && !challenged:
			challenged = true
			if err := in.answer(rw, p); err != nil {
				return nil, err
			}
		case h.Type == TypeWelcome:
			var w Welcome
			if err := Parse(h.Type, p, &w); err != nil {
				return nil, err
			}
			if in.binding == nil {
				return nil, unexpectedFrame(h.Type)
			}
			if !slices.Contains(in.hello.Versions, w.Version) {
				return nil, &SessionError{Reason: Reason{Code: VersionSkew,
					Sentence: fmt.Sprintf("the appliance chose protocol version %d, this client speaks %s", w.Version, listed(in.hello.Versions)),
					Hint:     "install the client that belongs to this appliance"}}
			}
			if !ed25519.Verify(w.Identity[0], applianceMessage(in.binding, in.sent, &w), w.Signature) {
				return nil, &SessionError{Reason: Reason{Code: Auth, Sentence: "the appliance could not prove its identity",
					Hint: "something between you and the appliance changes the traffic; try another network"}}
			}
			return &w, nil
		default:
			return nil, unexpectedFrame(h.Type)
		}
	}
}

// answer proves the device to a CHALLENGE.
func (in *Introduction) answer(w io.Writer, challenge []byte) error {
	var c Challenge
	if err := Parse(TypeChallenge, challenge, &c); err != nil {
		return err
	}
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	in.secret = agreed(private, c.Share)
	in.hello.Nonce, in.hello.Share = make([]byte, 32), private.PublicKey().Bytes()
	rand.Read(in.hello.Nonce)
	frame, err := in.prove(BindChallenge, challenge)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

// A Greeter is an appliance's side of the handshake.
type Greeter struct {
	Identity Signer

	// Admit decides about a HELLO whose proof is good: the WELCOME, which Greet completes and signs, or the reason
	// why not, a *StreamError or *SessionError. Anything else is told as E_AUTH.
	Admit func(*Hello) (*Welcome, error)

	// Software is told to the client.
	Software string

	// Bond is what the connection gives its flows, once Greet has admitted its client.
	Bond *Bond
}

// Greet reads a HELLO from rw, asks for another with CHALLENGE if it has no proof or ch has no exporter, and answers
// with WELCOME or REFUSED. The caller bounds the time by a deadline on rw.
func (g *Greeter) Greet(rw io.ReadWriter, ch Channel) (*Hello, *Welcome, error) {
	h, w, err := g.greet(rw, ch)
	if err != nil {
		if reason, ok := ReasonOf(err); ok {
			rw.Write(Append(nil, TypeRefused, ptr(reason.clipped()))) // the connection ends anyhow
		}
	}
	return h, w, err
}

func (g *Greeter) greet(rw io.ReadWriter, ch Channel) (*Hello, *Welcome, error) {
	h, err := readHello(rw)
	if err != nil {
		return nil, nil, err
	}
	binding, secret := ch.Exporter, ch.Secret
	if h.Binding != BindExporter || ch.Exporter == nil {
		if binding, secret, h, err = challenge(rw); err != nil {
			return h, nil, err
		}
	}
	if err := verify(h, binding, ch); err != nil {
		return h, nil, err
	}
	w, err := g.Admit(h)
	if err != nil {
		if _, ok := ReasonOf(err); !ok {
			err = &SessionError{Reason: Reason{Code: Auth, Sentence: "the appliance did not accept this sign-in"}}
		}
		return h, nil, err
	}
	w.Version, w.Software = Version, g.Software
	if err := g.sign(binding, Append(nil, TypeHello, h), w); err != nil {
		return h, nil, err
	}
	g.Bond = &Bond{User: w.User, Device: sha256.Sum256(h.Device), Binding: sha256.Sum256(binding), Secret: secret}
	_, err = rw.Write(Append(nil, TypeWelcome, w))
	return h, w, err
}

func (g *Greeter) sign(binding, hello []byte, w *Welcome) (err error) {
	w.Identity = append([][]byte{g.Identity.Public()}, w.Identity...)
	w.Signature = nil
	w.Signature, err = g.Identity.Sign(applianceMessage(binding, hello, w))
	return err
}

// challenge asks for a proof that does not need the exporter.
func challenge(rw io.ReadWriter) (binding []byte, secret func([]byte) ([]byte, error), h *Hello, err error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	c := Challenge{Nonce: make([]byte, 32), Share: private.PublicKey().Bytes()}
	rand.Read(c.Nonce)
	frame := Append(nil, TypeChallenge, &c)
	if _, err := rw.Write(frame); err != nil {
		return nil, nil, nil, err
	}
	if h, err = readHello(rw); err != nil {
		return nil, nil, nil, err
	}
	if h.Binding != BindChallenge {
		return nil, nil, nil, unexpectedFrame(TypeHello)
	}
	if _, err := ecdh.X25519().NewPublicKey(h.Share); err != nil {
		return nil, nil, nil, malformed("the HELLO's share is not an X25519 key")
	}
	return frame[HeaderSize:], agreed(private, h.Share), h, nil
}

// agreed derives what X25519 gives both ends of a challenge, which takes an exporter's place: it is the same for every
// flow, and the flow's id is in what is made of it.
func agreed(private *ecdh.PrivateKey, share []byte) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) {
		public, err := ecdh.X25519().NewPublicKey(share)
		if err != nil {
			return nil, err
		}
		return private.ECDH(public)
	}
}

func readHello(r io.Reader) (*Hello, error) {
	hd, p, err := readFrame(r, func(t Type) bool { return t == TypeHello }, func(Type) {})
	if err != nil {
		return nil, err
	}
	var h Hello
	if err := Parse(hd.Type, p, &h); err != nil {
		return nil, err
	}
	if !slices.Contains(h.Versions, Version) {
		return nil, &SessionError{Reason: Reason{Code: VersionSkew,
			Sentence: fmt.Sprintf("%s speaks protocol version %s, this appliance speaks %d", Clip(h.Software, 64), listed(h.Versions), Version),
			Hint:     "install the client that belongs to this appliance"}}
	}
	return &h, nil
}

// listed reads like 2, 3: protocol versions.
func listed(versions []uint8) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(versions), " ", ", "), "[]")
}

// verify checks a HELLO's proof, and first whether TLS ends where it should: an exporter that differs makes every
// signature wrong, and the person should hear why.
func verify(h *Hello, binding []byte, ch Channel) error {
	unseen := ch.Blind && len(h.ServerKey) == 0
	if !unseen && !slices.ContainsFunc(ch.ServerKeys, func(k []byte) bool { return bytes.Equal(k, h.ServerKey) }) {
		return &SessionError{Reason: Reason{Code: Inspected,
			Sentence: "TLS does not end at this appliance: the client saw another certificate",
			Hint:     "this network decrypts TLS; ask for an exception, or use another network"}}
	}
	if !ed25519.Verify(h.Device, deviceMessage(binding, h), h.Signature) {
		return &SessionError{Reason: Reason{Code: Auth, Sentence: "the device's proof is not valid"}}
	}
	return nil
}

// deviceMessage is what a device signs: a context, the binding, and the HELLO without its signature.
func deviceMessage(binding []byte, h *Hello) []byte {
	unsigned := *h
	unsigned.Signature = nil
	hello := Append(nil, TypeHello, &unsigned)
	return proofMessage(deviceContext, binding, hello[HeaderSize:])
}

// applianceMessage is what an appliance signs: a context, the binding, the HELLO as sent, and the WELCOME without its
// signature.
func applianceMessage(binding, hello []byte, w *Welcome) []byte {
	unsigned := *w
	unsigned.Signature = nil
	welcome := Append(nil, TypeWelcome, &unsigned)
	return proofMessage(applianceContext, binding, hello[HeaderSize:], welcome[HeaderSize:])
}

func proofMessage(context string, parts ...[]byte) []byte {
	m := []byte(context)
	for _, p := range parts {
		sum := sha256.Sum256(p)
		m = append(m, sum[:]...)
	}
	return m
}

func unexpectedFrame(t Type) error {
	return &SessionError{Reason: Reason{Code: FrameType, Sentence: fmt.Sprintf("a %v frame does not belong here", t)}}
}

func ptr[T any](v T) *T { return &v }

// A PrivateKey is a Signer in memory.
type PrivateKey ed25519.PrivateKey

// Public implements Signer.
func (k PrivateKey) Public() ed25519.PublicKey {
	return ed25519.PrivateKey(k).Public().(ed25519.PublicKey)
}

// Sign implements Signer.
func (k PrivateKey) Sign(message []byte) ([]byte, error) {
	if len(k) != ed25519.PrivateKeySize {
		return nil, errors.New("no private key")
	}
	return ed25519.Sign(ed25519.PrivateKey(k), message), nil
}
