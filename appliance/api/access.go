package api

import "time"

// ApplyAccess asks for a version of the access files to come into force: these files, or those of a version that was.
type ApplyAccess struct {
	Files    map[string][]byte `json:"files,omitempty"` // by name, in base64
	Rollback int64             `json:"rollback,omitempty"`

	Expected int64  `json:"expected"`          // the version in force that it was compared with
	Comment  string `json:"comment,omitempty"` // why
	DryRun   bool   `json:"dry_run,omitempty"` // nothing changes; Expected does not count
	Force    bool   `json:"force,omitempty"`   // also where the caller is no administrator afterwards
}

// An AccessPlan is what a version would change, or has changed.
type AccessPlan struct {
	Version    int64          `json:"version"`          // in force, that it was compared with; 0: none
	Taken      int64          `json:"taken,omitempty"`  // its own number, once it is in force
	Faults     []string       `json:"faults,omitempty"` // what is wrong with the files; then nothing else is known
	Changes    []AccessChange `json:"changes"`          // by kind and name
	Ends       []AccessEnd    `json:"ends"`             // sessions on this appliance that it ends
	Warnings   []string       `json:"warnings,omitempty"`
	NeedsForce bool           `json:"needs_force,omitempty"` // the caller would be no administrator
}

// An AccessChange is a target, group, rule … that is not the same in two versions.
type AccessChange struct {
	Action string      `json:"action"` // added, changed or removed
	Kind   string      `json:"kind"`   // setting, target, group, account, rule, policy or test
	Name   string      `json:"name"`
	Keys   []AccessKey `json:"keys"`
}

// An AccessKey is what a key says, empty where it does not.
type AccessKey struct {
	Key string `json:"key"`
	Was string `json:"was,omitempty"`
	Is  string `json:"is,omitempty"`
}

// An AccessEnd is a session that a version does not allow.
type AccessEnd struct {
	Session string `json:"session"`
	User    string `json:"user"`
	Target  string `json:"target"`
	Why     string `json:"why"`
}

// An AccessVersion is a version of the access files.
type AccessVersion struct {
	Version int64             `json:"version"`
	Created time.Time         `json:"created"`
	By      string            `json:"by"`
	Comment string            `json:"comment,omitempty"`
	Hash    string            `json:"hash"`
	Files   map[string][]byte `json:"files,omitempty"` // in base64; not in lists
}

// CheckPolicy asks what is wrong with access files. Nothing changes.
type CheckPolicy struct {
	Files map[string][]byte `json:"files"` // by name, in base64
}

// A PolicyCheck says what is wrong with them.
type PolicyCheck struct {
	Faults []string `json:"faults"` // with file, line and column; tests that fail among them
	Tests  int      `json:"tests"`  // that passed; 0 where there are faults
}
