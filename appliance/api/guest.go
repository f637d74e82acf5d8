package api

import "time"

// A GuestLink lets somebody in who has no account: to one target by one protocol, for a while.
type GuestLink struct {
	ID       string     `json:"id"`
	Link     string     `json:"link,omitempty"` // what opens it: told once, to who makes it
	Maker    string     `json:"maker"`
	Target   string     `json:"target"`
	VNet     string     `json:"vnet"`
	Protocol string     `json:"protocol"`
	Programs []string   `json:"programs,omitempty"` // that guests may use; none: whatever the rules allow
	Approval string     `json:"approval,omitempty"` // a group of which somebody must agree
	SignIn   bool       `json:"sign_in"`            // who opens it must sign in
	Created  time.Time  `json:"created"`
	Expires  time.Time  `json:"expires"`
	Uses     int64      `json:"uses"` // how often it may be opened
	Used     int64      `json:"used"`
	Revoked  time.Time  `json:"revoked,omitzero"`
	Why      string     `json:"why,omitempty"`    // it does not work now
	Opened   []GuestUse `json:"opened,omitempty"` // by whom
}

// A GuestUse is one opening of a link.
type GuestUse struct {
	User   string    `json:"user"`
	Device string    `json:"device"`
	Source string    `json:"source"`
	At     time.Time `json:"at"`
}

// AskGuest asks for a link.
type AskGuest struct {
	Target   string        `json:"target"`
	Protocol string        `json:"protocol,omitempty"` // ssh or rdp; default: the target's
	Programs []string      `json:"programs,omitempty"` // of ssh terminal and files, of rdp desktop; default: whatever the rules allow
	For      time.Duration `json:"for_ns,omitempty"`   // how long it is good; default 2 hours
	Uses     int64         `json:"uses,omitempty"`     // how often it may be opened; default once
	Approval string        `json:"approval,omitempty"` // a group of which somebody must agree first
	SignIn   bool          `json:"sign_in,omitempty"`  // who opens it must sign in
}

// LookGuest asks what a link is for, and OpenGuest opens it for a key of the browser's. The secret is what stands behind #
// in the link.
type LookGuest struct {
	Secret string `json:"secret"`
}

// OpenGuest opens a link. See LookGuest.
type OpenGuest struct {
	Secret   string `json:"secret"`
	Key      string `json:"key"` // Ed25519, in base64url
	Name     string `json:"name"`
	Platform string `json:"platform"`
}

// A GuestView is what somebody is told who has a link.
type GuestView struct {
	Maker    string    `json:"maker"`
	Target   string    `json:"target"`
	Protocol string    `json:"protocol"`
	Approval string    `json:"approval,omitempty"`
	SignIn   bool      `json:"sign_in"`
	Expires  time.Time `json:"expires"`
	Instead  bool      `json:"instead,omitempty"` // the browser is signed in, and would not be any more
	User     string    `json:"user,omitempty"`    // once it is open: who they are, and Device likewise
	Device   string    `json:"device,omitempty"`
	Identity []string  `json:"identity,omitempty"` // once it is open: as in LoginState
}
