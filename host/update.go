package host

import (
	"fmt"
	"io"
)

// An Updater changes the version of the image that the machine runs from. The parent has one where there is an image.
//
// It may be asked by a worker that has been taken over. So it trusts nothing of what it is given, and what it does it may
// do for anybody who has a genuine update file and the right to restart the appliance.
type Updater interface {
	// Status says which versions there are. It is to cost little: a worker may ask for it as often as it likes.
	Status() (UpdateStatus, error)

	// Install installs the update file that f is, and returns its version. The worker may change the file while it is read.
	Install(f io.Reader) (version string, err error)

	// Rollback has the next start take the version before, and returns that.
	Rollback() (version string, err error)

	// Restart begins to restart the machine: the worker drains, as on SIGTERM, and Run returns. It does not wait for that.
	Restart()
}

// An UpdateStatus is the versions of the image that a machine has.
type UpdateStatus struct {
	Version string       `json:"version"`         // that runs
	Flavour string       `json:"flavour"`         // of the image: all, kvm, azure …
	Trial   bool         `json:"trial,omitempty"` // what runs has yet to pass its self-test
	Next    string       `json:"next"`            // that the next start takes
	Floor   string       `json:"floor,omitempty"` // nothing older is installed
	Slots   []UpdateSlot `json:"slots"`           // the latest first
}

// An UpdateSlot is a version on the disk.
type UpdateSlot struct {
	Version string `json:"version"`
	State   string `json:"state"` // good, trial or given-up
	Tries   int    `json:"tries,omitempty"`
	Size    int64  `json:"bytes"`
}

// An UpdateError is why an Updater has not done something, for the person who has asked.
type UpdateError struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

func (e *UpdateError) Error() string { return e.Text }

// CodeNoUpdates is the code of an UpdateError where there is no image, so that nothing can be updated this way.
const CodeNoUpdates = "E_UPDATE_NONE"

// An updateTask is what the worker may ask for.
type updateTask string

const (
	updateStatus   updateTask = "status"
	updateInstall  updateTask = "install" // with a descriptor of the file
	updateRollback updateTask = "rollback"
	updateRestart  updateTask = "restart"
)

type updateRequest struct {
	ID uint64     `json:"id"` // the worker's
	Do updateTask `json:"do"`
}

// An updateAnswer has one of Error, Status and, of an install or a rollback, Version.
type updateAnswer struct {
	ID      uint64        `json:"id"`
	Version string        `json:"version,omitempty"`
	Status  *UpdateStatus `json:"status,omitempty"`
	Error   *UpdateError  `json:"error,omitempty"`
}

func (r updateRequest) check() error {
	switch r.Do {
	case updateStatus, updateInstall, updateRollback, updateRestart:
		if r.ID != 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: update %q", errRequest, r.Do)
}
