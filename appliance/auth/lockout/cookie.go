package lockout

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// CookieLife is how long a browser is known after a sign-in.
const CookieLife = 180 * 24 * time.Hour

const (
	cookieContext = "sallyport known browser v1\x00"
	maxCookie     = 128
	deviceSize    = 16
)

var b64 = base64.RawURLEncoding.Strict()

// Cookies makes and checks what a browser shows to say that this account has signed in there. The key is the fleet's.
type Cookies struct {
	key   [sha256.Size]byte
	clock func() time.Time
}

// NewCookies returns the Cookies of a key. The clock is time.Now outside tests.
func NewCookies(key [sha256.Size]byte, clock func() time.Time) *Cookies {
	return &Cookies{key: key, clock: clock}
}

// New returns the cookie of a browser in which account has just signed in. It is to be HttpOnly, Secure and SameSite.
func (c *Cookies) New(account string) string {
	body := make([]byte, deviceSize, deviceSize+8)
	rand.Read(body) // never fails: it would end the process
	body = binary.BigEndian.AppendUint64(body, uint64(c.clock().Unix()))
	return b64.EncodeToString(body) + "." + b64.EncodeToString(c.mac(account, body))
}

// Check returns the device that a cookie names, or empty if it is not one of account's, or is too old.
func (c *Cookies) Check(account, cookie string) (device string) {
	if len(cookie) > maxCookie {
		return ""
	}
	first, second, _ := strings.Cut(cookie, ".")
	body, err1 := b64.DecodeString(first)
	mac, err2 := b64.DecodeString(second)
	if err1 != nil || err2 != nil || len(body) != deviceSize+8 || !hmac.Equal(mac, c.mac(account, body)) {
		return ""
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(body[deviceSize:])), 0)
	if !c.clock().Before(made.Add(CookieLife)) {
		return ""
	}
	return b64.EncodeToString(body[:deviceSize])
}

// mac is over parts of fixed length and one at the end that is not.
func (c *Cookies) mac(account string, body []byte) []byte {
	m := hmac.New(sha256.New, c.key[:])
	m.Write([]byte(cookieContext))
	m.Write(body)
	m.Write([]byte(account))
	return m.Sum(nil)
}
