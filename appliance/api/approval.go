package api

import "time"

// An Approval is a request that somebody must say yes to, and what they have said.
type Approval struct {
	ID       string    `json:"id"`
	User     string    `json:"user"`
	Device   string    `json:"device"`
	Target   string    `json:"target"` // with its port
	VNet     string    `json:"vnet,omitempty"`
	Protocol string    `json:"protocol"`
	Group    string    `json:"group"` // whose members may decide
	Reason   string    `json:"reason,omitempty"`
	Asked    time.Time `json:"asked"`
	Expires  time.Time `json:"expires"` // the request while it waits, what it allows afterwards

	Decided   time.Time `json:"decided,omitzero"`
	Approved  bool      `json:"approved"`
	By        string    `json:"by,omitempty"`
	Why       string    `json:"why,omitempty"`
	MayDecide bool      `json:"may_decide"` // the caller may
}

// AskApproval asks for a target without connecting to it.
type AskApproval struct {
	Target   string `json:"target"`
	Protocol string `json:"protocol,omitempty"`
	Port     int    `json:"port,omitempty"`
	Program  string `json:"program,omitempty"` // by which the appliance is to speak the protocol; default: the client does
	Reason   string `json:"reason,omitempty"`
}

// DecideApproval is a yes or a no.
type DecideApproval struct {
	Approve bool          `json:"approve"`
	For     time.Duration `json:"for_ns,omitempty"` // how long a yes lasts; default an hour
	Why     string        `json:"why,omitempty"`
}
