package api

import "time"

// A HostKey is an SSH host key that a target is known by, or was refused for.
type HostKey struct {
	Target      string    `json:"target"`
	Fingerprint string    `json:"fingerprint"` // as ssh prints it
	Key         string    `json:"key"`         // as in authorized_keys
	Seen        time.Time `json:"seen"`        // first
	Confirmed   time.Time `json:"confirmed,omitzero"`
	By          string    `json:"by,omitempty"`      // who has confirmed it
	Refused     bool      `json:"refused,omitempty"` // it is not the one that the target is known by
}

// ConfirmHostKey says which key of a target is good.
type ConfirmHostKey struct {
	Target      string `json:"target"`
	Fingerprint string `json:"fingerprint"`
}

// ForgetHostKeys says whose keys are forgotten.
type ForgetHostKeys struct {
	Target string `json:"target"`
}
