package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Messages between parent and worker are JSON, one a datagram of a SOCK_SEQPACKET pair.
const (
	maxMessage = 64 << 10 // from the parent, which the worker trusts; a plan of several hundred names
	maxRequest = 4 << 10  // from the worker, which the parent does not trust
	maxVNets   = 32       // in one request
)

// A message tells the worker one thing. Listener, Link and File carry descriptors and are only collected; Plan and Changed
// end such a batch and make it valid as a whole.
type message struct {
	Listener *Listen   `json:"listener,omitempty"` // and its socket
	Link     *linkInfo `json:"link,omitempty"`     // and its sockets
	File     *fileInfo `json:"file,omitempty"`     // and its content in a memfd
	Plan     *planInfo `json:"plan,omitempty"`     // everything has been sent
	Changed  bool      `json:"changed,omitempty"`  // files have changed or are to be read again
	Ask      uint64    `json:"ask,omitempty"`      // asks whether the worker lives; the number of the question

	Update *updateAnswer `json:"update,omitempty"` // to a request about the image
}

type linkInfo struct {
	VNet      string           `json:"vnet"`
	Kind      Kind             `json:"kind"`
	Interface string           `json:"interface"`
	MAC       net.HardwareAddr `json:"mac,omitempty"`
	MTU       int              `json:"mtu,omitempty"`
	DHCP      bool             `json:"dhcp,omitempty"` // the last socket is for it
	Notes     []string         `json:"notes,omitempty"`
	Error     string           `json:"error,omitempty"` // instead of sockets
}

type fileInfo struct {
	Path   string `json:"path"`
	Folder bool   `json:"folder,omitempty"` // the content is that of its files, by name
	Errno  int    `json:"errno,omitempty"`  // instead of content
}

// A planInfo is what holds from now on; what it does not name has gone. With an Error nothing has changed.
type planInfo struct {
	ID     uint64   `json:"id,omitempty"` // of the request that it answers
	Listen []string `json:"listen,omitempty"`
	Links  []string `json:"links,omitempty"`
	Files  []string `json:"files,omitempty"`
	State  string   `json:"state,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// A request is what the worker says: one of these.
type request struct {
	Relink uint64   `json:"relink,omitempty"` // compute the plan again and send what is new; the number is the worker's
	Afresh []string `json:"afresh,omitempty"` // with Relink: VNets whose sockets are to be fresh ones
	Alive  uint64   `json:"alive,omitempty"`  // the number of the question that this answers
	State  state    `json:"state,omitempty"`  // with Alive
	Clock  *int64   `json:"clock,omitempty"`  // nanoseconds that this machine's clock lacks, or is ahead by if negative

	Update *updateRequest `json:"update,omitempty"` // about the image; an install comes with a descriptor

	update *update // the same, and the descriptor
}

// maxOffset bounds Clock: no clock is further from the truth than one that begins in 1970.
const maxOffset = int64(100 * 365 * 24 * time.Hour)

// A state is how a worker is that lives.
type state string

const (
	starting state = "starting" // it does not serve yet
	serving  state = "serving"  // its self-test has passed
	troubled state = "troubled" // it serves, and something is wrong that another worker could not mend
	draining state = "draining" // it has been asked to end
)

func (s state) known() bool {
	return s == starting || s == serving || s == troubled || s == draining
}

var errRequest = errors.New("not a request")

// parseRequest reads what an untrusted worker has sent.
func parseRequest(b []byte) (request, error) {
	if len(b) > maxRequest {
		return request{}, fmt.Errorf("%w: %d bytes", errRequest, len(b))
	}
	var r request
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return request{}, fmt.Errorf("%w: %w", errRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return request{}, fmt.Errorf("%w: more than one value", errRequest)
	}
	return r, r.check()
}

func (r request) check() error {
	things := 0
	for _, said := range []bool{r.Relink != 0, r.Alive != 0, r.Clock != nil, r.Update != nil} {
		if said {
			things++
		}
	}
	if things != 1 {
		return fmt.Errorf("%w: %d things", errRequest, things)
	}
	if r.Clock != nil && (*r.Clock > maxOffset || *r.Clock < -maxOffset) {
		return fmt.Errorf("%w: a clock that is off by %d ns", errRequest, *r.Clock)
	}
	if r.Update != nil {
		if err := r.Update.check(); err != nil {
			return err
		}
	}
	if (r.Alive != 0) != r.State.known() || r.Alive == 0 && r.State != "" {
		return fmt.Errorf("%w: state %q", errRequest, r.State)
	}
	if r.Relink == 0 && r.Afresh != nil || len(r.Afresh) > maxVNets {
		return fmt.Errorf("%w: VNets", errRequest)
	}
	for _, name := range r.Afresh {
		if !validName.MatchString(name) {
			return fmt.Errorf("%w: VNet name %q", errRequest, name)
		}
	}
	return nil
}
