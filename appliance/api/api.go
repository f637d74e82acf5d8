// Package api is what the appliance and its clients say to each other in JSON, over flows of the protocol Protocol:
// HTTP/1.1 in the name of the device that said HELLO.
//
//	GET /api/v1/openapi.json   the OpenAPI document, which lists all
//
// An error has a status of 400 and above and a Failure.
package api

import (
	"encoding/json"
	"time"
)

// Protocol is the reserved protocol whose target is the appliance itself.
const Protocol = "api"

// Me says who the appliance takes the caller for.
type Me struct {
	Appliance string    `json:"appliance"`
	User      string    `json:"user"`
	Device    string    `json:"device"`
	Transport string    `json:"transport"`
	Source    string    `json:"source"`
	Admin     bool      `json:"admin"`
	Time      time.Time `json:"time"`

	Groups        []string  `json:"groups,omitempty"` // that the identity provider has named
	MFA           time.Time `json:"mfa,omitzero"`     // when a second factor was used to sign in
	SignedInUntil time.Time `json:"signed_in_until,omitzero"`
	Scope         Scope     `json:"scope,omitzero"` // of the device
	Guest         bool      `json:"guest,omitempty"`
	MOTD          string    `json:"motd,omitempty"` // the message of the day
}

// A Target is one that the caller may see.
type Target struct {
	Name      string            `json:"name"`
	VNet      string            `json:"vnet"`
	Protocols map[string][]int  `json:"protocols"` // the ports that the caller may use, the default first
	Labels    map[string]string `json:"labels,omitempty"`
	HostKeys  []string          `json:"host_keys,omitempty"` // as in authorized_keys; the target must show one of them
	HostCA    []string          `json:"host_ca,omitempty"`   // or a certificate by one of these
	Latest    *Reach            `json:"latest,omitempty"`    // attempt at it, by anybody, since the appliance has started
	Files     bool              `json:"files,omitempty"`     // may be sent or fetched by SSH, at some time and in some way
	Address   string            `json:"address,omitempty"`   // or its DNS name; told to administrators who ask for all
	CredSSP   string            `json:"credssp,omitempty"`   // who proves a password to it for people in a browser: appliance, browser or off; none: it has no desktop
}

// A Grant is what the rules allow for a request. Whether the target can be reached, only a flow shows.
type Grant struct {
	Target   string `json:"target"`
	VNet     string `json:"vnet"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	Rule     string `json:"rule"`

	Channels  []string      `json:"channels,omitempty"` // that may be used beside keyboard and screen: clipboard_in, upload …
	Idle      time.Duration `json:"idle_ns,omitempty"`  // ends it when no byte moves
	Lifetime  time.Duration `json:"lifetime_ns,omitempty"`
	Bandwidth int64         `json:"bandwidth_bits,omitempty"` // a second, each way
	Approval  []string      `json:"approval,omitempty"`       // somebody of each of these groups must agree first
	Record    bool          `json:"record,omitempty"`

	Principals []string `json:"principals,omitempty"` // users on the target that an SSH certificate would be for; none: there would be none
	Share      bool     `json:"share,omitempty"`      // the caller may let guests in, by a link
}

// A Bench is how fast the appliance lets people measure.
type Bench struct {
	Rate int64 `json:"bits_per_second"` // of all that a person's measurements move, in both directions together
}

// A Session is a person's access to a target, while it lasts.
type Session struct {
	ID        string    `json:"session"` // 128 bits in hex
	Flow      string    `json:"flow"`    // as the log calls it
	User      string    `json:"user"`
	Device    string    `json:"device"`
	GuestOf   string    `json:"guest_of,omitempty"` // who has let them in
	Link      string    `json:"link,omitempty"`     // by which guest link
	Target    string    `json:"target"`
	Address   string    `json:"address,omitempty"` // of the target; none before it is known
	VNet      string    `json:"vnet"`
	Protocol  string    `json:"protocol"`
	Program   string    `json:"program,omitempty"` // by which the appliance speaks it; none: the client does
	Port      uint16    `json:"port"`
	Rule      string    `json:"rule"` // that allows it
	Transport string    `json:"transport"`
	Source    string    `json:"source"`
	Client    string    `json:"client"` // what the client says of itself
	Since     time.Time `json:"since"`

	Idle      time.Duration `json:"idle_ns"`                  // since when no byte has moved
	IdleLimit time.Duration `json:"idle_limit_ns,omitempty"`  // that ends it
	Ends      time.Time     `json:"ends,omitzero"`            // at the latest
	Bandwidth int64         `json:"bandwidth_bits,omitempty"` // a second, each way; 0: no limit

	Attached int           `json:"attached"`              // how many connections have carried it
	Detached time.Duration `json:"detached_ns,omitempty"` // since when it has none; 0: it has one
	Resumed  time.Time     `json:"resumed,omitzero"`      // when it came to the latest of them
	Gap      time.Duration `json:"gap_ns,omitempty"`      // that it had none before that; 0: it moved while it had one
	Why      string        `json:"why,omitempty"`         // the client moved it there: lost, better, bulk or slower, as in RESUME
	Lost     string        `json:"lost,omitempty"`        // why it has none
	RTT      time.Duration `json:"rtt_ns,omitempty"`      // between client and appliance, when it was last measured
	Up       uint64        `json:"up"`                    // bytes that the target has taken
	Down     uint64        `json:"down"`                  // bytes that the client has taken
}

// EndSessions names sessions to be ended: by ids, or by what all of them have in common.
type EndSessions struct {
	Sessions []string `json:"sessions,omitempty"` // ids, or their first 12 characters
	User     string   `json:"user,omitempty"`
	Target   string   `json:"target,omitempty"`
	Rule     string   `json:"rule,omitempty"`
	Why      string   `json:"why,omitempty"` // is told to whom they belong
}

// MessageSessions is a line for those to whom sessions belong.
type MessageSessions struct {
	Sessions []string `json:"sessions"` // ids, or their first 12 characters
	Text     string   `json:"text"`     // at most 255 bytes that print
}

// A Device is one that is enrolled, or was.
type Device struct {
	ID       string    `json:"device"`
	User     string    `json:"user"`
	Name     string    `json:"name"`
	Platform string    `json:"platform,omitempty"`
	Enrolled time.Time `json:"enrolled"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Source   string    `json:"source,omitempty"`
	Version  string    `json:"version,omitempty"`
	Revoked  time.Time `json:"revoked,omitzero"`
	Scope    Scope     `json:"scope,omitzero"`
}

