package frame

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Code names an error, the same on the wire, in the command's output, in the log and in the audit trail.
type Code string

// The codes that frames themselves give rise to. Other packages add their own; Exit knows them all.
const (
	Auth          Code = "E_AUTH"           // not signed in, or not any more
	VersionSkew   Code = "E_VERSION"        // no protocol version in common
	Inspected     Code = "E_INSPECTED"      // TLS ends somewhere between client and appliance
	FrameBad      Code = "E_FRAME"          // a frame that does not parse
	FrameSize     Code = "E_FRAME_SIZE"     // longer than its type allows
	FrameType     Code = "E_FRAME_TYPE"     // not known, or not here
	Credit        Code = "E_CREDIT"         // data beyond the limit, an offset beyond 2^62
	AckBad        Code = "E_ACK"            // bytes acknowledged that were never sent, or an offset that went back
	FinBad        Code = "E_FIN"            // data after FIN, a second FIN, a FIN at another offset
	Closed        Code = "E_CLOSED"         // this side has stopped reading
	Lost          Code = "E_CONNECTION"     // the carrier is gone and the flow with it
	Superseded    Code = "E_SUPERSEDED"     // another carrier has taken the flow over
	ResumeUnknown Code = "E_RESUME_UNKNOWN" // no such flow, or not this person's
	Draining      Code = "E_DRAINING"       // the appliance is stopping
	Internal      Code = "E_INTERNAL"       // a bug
)

// exits are the exit statuses of the person's command, by code.
var exits = map[Code]int{
	"E_NAME": 2, "E_PORT": 2, "E_USAGE": 2, "E_SESSION_UNKNOWN": 2, "E_LOCK_UNKNOWN": 2, "E_HOST_KEY_UNKNOWN": 2, "E_APPROVAL_UNKNOWN": 2, "E_GUEST_UNKNOWN": 2, "E_APPROVAL_DECIDED": 2, "E_ACCOUNT_UNKNOWN": 2, "E_NO_SIGN_IN": 2,
	Auth: 10, "E_CODE_UNKNOWN": 10, "E_CODE_USED": 10, "E_CODE_EXPIRED": 10, "E_CODE_USER": 10, "E_CODE_LIMIT": 10,
	"E_DEVICE_UNKNOWN": 10, "E_DEVICE_REVOKED": 10, "E_DEVICE_EXPIRED": 10, "E_DEVICE_USER": 10, "E_LOGIN": 10,
	"E_SIGNED_OUT": 10, "E_TARGET_AUTH": 10, "E_LOGIN_UNKNOWN": 10, "E_LOGIN_DENIED": 10, "E_LOGIN_LIMIT": 10, "E_LOGIN_PROOF": 10, "E_LOGIN_REPLAY": 10,
	"E_CONFLICT": 2, "E_VERSION_UNKNOWN": 2, "E_ACCESS_FILES": 2, "E_ACCESS_FAULTS": 2, "E_ACCOUNT_TAKEN": 2, "E_SIGNIN_UNKNOWN": 2, "E_CLIENT_UNKNOWN": 2, "E_CLIENT_FILES": 2, "E_UPDATE_FILE": 2, "E_UPDATE_NONE": 2,
	"E_LOCKOUT": 11, "E_TARGET_UNKNOWN": 11, "E_DENIED": 11, "E_ADDRESS_MODE": 11, "E_FORBIDDEN_ADDRESS": 11, "E_PORT_DENIED": 11,
	"E_PROTOCOL": 11, "E_ADMIN": 11, "E_IDLE": 11, "E_LIFETIME": 11, "E_KILLED": 11, "E_LOCKED": 11, "E_GRANT_ENDED": 11,
	"E_APPROVAL": 11, "E_PORTAL": 11, "E_SHARE": 11, "E_GUEST_LINK": 11, "E_UPDATE_REFUSED": 11,
	"E_RESOLVE": 12, "E_REFUSED": 12, "E_TIMEOUT": 12, "E_UNREACHABLE": 12, "E_NO_BANNER": 12, "E_TARGET_RESET": 12, "E_RDP_SECURITY": 12, "E_TARGET_TLS": 12,
	"E_TARGET_IDENTITY": 13,
	"E_APPLIANCE_CERT":  14, "E_CLOCK": 14, "E_NO_PATH": 14, "E_PROXY_AUTH": 14, "E_PROXY": 14, Inspected: 14, Lost: 17,
	VersionSkew: 15,
	"E_LIMIT":   16, "E_BUSY": 16, "E_AUDIT": 16, "E_RECORDING": 16, "E_CONTROL_DOWN": 16, "E_UPDATE_SPACE": 16, Draining: 16,
	ResumeUnknown: 17, "E_RESUME_EXPIRED": 17, "E_RESUME_DESYNC": 17, "E_ACK_STALL": 17, Superseded: 17, Closed: 17,
	FrameBad: 70, FrameSize: 70, FrameType: 70, Credit: 70, AckBad: 70, FinBad: 70, Internal: 70,
}

