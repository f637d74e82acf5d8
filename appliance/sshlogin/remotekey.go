package sshlogin

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/message"
	"sallyport/frame"
)

// maxSigned bounds what a key in a browser is asked to sign: a session's id, names, and a public key.
const maxSigned = 32 << 10

// A remoteKey signs in the person's browser.
type remoteKey struct {
	login      *login
	public     ssh.PublicKey
	algorithms []string
}

// remoteKey is the key that the start message names.
func (l *login) remoteKey() (ssh.Signer, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(l.start.Key))
	if err != nil {
		return nil, frame.Refuse("E_USAGE", "this is not an SSH public key", "choose another key")
	}
	k := &remoteKey{login: l, public: key}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		k.algorithms = []string{key.Type()}
	case ssh.KeyAlgoRSA:
		k.algorithms = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	default:
		return nil, frame.Refuse("E_USAGE", fmt.Sprintf("keys of type %s cannot sign in a browser", frame.Clip(key.Type(), 64)), "use one of ssh-ed25519, ecdsa or rsa")
	}
	return k, nil
}

// PublicKey implements ssh.Signer.
func (k *remoteKey) PublicKey() ssh.PublicKey { return k.public }

// Algorithms implements ssh.MultiAlgorithmSigner.
func (k *remoteKey) Algorithms() []string { return k.algorithms }

// Sign implements ssh.Signer.
func (k *remoteKey) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(r, data, k.algorithms[0])
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (k *remoteKey) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if !slices.Contains(k.algorithms, algorithm) || len(data) > maxSigned {
		return nil, fmt.Errorf("this key does not sign %d bytes by %s", len(data), algorithm)
	}
	ask := struct {
		Algorithm string `json:"algorithm"`
		Data      []byte `json:"data"`
	}{algorithm, data}
	if err := message.WriteJSON(k.login.link.Side, KindSign, ask); err != nil {
		return nil, k.login.fail(err)
	}
	body, err := k.login.await(KindSignature)
	if err != nil {
		return nil, err
	}
	var got struct {
		Format string `json:"format"`
		Blob   []byte `json:"blob"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Format != algorithm {
		return nil, k.login.fail(frame.Refuse("E_TARGET_AUTH", "the key in your browser has not signed", "choose another key, or sign in another way"))
	}
	signature := &ssh.Signature{Format: got.Format, Blob: got.Blob}
	if err := k.public.Verify(data, signature); err != nil {
		return nil, k.login.fail(frame.Refuse("E_TARGET_AUTH", "what the key in your browser has signed is not good", "choose the private key that belongs to this public one"))
	}
	return signature, nil
}
