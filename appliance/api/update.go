package api

import "time"

// MaxPiece is the most bytes of an update file that are brought at once: few enough for a slow line and the time that a
// request may take.
const MaxPiece = 1 << 20

// An Update is the versions of the image that an appliance has.
type Update struct {
	Version string        `json:"version"`          // that runs
	Flavour string        `json:"flavour"`          // of the image: all, kvm, azure …
	Trial   bool          `json:"trial,omitempty"`  // what runs has yet to pass its self-test
	Next    string        `json:"next"`             // that the next start takes
	Floor   string        `json:"floor,omitempty"`  // nothing older is installed any more
	Slots   []UpdateSlot  `json:"slots"`            // the latest first
	Upload  *UpdateUpload `json:"upload,omitempty"` // that has begun
}

// An UpdateSlot is a version on the appliance's disk.
type UpdateSlot struct {
	Version string `json:"version"`
	State   string `json:"state"`           // good, trial or given-up
	Tries   int    `json:"tries,omitempty"` // that are left of a trial
	Bytes   int64  `json:"bytes"`
}

// An UpdateUpload is how much of an update file is there.
type UpdateUpload struct {
	ID       string `json:"id"` // SHA-256 of the file, in hex
	Received int64  `json:"received"`

	// What the file's header says, once that is there. It is signed.
	Version string `json:"version,omitempty"`
	Flavour string `json:"flavour,omitempty"`
	Floor   string `json:"floor,omitempty"`
}

// InstallUpdate asks for an update file that is there to be installed.
type InstallUpdate struct {
	ID string `json:"id"`
}

// An UpdateNext is what the next start takes.
type UpdateNext struct {
	Version string `json:"version"` // that runs
	Next    string `json:"next"`
}

// An UpdateRestart is what a restart means for people.
type UpdateRestart struct {
	Sessions int           `json:"sessions"` // that are open
	Grace    time.Duration `json:"grace_ns"` // that they have at most
}