// A Lock bars a user, a device or a target, whatever the rules say.
type Lock struct {
	Kind  string    `json:"kind"` // user, device or target
	Name  string    `json:"name"`
	By    string    `json:"by,omitempty"`  // is not asked for: who calls
	Why   string    `json:"why,omitempty"` // is told to those whom it stops
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"` // none: until it is taken off
}

// An AuditPage is some events of the audit log, in their order.
type AuditPage struct {
	Events []json.RawMessage `json:"events"` // as their lines in the log are, see docs/audit.md
	Next   uint64            `json:"next"`   // to be asked for as ?after= next time
	More   bool              `json:"more"`   // there are more now
}

// An AuditKey is the key that signs the audit log.
type AuditKey struct {
	Key string `json:"key"` // Ed25519, in hex
}

// A Why is how a request would be decided.
type Why struct {
	Allowed  bool            `json:"allowed"`
	Rule     string          `json:"rule,omitempty"` // that allows it, or is told to who is refused
	Code     string          `json:"code,omitempty"` // of the refusal
	Sentence string          `json:"error,omitempty"`
	Hint     string          `json:"hint,omitempty"`
	Policies []PolicyAccount `json:"policies"` // those that matched first, then those that came nearest
	Text     string          `json:"text"`     // all of it, for people
}

// A PolicyAccount is what one policy has to do with a request.
type PolicyAccount struct {
	ID      string   `json:"id"`
	Effect  string   `json:"effect"` // permit or forbid
	Place   string   `json:"place"`  // file:line:column
	Actions []string `json:"actions,omitempty"`
	Matched bool     `json:"matched"`
	Why     string   `json:"why,omitempty"` // what did not fit
	Limits  []string `json:"limits,omitempty"`
}

// A PolicyStatement is a rule or a policy that is in force.
type PolicyStatement struct {
	ID     string   `json:"id"`
	Kind   string   `json:"kind"`   // rule, of access.yaml, or policy
	Effect string   `json:"effect"` // permit or forbid
	Place  string   `json:"place"`  // file:line:column
	Limits []string `json:"limits,omitempty"`
	Text   string   `json:"text"` // in Cedar, which a rule is compiled to
}

// A PolicyTest is what became of the tests that stand in the access files.
type PolicyTest struct {
	Ran      int      `json:"ran"`
	Failures []string `json:"failures"`
}

// A Failure is the API's no.
type Failure struct {
	Code     string `json:"code"`
	Sentence string `json:"error"`
	Hint     string `json:"hint,omitempty"`
}
