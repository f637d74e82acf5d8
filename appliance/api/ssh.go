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

// AskSSHCertificate asks for a certificate by which a target lets the caller in.
type AskSSHCertificate struct {
	Target string `json:"target"`
	Port   uint16 `json:"port,omitempty"` // 0: the target's own
	Key    string `json:"key"`            // the public key, as in authorized_keys
}

// An SSHCertificate is for opening a connection now.
type SSHCertificate struct {
	Certificate string    `json:"certificate"` // as in authorized_keys
	Principals  []string  `json:"principals"`
	Expires     time.Time `json:"expires"`
}
