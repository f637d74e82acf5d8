package credssp

import (
	"encoding/hex"
	"testing"
)

// The examples of MS-NLMP 4.2.4.
var example = Credentials{Domain: "Domain", User: "User", Password: UTF16("Password")}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s is %x, want %s", what, got, want)
	}
}

func TestNTLMv2(t *testing.T) {
	owf := ntowf(example)
	same(t, "the key of the password", owf, "0c868a403bfd7a93a3001ef22ef02e3f")
	target := unhex(t, "02000c0044006f006d00610069006e0001000c00530065007200760065007200"+"00000000")
	nonce := [8]byte(unhex(t, "aaaaaaaaaaaaaaaa"))
	response, base := prove(owf, [8]byte(unhex(t, "0123456789abcdef")), nonce, make([]byte, 8), target)
	same(t, "the proof", response[:16], "68cd0ab851e51c96aabc927bebef6a1c")
	same(t, "the session's key", base, "8de40ccadbc14a82f15cb0ad0de95ca3")
	encrypted := make([]byte, 16)
	crypt(base, encrypted, unhex(t, "55555555555555555555555555555555"))
	same(t, "the key that is exchanged", encrypted, "c5dad2544fc9799094ce1ce90bc9d03e")
}

func TestSeal(t *testing.T) {
	s := newSeal(unhex(t, "55555555555555555555555555555555"), true)
	same(t, "the signing key", s.sign, "4788dc861b4782f35d43fd98fe1a2d39")
	sealed := s.seal(UTF16("Plaintext"))
	same(t, "the signature", sealed[:16], "010000007fb38ec5c55d497600000000")
	same(t, "what is sealed", sealed[16:], "54e50165bf1936dc996020c1811b0f06fb5f")

	o := newSeal(unhex(t, "55555555555555555555555555555555"), true)
	if got, err := o.open(sealed); err != nil || string(got) != string(UTF16("Plaintext")) {
		t.Errorf("opened %q, %v", got, err)
	}
	sealed[20] ^= 1
	if _, err := newSeal(unhex(t, "55555555555555555555555555555555"), true).open(sealed); err == nil {
		t.Error("a seal that was changed is opened")
	}
}
