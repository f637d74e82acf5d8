package api

import "time"

// A LoginStart is a device that wants to be enrolled for whoever signs in in a browser. It is asked for without a HELLO.
type LoginStart struct {
	Key      string `json:"key"`      // Ed25519 public key of the device, base64url without padding
	Name     string `json:"name"`     // what the person calls the device
	Platform string `json:"platform"` // such as linux/amd64
}

// LoginStarted is what the device shows, and goes on with.
type LoginStarted struct {
	ID       string    `json:"id"`       // secret, to poll by
	Code     string    `json:"code"`     // ABCD-EFGH, to compare
	Path     string    `json:"path"`     // of the page, below the appliance's address
	Interval int       `json:"interval"` // seconds between polls
	Expires  time.Time `json:"expires"`
}

// A LoginPoll asks whether a login is confirmed.
type LoginPoll struct {
	ID        string `json:"id"`
	Counter   uint64 `json:"counter"`   // above that of every poll before
	Signature string `json:"signature"` // of the device key, base64url without padding
}

// A LoginState answers a LoginPoll.
type LoginState struct {
	State  string `json:"state"` // waiting or enrolled
	User   string `json:"user,omitempty"`
	Device string `json:"device,omitempty"`

	Identity []string `json:"identity,omitempty"` // to browsers: the keys by which the appliance signs in the frame protocol, Ed25519, base64url without padding
}

// A CodeLogin is a browser that wants to be enrolled by a one-time code.
type CodeLogin struct {
	Code      string `json:"code"`
	Key       string `json:"key"`       // as in LoginStart
	Signature string `json:"signature"` // by the key, of CodeMessage; base64url without padding
	Name      string `json:"name"`
	Platform  string `json:"platform"`
}

// CodeMessage is what a browser's key signs to show that it is there: for an appliance at an address, and a code.
func CodeMessage(address, code string) []byte {
	return []byte("sallyport browser code v1\x00" + address + "\x00" + code)
}
