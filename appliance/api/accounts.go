package api

import "time"

// An Account is somebody who may sign in.
type Account struct {
	User      string    `json:"user"`
	Source    string    `json:"source"` // local, or the identity provider
	Groups    []string  `json:"groups"`
	Created   time.Time `json:"created"`
	Disabled  time.Time `json:"disabled,omitzero"`
	LastLogin time.Time `json:"last_login,omitzero"`
	Has       []string  `json:"has,omitempty"` // kinds of credentials of a local one
}

// AddAccount asks for a new local account.
type AddAccount struct {
	User   string   `json:"user"`
	Groups []string `json:"groups,omitempty"`
}

// ResetAccount asks for a new set-up link, and says what the account loses: nothing means all of its credentials.
type ResetAccount struct {
	Password     bool `json:"password,omitempty"`
	SecondFactor bool `json:"second_factor,omitempty"`
}

// SetAccount changes an account.
type SetAccount struct {
	Disabled bool `json:"disabled"`
}

// Factors are what a person signs in with.
type Factors struct {
	Source  string   `json:"source,omitempty"` // of their account: local, or the identity provider; none where they have no account
	Factors []Factor `json:"factors,omitempty"`
}

// A Factor is something by which a local account proves itself.
type Factor struct {
	Kind  string    `json:"kind"`           // password, passkey, totp or recovery
	Name  string    `json:"name,omitempty"` // that a passkey was given
	Added time.Time `json:"added"`
	Used  time.Time `json:"used,omitzero"`  // the latest time, where that is known
	Left  int       `json:"left,omitempty"` // recovery codes that are good
}

// A SetUp is the way to choose an account's credentials, once. Who has the code has the account.
type SetUp struct {
	User    string    `json:"user"`
	Path    string    `json:"path"` // with the code in its fragment, below the appliance's address
	Expires time.Time `json:"expires"`
}

// A SignIn is a person's stay on a device.
type SignIn struct {
	ID       string    `json:"id"`
	User     string    `json:"user"`
	Device   string    `json:"device"`
	Provider string    `json:"provider"` // local, or who vouched
	Groups   []string  `json:"groups,omitempty"`
	MFA      time.Time `json:"mfa,omitzero"` // when a second factor was shown last
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// EndSignIns names sign-ins to be ended: one, or all of a person.
type EndSignIns struct {
	ID   string `json:"id,omitempty"`
	User string `json:"user,omitempty"`
}
