package frame

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A Bond is what an admitted connection gives the flows on it, so that they can be resumed on another connection of
// the same person and device: PROTOCOL.md §7. A copy of it does not keep the connection.
type Bond struct {
	User    string   // as WELCOME calls the person
	Device  [32]byte // SHA-256 of the device key
	Binding [32]byte // SHA-256 of the handshake's binding value

	// Secret derives 32 bytes for a flow, which both ends of the connection can and nobody else.
	Secret func(flow []byte) ([]byte, error)
}

// The labels keep what is derived for one purpose from serving another.
const (
	resumeLabel    = "sallyport/1 resume\x00"
	nextLabel      = "sallyport/1 next\x00"
	clientLabel    = "sallyport/1 client\x00"
	applianceLabel = "sallyport/1 appliance\x00"
)

// A resumeKey is R of one epoch. It is never sent, and never written anywhere but to memory.
type resumeKey [32]byte

// firstKey is the key of epoch 0.
func firstKey(b *Bond, flow, session []byte) (resumeKey, error) {
	if b == nil || b.Secret == nil {
		return resumeKey{}, errors.New("frame: the connection has no secret for its flows")
	}
	secret, err := b.Secret(flow)
	if err != nil {
		return resumeKey{}, fmt.Errorf("derive the flow's key: %w", err)
	}
	return derive(secret, flow, slices.Concat([]byte(resumeLabel), session, b.Device[:], []byte(b.User))), nil
}

// next is the key of the epoch after k's, which an attempt on a connection makes.
func (k resumeKey) next(b *Bond, client, appliance []byte) resumeKey {
	return derive(k[:], slices.Concat(client, appliance), append([]byte(nextLabel), b.Binding[:]...))
}

func derive(secret, salt, info []byte) resumeKey {
	k, err := hkdf.Key(sha256.New, secret, salt, string(info), 32)
	if err != nil {
		panic(err) // of lengths that are constant
	}
	return resumeKey(k)
}

func (k resumeKey) clientProof(b *Bond, r *Resume) []byte {
	return k.mac(clientLabel, b, r.Flow, r.Epoch, r.Received, r.Limit, r.Nonce, nil)
}

func (k resumeKey) applianceProof(b *Bond, r *Resume, d *Resumed) []byte {
	return k.mac(applianceLabel, b, r.Flow, r.Epoch, d.Received, d.Limit, r.Nonce, d.Nonce)
}

func (k resumeKey) mac(label string, b *Bond, flow []byte, epoch, received, limit uint64, client, appliance []byte) []byte {
	m := slices.Concat([]byte(label), b.Binding[:], flow)
	for _, n := range []uint64{epoch, received, limit} {
		m = binary.BigEndian.AppendUint64(m, n)
	}
	h := hmac.New(sha256.New, k[:])
	h.Write(slices.Concat(m, client, appliance))
	return h.Sum(nil)
}

// proves says whether r's proof was made with k on the connection of b.
func (k resumeKey) proves(b *Bond, r *Resume) bool { return hmac.Equal(r.Proof, k.clientProof(b, r)) }

// A nonce names an attempt to resume.
type nonce = [NonceSize]byte

func newNonce() (n nonce) {
	rand.Read(n[:])
	return n
}

// A keyring has the keys of a flow, as the appliance knows them. The caller guards it.
type keyring struct {
	user       string // whose flow it is
	device     [32]byte
	epoch      uint64
	key        resumeKey   // of epoch
	candidates []candidate // of epoch + 1: attempts at epoch that were answered, the latest last
	before     resumeKey   // of epoch - 1, if there was one
	listed     []nonce     // attempts at epoch - 1 that the client knows of; nil: it has not been able to say
}

// A candidate is the next epoch's key, as an attempt that was answered but not confirmed makes it.
type candidate struct {
	attempt nonce
	key     resumeKey
}

// A verdict is about a RESUME.
type verdict int

const (
	unknown verdict = iota // no key of ours makes its proof
	proven
	lostRace // an attempt that the client has given up for another
	forked   // a good proof of an epoch that is past, by nobody whom the client knows of: the key is in two places
)

// judge verifies a RESUME that came on the connection of b. One at the epoch of a candidate confirms that candidate; the
// client's list was lost with the ACK that should have done so, so that no attempt before it is held against anybody. It
// takes the same time whatever is wrong.
func (k *keyring) judge(b *Bond, r *Resume) verdict {
	now, before := k.key.proves(b, r), k.before.proves(b, r)
	confirmed := -1
	for i, c := range k.candidates {
		if c.key.proves(b, r) {
			confirmed = i
		}
	}
	switch {
	case b.User != k.user || b.Device != k.device:
		return unknown
	case now && r.Epoch == k.epoch:
		return proven
	case confirmed >= 0 && r.Epoch == k.epoch+1:
		k.advance(k.candidates[confirmed].key, nil)
		return proven
	case before && k.epoch > 0 && r.Epoch == k.epoch-1: // at epoch 0 nobody's key is before
		// A full list may have left some out.
		if k.listed == nil || len(k.listed) >= maxNonces || slices.Contains(k.listed, nonce(r.Nonce)) {
			return lostRace
		}
		return forked
	}
	return unknown
}

