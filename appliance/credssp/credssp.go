// Package credssp logs a user on to an RDP server before there is a desktop: CredSSP with NTLMv2, the client's side
// (MS-CSSP, MS-NLMP). It is what Windows calls Network Level Authentication.
//
//	err := credssp.Authenticate(conn, credssp.Credentials{Domain: "CORP", User: "ann", Password: credssp.UTF16("…")}, key)
//	var denied *credssp.DeniedError
//	if errors.As(err, &denied) {
//		// the user or the password is wrong, or the user may not log on
//	}
//
// # What it proves
//
// Each side proves to the other that it knows the password, and that both see the same key of the server's in the TLS
// connection around them. Only after that is the password sent, sealed. Answers are bounded and have one spelling.
//
// Authenticate sets no deadline: that of the connection is the caller's.
package credssp

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Credentials are a user's.
type Credentials struct {
	Domain, User string
	Password     []byte // UTF-16, the low byte first, so that whoever has it can wipe it
}

// A DeniedError says that the server does not let the user in.
type DeniedError struct {
	Status uint32 // of Windows; 0: the server has hung up instead, as FreeRDP's does
}

func (e *DeniedError) Error() string {
	switch e.Status {
	case 0, 0xc000006d, 0xc000006a, 0xc0000064:
		return "the target does not accept this user and password"
	case 0xc0000071:
		return "the password has expired"
	case 0xc0000224:
		return "the password must be changed first"
	case 0xc0000072:
		return "the account is disabled"
	case 0xc0000234:
		return "the account is locked out"
	case 0xc0000193:
		return "the account has expired"
	case 0xc000006f:
		return "the account may not log on at this time"
	case 0xc0000070, 0xc000015b, 0xc0000022:
		return "the account may not log on in this way"
	}
	return fmt.Sprintf("the target refuses the log-on with the status %#x", e.Status)
}

// version is the one that is offered.
const version = 6

// leastVersion is the first that binds the key by a hash and a nonce. With those before it somebody in between can have the
// server do something else than the user wanted (CVE-2018-0886), and Windows does not speak them any more either.
const leastVersion = 5

const (
	toServer = "CredSSP Client-To-Server Binding Hash\x00"
	toClient = "CredSSP Server-To-Client Binding Hash\x00"
)

// Authenticate logs on over conn, the TLS connection to a server that has shown the public key: the bits of its
// SubjectPublicKeyInfo.
func Authenticate(conn io.ReadWriter, who Credentials, key []byte) error {
	negotiate := negotiateMessage()
	if err := send(conn, request{version: version, token: negotiate}); err != nil {
		return err
	}
	answer, err := receive(conn)
	if err != nil {
		return err
	}
	if answer.token == nil {
		return errors.New("the target's CredSSP has no challenge")
	}
	challenge, err := parseChallenge(answer.token)
	if err != nil {
		return err
	}
	var fresh [8 + 16 + 32]byte
	rand.Read(fresh[:])
	authenticate, session := challenge.respond(who, negotiate, [8]byte(fresh[:8]), [16]byte(fresh[8:24]), time.Now())
	sealer, opener := newSeal(session, true), newSeal(session, false)
	nonce := fresh[24:]
	proof := request{version: version, token: authenticate, keyAuth: sealer.seal(binding(toServer, nonce, key)), nonce: nonce}
	if err := send(conn, proof); err != nil {
		return err
	}
	answer, err = receive(conn)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &DeniedError{}
	}
	if err != nil {
		return err
	}
	shown, err := opener.open(answer.keyAuth)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(shown, binding(toClient, nonce, key)) != 1 {
		return errors.New("the target does not know by which key it is known: somebody may be between it and the appliance")
	}
	secret := who.tsCredentials()
	defer clear(secret)
	return send(conn, request{version: version, authInfo: sealer.seal(secret)})
}

// Verdict reads the word that follows where a server has selected CredSSP with early user authorization.
func Verdict(conn io.Reader) error {
	var word [4]byte
	if _, err := io.ReadFull(conn, word[:]); err != nil {
		return fmt.Errorf("read whether the user may log on: %w", err)
	}
	if binary.LittleEndian.Uint32(word[:]) != 0 {
		return &DeniedError{Status: 0xc000015b}
	}
	return nil
}

func binding(magic string, nonce, key []byte) []byte {
	h := sha256.New()
	io.WriteString(h, magic)
	h.Write(nonce)
	h.Write(key)
	return h.Sum(nil)
}
