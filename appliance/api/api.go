// Package api is what the appliance and its clients say to each other in JSON, over flows of the protocol Protocol:
// HTTP/1.1 in the name of the device that said HELLO.
//
//	GET    /api/v1/me             Me
//	GET    /api/v1/targets        []Target, those that the caller may see
//	GET    /api/v1/grant          Grant, what a flow to ?target=, &port= and &protocol= would be granted; nothing is dialled
//	GET    /api/v1/bench          Bench, what the caller may measure their way by, with flows of the protocol bench
//	GET    /api/v1/flows          []Flow, the caller's; with ?all everybody's, for administrators
//	POST   /api/v1/logout         revokes the caller's own device
//	GET    /api/v1/devices        []Device, for administrators
//	DELETE /api/v1/devices/{id}   revokes a device, for administrators
//
// An error has a status of 400 and above and a Failure.
package api

import "time"

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
}

// A Target is one that the caller may see.
type Target struct {
	Name      string            `json:"name"`
	VNet      string            `json:"vnet"`
	Protocols map[string][]int  `json:"protocols"` // the ports that the caller may use, the default first
	Labels    map[string]string `json:"labels,omitempty"`
	HostKeys  []string          `json:"host_keys,omitempty"` // as in authorized_keys
}

// A Grant is what the rules allow for a request. Whether the target can be reached, only a flow shows.
type Grant struct {
	Target   string `json:"target"`
	VNet     string `json:"vnet"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	Rule     string `json:"rule"`
}

// A Bench is how fast the appliance lets people measure.
type Bench struct {
	Rate int64 `json:"bits_per_second"` // of all that a person's measurements move, in both directions together
}

// A Flow is one that is live.
type Flow struct {
	ID        string    `json:"flow"`
	User      string    `json:"user"`
	Device    string    `json:"device"`
	Target    string    `json:"target"`
	Protocol  string    `json:"protocol"`
	Port      uint16    `json:"port"`
	Transport string    `json:"transport"`
	Source    string    `json:"source"`
	Since     time.Time `json:"since"`

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
}

// A Failure is the API's no.
type Failure struct {
	Code     string `json:"code"`
	Sentence string `json:"error"`
	Hint     string `json:"hint,omitempty"`
}
