package api

import "time"

// A Scope is to what a device is narrowed, whatever its person may. What is left out is not narrowed.
type Scope struct {
	Targets   []string  `json:"targets,omitempty"`
	Protocols []string  `json:"protocols,omitempty"`
	Expires   time.Time `json:"expires,omitzero"` // from when on the device is refused
}

// IsZero says whether the device may do all that its person may.
func (s Scope) IsZero() bool {
	return len(s.Targets)+len(s.Protocols) == 0 && s.Expires.IsZero()
}

// AskCode asks for a one-time code that enrols a device.
type AskCode struct {
	User      string        `json:"user"`
	Valid     time.Duration `json:"valid_ns,omitempty"` // of the code; default and at most ten minutes
	Targets   []string      `json:"targets,omitempty"`  // that the device may reach; default all that its person may
	Protocols []string      `json:"protocols,omitempty"`
	Expires   time.Duration `json:"expires_ns,omitempty"` // from now on, until the device is refused; default never
}

// A Code is a one-time code. It is shown this once.
type Code struct {
	Code    string    `json:"code"`
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
	Scope   Scope     `json:"scope,omitzero"` // of the device that enrols with it
}
