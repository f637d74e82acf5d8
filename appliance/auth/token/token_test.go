package token

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type key struct{ ed25519.PrivateKey }

func (k key) Sign(message []byte) []byte { return ed25519.Sign(k.PrivateKey, message) }
func (k key) Public() ed25519.PublicKey  { return k.PrivateKey.Public().(ed25519.PublicKey) }

// numbered returns a key that is the same in every run.
func numbered(n byte) key {
	return key{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))}
}

var laptop, thief = numbered(1).Public(), numbered(2).Public()

func newSigner(t testing.TB, fleet string, k Key) *Signer {
	t.Helper()
	s, err := New(Config{Fleet: fleet}, k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reason(err error) string {
	if d, ok := errors.AsType[*Detail](err); ok {
		return d.Reason
	}
	return ""
}

// refused wants the generic answer and a reason that has the words.
func refused(t *testing.T, what string, err error, words string) {
	t.Helper()
	if !errors.Is(err, ErrRefused) || err.Error() != ErrRefused.Sentence || !strings.Contains(reason(err), words) {
		t.Errorf("%s: %v (%s), not %q", what, err, reason(err), words)
	}
}

var ann = Claims{User: "ann", SignIn: "s-1", Groups: []string{"ops", "Größe <&>"}}

func TestSignAndVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "bastion.example", numbered(9))
		c := ann
		c.MFA = time.Now().Add(-time.Hour).Truncate(time.Second)
		text, err := s.Sign(c, laptop)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Verify(text, laptop)
		if err != nil {
			t.Fatal(err, reason(err))
		}
		if got.User != "ann" || got.SignIn != "s-1" || !slices.Equal(got.Groups, c.Groups) || !got.MFA.Equal(c.MFA) ||
			got.Expires.Sub(got.Issued) != 10*time.Minute || len(got.ID) != 26 {
			t.Errorf("%+v", got)
		}
		other, err := s.Sign(ann, laptop)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Verify(other, laptop); err != nil || !got.MFA.IsZero() {
			t.Errorf("without a second factor: %+v, %v", got, err)
		}
		if other == text {
			t.Error("two tokens are the same")
		}
	})
}

// A token is a JWT that other programs read, and its thumbprint is the one of RFC 8037, appendix A.3.
func TestForm(t *testing.T) {
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got := Thumbprint(x); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Error(got)
	}
	text, err := newSigner(t, "bastion.example", numbered(9)).Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	var header, body map[string]any
	for i, part := range strings.Split(text, ".")[:2] {
		data, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, []any{&header, &body}[i]); err != nil {
			t.Fatal(err)
		}
	}
	if header["alg"] != "EdDSA" || header["typ"] != "at+jwt" || header["kid"] != Thumbprint(numbered(9).Public()) {
		t.Error(header)
	}
	if body["iss"] != "bastion.example" || body["aud"] != "bastion.example" || body["sub"] != "ann" ||
		body["cnf"].(map[string]any)["jkt"] != Thumbprint(laptop) {
		t.Error(body)
	}
}

func TestAnotherDevice(t *testing.T) {
	s := newSigner(t, "bastion.example", numbered(9))
	text, err := s.Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Verify(text, thief)
	refused(t, "a copied token", err, fmt.Sprintf("bound to the device key %q, the connection has proved %q", Thumbprint(laptop), Thumbprint(thief)))
	_, err = s.Verify(text, nil)
	refused(t, "without a key", err, "bound to the device key")
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "bastion.example", numbered(9))
		text, err := s.Sign(ann, laptop)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute - time.Second)
		if _, err := s.Verify(text, laptop); err != nil {
			t.Error(err, reason(err))
		}
		time.Sleep(time.Second)
		if _, err := s.Verify(text, laptop); !errors.Is(err, ErrExpired) || !strings.Contains(reason(err), "has expired at") {
			t.Error(err, reason(err))
		}
		// An expired token of another device is another device's first.
		_, err = s.Verify(text, thief)
		refused(t, "expired, and of another device", err, "bound to")

		ahead, err := New(Config{Fleet: "bastion.example", Clock: func() time.Time { return time.Now().Add(2 * time.Minute) }}, numbered(9))
		if err != nil {
			t.Fatal(err)
		}
		text, err = ahead.Sign(ann, laptop)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Verify(text, laptop)
		refused(t, "two minutes ahead", err, "from the future")
		time.Sleep(time.Minute)
		if _, err := s.Verify(text, laptop); err != nil {
			t.Error("a minute ahead", err, reason(err))
		}
	})
}

