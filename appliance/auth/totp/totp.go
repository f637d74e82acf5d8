// Package totp is the second factor that an authenticator app shows: time-based one-time passwords (RFC 6238), and the
// recovery codes for the day on which the app is gone.
//
//	secret, err := totp.New("Sallyport bastion.example", "ann") // secret.URL as a QR code, secret.Text to be typed
//	counter, ok := totp.Verify(secret.Text, typed, time.Now())
//	// then, in one step of the store: take counter if it is above the last one that was taken
//
// A code is good for its own thirty seconds and those before and after. Verify says which thirty seconds it was of; who
// calls it keeps that counter and takes only higher ones, so that a code that somebody looked at is not good twice.
//
// The parameters are those that every app has: SHA-1, six digits, thirty seconds. A guess is right with a chance of 3
// in a million, so guesses are to be counted where Verify is called.
package totp

import (
	"bytes"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"image/png"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

const (
	period     = 30 // seconds
	skew       = 1  // steps before and after
	secretSize = 20 // bytes, as many as SHA-1 has; RFC 4226 recommends them
	maxSecret  = 128
	maxTyped   = 32
)

var options = hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}

// A Secret is shared with an authenticator app. Both of its forms are secret.
type Secret struct {
	Text string // base32, to be kept and to be typed where no camera is
	URL  string // otpauth://totp/…
}

// String has neither, so that no print and no log has them by accident.
func (Secret) String() string { return "one-time password secret" }

// LogValue is for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// New returns a fresh secret. The issuer is what the app shows above the code, next to the user.
func New(issuer, user string) (Secret, error) {
	// A colon stands between the two in the URL.
	if strings.Contains(issuer, ":") || strings.Contains(user, ":") {
		return Secret{}, fmt.Errorf("neither the issuer %.80q nor the user %.80q of a one-time password may have a colon", issuer, user)
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: user, SecretSize: secretSize})
	if err != nil {
		return Secret{}, fmt.Errorf("make a one-time password secret: %w", err)
	}
	return Secret{Text: key.Secret(), URL: key.URL()}, nil
}

// Again is the Secret whose Text is known.
func Again(issuer, user, text string) Secret {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + user,
		RawQuery: url.Values{"secret": {text}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}.Encode()}
	return Secret{Text: text, URL: u.String()}
}

// Picture is the URL as a QR code, in PNG. It is as secret as the Secret.
func (s Secret) Picture() ([]byte, error) {
	key, err := otp.NewKeyFromURL(s.URL)
	if err != nil {
		return nil, fmt.Errorf("draw a one-time password secret: %w", err)
	}
	img, err := key.Image(220, 220)
	if err != nil {
		return nil, fmt.Errorf("draw a one-time password secret: %w", err)
	}
	var b bytes.Buffer
	err = png.Encode(&b, img)
	return b.Bytes(), err
}

// Verify reports whether code, as a person typed it, is one of secret at the time now, and of which thirty seconds. It
// compares with all that are good in constant time.
func Verify(secret, code string, now time.Time) (counter uint64, ok bool) {
	code, plausible := digits(code)
	if !plausible || len(secret) > maxSecret {
		return 0, false
	}
	if key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret); err != nil || len(key) < secretSize {
		return 0, false
	}
	step := now.Unix() / period
	for s := max(step-skew, 0); s <= step+skew; s++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(s), options)
		if err != nil {
			return 0, false
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			counter, ok = uint64(s), true
		}
	}
	return counter, ok
}

// digits undoes the spaces with which apps show codes.
func digits(typed string) (string, bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	code := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", "-", "").Replace(typed)
	bad := func(r rune) bool { return r < '0' || r > '9' }
	return code, len(code) == otp.DigitsSix.Length() && !strings.ContainsFunc(code, bad)
}