// nobody is the keyring of flows that there are not.
var nobody = func() *keyring {
	k := &keyring{}
	rand.Read(k.key[:])
	rand.Read(k.before[:])
	return k
}()

// Mistrust does for a RESUME of a flow that there is not what Attach does for a proof that is not valid, so that both take
// as long.
func Mistrust(in *Incoming, b *Bond) { nobody.judge(b, in.Resume) }

// answer makes the RESUMED for r, which judge found proven, but for its proof's other fields, and keeps the candidate.
func (k *keyring) answer(b *Bond, r *Resume, d *Resumed) {
	n := newNonce()
	d.Nonce = n[:]
	d.Proof = k.key.applianceProof(b, r, d)
	k.candidates = append(k.candidates, candidate{nonce(r.Nonce), k.key.next(b, r.Nonce, d.Nonce)})
	if extra := len(k.candidates) - maxNonces; extra > 0 {
		k.candidates = slices.Delete(k.candidates, 0, extra)
	}
}

// confirm takes the confirming ACK of an attempt; false if it is not that attempt's.
func (k *keyring) confirm(attempt nonce, listed []nonce) bool {
	i := slices.IndexFunc(k.candidates, func(c candidate) bool { return c.attempt == attempt })
	if i < 0 || len(listed) == 0 || listed[0] != attempt {
		return false
	}
	k.advance(k.candidates[i].key, listed)
	return true
}

func (k *keyring) advance(key resumeKey, listed []nonce) {
	k.before, k.listed = k.key, listed
	k.key, k.candidates = key, nil
	k.epoch++
}

// A ticket has the keys of a flow, as the client knows them. The caller guards it.
type ticket struct {
	flow  []byte
	epoch uint64
	key   resumeKey

	// next are the keys of epoch + 1 that attempts at epoch have made which the flow was attached by, the latest last.
	// Whether the appliance has heard so, and from which of them, is not known before it sends on one.
	next     []resumeKey
	attempts []attempt // at epoch and at epoch + 1
}

// An attempt is one RESUME.
type attempt struct {
	epoch uint64
	nonce nonce
	key   resumeKey
}

// try makes the RESUME of an attempt, with the latest key that there is.
func (t *ticket) try(b *Bond, received, limit uint64) (attempt, *Resume) {
	a := attempt{epoch: t.epoch, nonce: newNonce(), key: t.key}
	if n := len(t.next); n > 0 {
		a.epoch, a.key = t.epoch+1, t.next[n-1]
	}
	t.attempts = append(t.attempts, a)
	r := &Resume{Flow: t.flow, Epoch: a.epoch, Received: received, Limit: limit, Nonce: a.nonce[:]}
	r.Proof = a.key.clientProof(b, r)
	return a, r
}

// verify checks the answer to an attempt.
func (a *attempt) verify(b *Bond, r *Resume, d *Resumed) bool {
	return hmac.Equal(d.Proof, a.key.applianceProof(b, r, d))
}

// attach notes that an attempt was answered and that its carrier has the flow. It returns the key of the epoch after the
// attempt's, and what the confirming ACK lists.
func (t *ticket) attach(b *Bond, a attempt, d *Resumed) (key resumeKey, listed []nonce) {
	if a.epoch > t.epoch {
		t.settle(a.key) // the appliance had heard
	}
	key = t.key.next(b, a.nonce[:], d.Nonce)
	t.next = append(t.next, key)
	listed = []nonce{a.nonce}
	for _, other := range slices.Backward(t.attempts) {
		if other.epoch == a.epoch && other.nonce != a.nonce && len(listed) < maxNonces {
			listed = append(listed, other.nonce)
		}
	}
	return key, listed
}

// settle notes that the appliance has heard of the next epoch, whose key is key.
func (t *ticket) settle(key resumeKey) {
	t.epoch, t.key, t.next = t.epoch+1, key, nil
	t.attempts = slices.DeleteFunc(t.attempts, func(a attempt) bool { return a.epoch < t.epoch })
}

// late says whether the appliance has gone on to an epoch that another attempt has made.
func (t *ticket) late(a attempt) bool {
	return a.epoch < t.epoch || a.epoch == t.epoch && a.key != t.key
}

// refused notes that the appliance knows no key for an attempt. The error is nil if that is its last word.
func (t *ticket) refused(a attempt) error {
	switch {
	case a.epoch > t.epoch: // which it may not have heard of; the next attempt is with the key before
		t.next = slices.DeleteFunc(t.next, func(k resumeKey) bool { return k == a.key })
		return errLostAnswer
	case t.late(a), len(t.next) > 0:
		return ErrSuperseded
	}
	return nil
}