func TestRotate(t *testing.T) {
	s := newSigner(t, "bastion.example", numbered(9))
	first, err := s.Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	s.Rotate(numbered(10))
	second, err := s.Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"before": first, "after": second} {
		if _, err := s.Verify(text, laptop); err != nil {
			t.Error(what, err, reason(err))
		}
	}
	s.Rotate(numbered(11))
	if _, err := s.Verify(second, laptop); err != nil {
		t.Error(err, reason(err))
	}
	_, err = s.Verify(first, laptop)
	refused(t, "of a key that is gone", err, "not of a key that is in use")
}

// forge signs what it is given with the signer's own key.
func forge(header, body string, sign func([]byte) []byte) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(body))
	return signed + "." + b64.EncodeToString(sign([]byte(signed)))
}

func TestRefused(t *testing.T) {
	k := numbered(9)
	s := newSigner(t, "bastion.example", k)
	text, err := s.Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(text, ".")
	header := fmt.Sprintf(`{"alg":"EdDSA","kid":"%s","typ":"at+jwt"}`, Thumbprint(k.Public()))
	decoded, err := b64.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	body := string(decoded)
	withHMAC := func(secret []byte) func([]byte) []byte {
		return func(m []byte) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write(m)
			return h.Sum(nil)
		}
	}
	nothing := func([]byte) []byte { return nil }
	if again := forge(header, body, k.Sign); again != text {
		t.Fatal("what is forged is not what is signed")
	}
	foreign, err := newSigner(t, "other.example", k).Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ text, words string }{
		"empty":                   {"", "three parts"},
		"two parts":               {parts[0] + "." + parts[1], "three parts"},
		"four parts":              {text + ".", "three parts"},
		"huge":                    {text + strings.Repeat("A", maxToken), "more than 12288"},
		"a line break":            {text + "\n", "line breaks"},
		"of another fleet":        {foreign, `the token is of "other.example" for "other.example"`},
		"of another key":          {forge(header, body, numbered(8).Sign), "the signature does not verify"},
		"without a signature":     {forge(header, body, nothing), "the signature does not verify"},
		"a changed claim":         {forge(header, body, func(m []byte) []byte { return k.Sign([]byte("x")) }), "the signature does not verify"},
		"alg none":                {forge(`{"alg":"none","typ":"at+jwt"}`, body, nothing), `the header "{\"alg\":\"none\"`},
		"alg none by the key":     {forge(strings.Replace(header, "EdDSA", "none", 1), body, k.Sign), "not of a key that is in use"},
		"HS256 by the public key": {forge(strings.Replace(header, "EdDSA", "HS256", 1), body, withHMAC(k.Public())), "not of a key that is in use"},
		"HMAC as EdDSA":           {forge(header, body, withHMAC(k.Public())), "the signature does not verify"},
		"an embedded key":         {forge(strings.Replace(header, `"typ"`, `"jwk":{},"typ"`, 1), body, k.Sign), "not of a key that is in use"},
		"a session token":         {forge(strings.Replace(header, "at+jwt", "JWT", 1), body, k.Sign), "not of a key that is in use"},
		"a header of spaces":      {forge(header+" ", body, k.Sign), "not of a key that is in use"},
		"a header not base64":     {"!" + text[1:], "the header is not base64url"},
		"claims not base64":       {signPart(parts[0], "!!!!", k), "the claims are not base64url"},
		"another spelling":        {forge(header, strings.Replace(body, ",", ", ", 1), k.Sign), "not spelled as they would be"},
		"an unknown claim":        {forge(header, strings.Replace(body, "{", `{"admin":true,`, 1), k.Sign), "cannot be read"},
		"a claim twice":           {forge(header, strings.Replace(body, `"sub":"ann"`, `"sub":"bob","sub":"ann"`, 1), k.Sign), "not spelled as they would be"},
		"a claim in capitals":     {forge(header, strings.Replace(body, `"sub"`, `"SUB"`, 1), k.Sign), "not spelled as they would be"},
		"something after":         {forge(header, body+"{}", k.Sign), "something follows"},
		"sub a number":            {forge(header, strings.Replace(body, `"ann"`, `7`, 1), k.Sign), "cannot be read"},
		"no user":                 {forge(header, strings.Replace(body, `"ann"`, `""`, 1), k.Sign), "the user of an access token"},
		"a user in capitals":      {forge(header, strings.Replace(body, `"ann"`, `"ANN"`, 1), k.Sign), "the user of an access token"},
		"no sign-in":              {forge(header, strings.Replace(body, `"s-1"`, `""`, 1), k.Sign), "no sign-in"},
		"an empty group":          {forge(header, strings.Replace(body, `"ops"`, `""`, 1), k.Sign), "a group that is empty"},
		"no confirmation":         {forge(header, body[:strings.Index(body, `,"cnf"`)]+"}", k.Sign), "not spelled as they would be"},
	} {
		_, err := s.Verify(c.text, laptop)
		refused(t, what, err, c.words)
	}
}

