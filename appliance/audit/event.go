package audit

import "time"

// An Event is a line of the log. Write fills Seq, Appliance, Prev and, where it is zero, Time; the fields of heads are the
// log's own. Fields that are empty or 0 are left out of the line.
type Event struct {
	Seq  uint64    `json:"seq"`   // the line's number: 1, 2, 3 …
	Time time.Time `json:"time"`  // in UTC, to the microsecond
	Kind string    `json:"event"` // such as "flow.open"

	Appliance string `json:"appliance,omitempty"`
	Session   string `json:"session,omitempty"`
	Flow      string `json:"flow,omitempty"`

	User      string `json:"user,omitempty"`
	Device    string `json:"device,omitempty"`
	Source    string `json:"source,omitempty"`    // the client's address and port, as the appliance sees it
	Transport string `json:"transport,omitempty"` // quic, https
	Client    string `json:"client,omitempty"`    // the client's version and platform

	Target   string `json:"target,omitempty"`  // the name that was asked for
	Address  string `json:"address,omitempty"` // the target's address and port, as it was dialled
	VNet     string `json:"vnet,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	Port     uint16 `json:"port,omitempty"`

	Policies []string `json:"policies,omitempty"` // the ids that decided
	Decision string   `json:"decision,omitempty"` // allow, deny
	Code     string   `json:"code,omitempty"`     // of a refusal or an end, such as E_DENIED
	Why      string   `json:"why,omitempty"`      // the same as a sentence

	Up       int64 `json:"up,omitempty"`   // bytes to the target
	Down     int64 `json:"down,omitempty"` // bytes from the target
	Duration int64 `json:"duration_ms,omitempty"`

	By     string            `json:"by,omitempty"`     // who did it, where that is not User
	Object string            `json:"object,omitempty"` // what it was done to: a device, a rule, a recording
	Detail map[string]string `json:"detail,omitempty"` // what else there is to say

	Format int    `json:"format,omitempty"` // heads: of the log, 1
	Count  uint64 `json:"count,omitempty"`  // heads: lines since the head before
	Key    string `json:"key,omitempty"`    // heads: which key has signed; see KeyID

	Prev string `json:"prev"`          // the SHA-256 of the line before without its newline, in hexadecimal
	Sig  string `json:"sig,omitempty"` // heads: the signature, in hexadecimal
}

// MarshalJSON returns the event as a line has it.
func (e Event) MarshalJSON() ([]byte, error) { return encode(e) }
