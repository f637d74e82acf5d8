package credssp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// A script is a server that says what it says, whatever it hears.
type script struct {
	io.Reader
	heard bytes.Buffer
}

func (s *script) Write(b []byte) (int, error) { return s.heard.Write(b) }

// exampleChallenge is a server's, with its time.
var exampleChallenge = []byte(signature + "\x02\x00\x00\x00" + "\x00\x00\x00\x00\x38\x00\x00\x00" + "\x35\x82\x88\xe2" + "\x01\x23\x45\x67\x89\xab\xcd\xef" +
	"\x00\x00\x00\x00\x00\x00\x00\x00" + "\x1a\x00\x1a\x00\x38\x00\x00\x00" + "\x0a\x00\x63\x45\x00\x00\x00\x0f" +
	"\x02\x00\x06\x00A\x00B\x00C\x00" + "\x07\x00\x08\x00\x01\x02\x03\x04\x05\x06\x07\x08" + "\x00\x00\x00\x00")

func TestDenied(t *testing.T) {
	challenge := request{version: 6, token: exampleChallenge}.append(nil)
	for _, c := range []struct {
		name   string
		answer []byte
		status uint32
	}{
		{"it hangs up", nil, 0},
		{"it says so", request{version: 6, status: 0xc000006d}.append(nil), 0xc000006d},
		{"the account is locked out", request{version: 6, status: 0xc0000234}.append(nil), 0xc0000234},
	} {
		s := &script{Reader: bytes.NewReader(append(bytes.Clone(challenge), c.answer...))}
		err := Authenticate(s, example, []byte{1, 2, 3})
		var denied *DeniedError
		if !errors.As(err, &denied) || denied.Status != c.status {
			t.Errorf("%s: %v", c.name, err)
		}
		if bytes.Contains(s.heard.Bytes(), example.Password) {
			t.Errorf("%s: the password was sent", c.name)
		}
	}
}

// TestWrongServer has a server that does not know the password answer with something.
func TestWrongServer(t *testing.T) {
	for _, keyAuth := range [][]byte{nil, make([]byte, 16), make([]byte, 48)} {
		s := &script{Reader: bytes.NewReader(append(request{version: 6, token: exampleChallenge}.append(nil), request{version: 6, keyAuth: keyAuth}.append(nil)...))}
		if err := Authenticate(s, example, []byte{1, 2, 3}); err == nil {
			t.Errorf("a proof of %d bytes is believed", len(keyAuth))
		}
	}
}

// TestUnsafe: a server that binds the key in the way that somebody in between can use is not told anything.
func TestUnsafe(t *testing.T) {
	for at := range 2 {
		answers := []request{{version: 6, token: exampleChallenge}, {version: 6, keyAuth: make([]byte, 48)}}
		answers[at].version = leastVersion - 1
		var said []byte
		for _, a := range answers {
			said = a.append(said)
		}
		err := Authenticate(&script{Reader: bytes.NewReader(said)}, example, []byte{1, 2, 3})
		if err == nil || !strings.Contains(err.Error(), "version 4 of CredSSP, which is not safe") {
			t.Errorf("answer %d is of an unsafe version: %v", at, err)
		}
	}
}

func TestVerdict(t *testing.T) {
	if err := Verdict(bytes.NewReader(make([]byte, 4))); err != nil {
		t.Error(err)
	}
	var denied *DeniedError
	if err := Verdict(bytes.NewReader([]byte{5, 0, 0, 0})); !errors.As(err, &denied) {
		t.Errorf("a refusal is %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(request{version: 6, token: exampleChallenge}.append(nil))
	f.Add(request{version: 6, status: 0xc000006d}.append(nil))
	f.Add(request{version: 5, keyAuth: make([]byte, 48), nonce: make([]byte, 32)}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseRequest(b)
		if err != nil {
			return
		}
		again, err := parseRequest(q.append(nil))
		if err != nil || !bytes.Equal(again.append(nil), q.append(nil)) {
			t.Errorf("%x is read as %+v and then as %+v, %v", b, q, again, err)
		}
	})
}

func FuzzChallenge(f *testing.F) {
	f.Add(exampleChallenge)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseChallenge(b)
		if err != nil {
			return
		}
		message, key := c.respond(example, negotiateMessage(), [8]byte{}, [16]byte{}, time.Unix(0, 0))
		if len(key) != 16 || len(message) > payloadAt+2*maxTarget {
			t.Errorf("the response has %d bytes, the key %d", len(message), len(key))
		}
	})
}

func FuzzAuthenticate(f *testing.F) {
	f.Add(append(request{version: 6, token: exampleChallenge}.append(nil), request{version: 6, keyAuth: make([]byte, 48)}.append(nil)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := Authenticate(&script{Reader: bytes.NewReader(b)}, example, []byte{1, 2, 3}); err == nil {
			t.Error("what knows no password is believed")
		}
	})
}
