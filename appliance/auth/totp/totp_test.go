package totp

import (
	"encoding/base32"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The SHA-1 vectors of RFC 6238, appendix B, by their last six digits.
func TestVectors(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for at, code := range map[int64]string{
		59:          "287082",
		1111111109:  "081804",
		1111111111:  "050471",
		1234567890:  "005924",
		2000000000:  "279037",
		20000000000: "353130",
	} {
		counter, ok := Verify(secret, code, time.Unix(at, 0))
		if !ok || counter != uint64(at/30) {
			t.Errorf("at %d: %d, %v", at, counter, ok)
		}
	}
}

func TestWindow(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	const code, step = "005924", 1234567890 / 30
	for seconds, want := range map[int64]bool{-31: false, -30: true, -1: true, 0: true, 29: true, 30: true, 59: true, 60: false} {
		counter, ok := Verify(secret, code, time.Unix(step*30+seconds, 0))
		if ok != want || ok && counter != step {
			t.Errorf("%+d s: %d, %v", seconds, counter, ok)
		}
	}
	if _, ok := Verify(secret, code, time.Unix(0, 0)); ok {
		t.Error("good at the beginning of time")
	}
}

func TestEnrol(t *testing.T) {
	s, err := New("Sallyport bastion.example", "ann@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Sallyport bastion.example:ann@corp.example" ||
		q.Get("secret") != s.Text || q.Get("algorithm") != "SHA1" || q.Get("digits") != "6" || q.Get("period") != "30" {
		t.Error(s.URL)
	}
	if strings.Contains(s.URL, "+") {
		t.Errorf("some apps show the plus signs of %s", s.URL)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s)
	if text := fmt.Sprintf("%v %+v %s %s", s, s, s, log.String()); strings.Contains(text, s.Text) {
		t.Errorf("a log has it: %s", text)
	}
	other, err := New("Sallyport", "ann")
	if err != nil || other.Text == s.Text || len(s.Text) != 32 {
		t.Errorf("%q and %q, %v", s.Text, other.Text, err)
	}
	if _, err := New("a:b", "ann"); err == nil {
		t.Error("a colon in the issuer")
	}
}

func TestWhatIsNoCode(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	at := time.Unix(1234567890, 0)
	for _, typed := range []string{"", "5924", "05924", "0005924", "005925", "00592a", "٠٠٥٩٢٤", "005924" + strings.Repeat(" ", 99)} {
		if _, ok := Verify(secret, typed, at); ok {
			t.Errorf("%q is taken", typed)
		}
	}
	for _, typed := range []string{"005 924", " 005924\n", "005-924"} {
		if _, ok := Verify(secret, typed, at); !ok {
			t.Errorf("%q is not taken", typed)
		}
	}
	// The code of an empty or short secret is known to everybody.
	for _, secret := range []string{"", "GEZDGNBV", "not base32!", strings.Repeat("A", 1000)} {
		for _, code := range []string{"328482", "000000", "005924"} {
			if _, ok := Verify(secret, code, time.Unix(0, 0)); ok {
				t.Errorf("secret %.20q takes %s", secret, code)
			}
		}
	}
}

func TestRecoveryCodes(t *testing.T) {
	shown, kept := NewRecoveryCodes()
	if len(shown) != 10 || len(kept) != 10 {
		t.Fatal(len(shown), len(kept))
	}
	for i, text := range shown {
		for _, typed := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", " ")} {
			if found, ok := FindRecoveryCode(kept, typed); !ok || found != kept[i] {
				t.Errorf("%q is not number %d", typed, i)
			}
		}
		left := append(append([][32]byte{}, kept[:i]...), kept[i+1:]...)
		if _, ok := FindRecoveryCode(left, text); ok {
			t.Error("a code that was removed is found")
		}
	}
	foreign, _ := NewRecoveryCodes()
	for _, typed := range append(foreign, "", "AAAA", strings.Repeat("A", 1<<20)) {
		if _, ok := FindRecoveryCode(kept, typed); ok {
			t.Errorf("%.20q is found", typed)
		}
	}
}