func signPart(header, part string, k key) string {
	signed := header + "." + part
	return signed + "." + b64.EncodeToString(k.Sign([]byte(signed)))
}

func TestBounds(t *testing.T) {
	s := newSigner(t, "bastion.example", numbered(9))
	groups := make([]string, maxGroups)
	for i := range groups {
		groups[i] = fmt.Sprintf("%08d-0000-0000-0000-000000000000", i) // as directories name them
	}
	text, err := s.Sign(Claims{User: "ann", SignIn: "s", Groups: groups}, laptop)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Verify(text, laptop); err != nil || len(c.Groups) != maxGroups {
		t.Error(err, reason(err))
	}
	for what, c := range map[string]Claims{
		"201 groups":      {User: "ann", SignIn: "s", Groups: append(groups, "x")},
		"groups too long": {User: "ann", SignIn: "s", Groups: slices.Repeat([]string{strings.Repeat("x", maxGroup)}, 60)},
		"a long group":    {User: "ann", SignIn: "s", Groups: []string{strings.Repeat("x", maxGroup+1)}},
		"no user":         {SignIn: "s"},
		"no sign-in":      {User: "ann"},
	} {
		if _, err := s.Sign(c, laptop); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
	if _, err := New(Config{}, numbered(9)); err == nil {
		t.Error("tokens of no fleet")
	}
}

// FuzzVerify signs any claims with the right key: what is accepted is what Sign writes.
func FuzzVerify(f *testing.F) {
	k := numbered(9)
	s := newSigner(f, "f", k)
	text, err := s.Sign(ann, laptop)
	if err != nil {
		f.Fatal(err)
	}
	body, err := b64.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(body))
	f.Add(`{}`)
	f.Add(`{"iss":"f","aud":"f","sub":"a","jti":"j","sid":"s","iat":1,"exp":99999999999,"cnf":{"jkt":""}}`)
	header := fmt.Sprintf(`{"alg":"EdDSA","kid":"%s","typ":"at+jwt"}`, Thumbprint(k.Public()))
	f.Fuzz(func(t *testing.T, body string) {
		if _, err := s.Verify(body, laptop); err == nil {
			t.Errorf("%q alone is a token", body)
		}
		c, err := s.Verify(forge(header, body, k.Sign), laptop)
		if err != nil {
			return
		}
		again, err := json.Marshal(c.form("f", laptop))
		if err != nil || string(again) != body {
			t.Errorf("%q means %q", body, again)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s := newSigner(b, "bastion.example", numbered(9))
	text, err := s.Sign(ann, laptop)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Verify(text, laptop); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRandomBitsAreRefused(t *testing.T) {
	s := newSigner(t, "bastion.example", numbered(9))
	text, err := s.Sign(ann, laptop)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(text) {
		changed := []byte(text)
		for changed[i] == text[i] {
			rand.Read(changed[i : i+1])
		}
		if _, err := s.Verify(string(changed), laptop); !errors.Is(err, ErrRefused) {
			t.Errorf("byte %d as %q: %v", i, changed[i], err)
		}
	}
}