// Exit is the exit status that the person's command ends with for c: 2 usage, 10 sign-in, 11 denied, 12 target not
// reached, 13 target's identity, 14 appliance not reached, 15 version, 16 busy, 17 session lost, 70 a bug.
func (c Code) Exit() int {
	if n, ok := exits[c]; ok {
		return n
	}
	return 70
}

// Known says whether c is a code of the protocol.
func (c Code) Known() bool {
	_, ok := exits[c]
	return ok
}

// A Reason says why something did not happen or came to its end: the payload of REFUSED and RESET.
type Reason struct {
	Code     Code   `cbor:"1,keyasint,omitempty"`
	Sentence string `cbor:"2,keyasint,omitempty"` // one line, lower case, no full stop
	Hint     string `cbor:"3,keyasint,omitempty"` // what to do; may be empty
	Rule     string `cbor:"4,keyasint,omitempty"` // the rule that decided; may be empty
	Retry    int64  `cbor:"5,keyasint,omitempty"` // milliseconds to wait before trying again; 0 unknown
	Incident string `cbor:"6,keyasint,omitempty"` // what to quote when asking for help; may be empty
}

// maxLine bounds each text of a Reason that goes on the wire, in bytes.
const maxLine = 600

// clipped is r with texts that fit into a frame and hold no control characters.
func (r Reason) clipped() Reason {
	for _, s := range []*string{&r.Sentence, &r.Hint, &r.Rule, &r.Incident} {
		*s = Clip(*s, maxLine)
	}
	return r
}

// Clip makes s one line of printable text of at most n bytes.
func Clip(s string, n int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0xfffd {
			return '?'
		}
		return c
	}, s)
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// A StreamError ends one flow, or is the reason that there never was one.
type StreamError struct {
	Reason
	Remote bool // the peer said so
}

func (e *StreamError) Error() string { return e.Reason.text() }

// A SessionError ends a transport connection with everything on it.
type SessionError struct {
	Reason
	Remote bool // the peer said so
}

func (e *SessionError) Error() string { return e.Reason.text() }

func (r Reason) text() string {
	if r.Sentence == "" {
		return string(r.Code)
	}
	return r.Sentence
}

// ReasonOf finds the reason in err; ok is false if err carries none.
func ReasonOf(err error) (r Reason, ok bool) {
	var stream *StreamError
	var session *SessionError
	switch {
	case errors.As(err, &stream):
		return stream.Reason, true
	case errors.As(err, &session):
		return session.Reason, true
	}
	return Reason{Code: Internal, Sentence: fmt.Sprint(err)}, false
}

// Refuse is a StreamError with code, sentence and hint.
func Refuse(code Code, sentence, hint string) *StreamError {
	return &StreamError{Reason: Reason{Code: code, Sentence: sentence, Hint: hint}}
}

// RetryAfter is r's waiting time.
func (r Reason) RetryAfter() time.Duration { return time.Duration(r.Retry) * time.Millisecond }
