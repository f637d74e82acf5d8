package client

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport/frame"
)

// A grant is what an appliance has given with a flow, to be shown when the same is asked for again: with one that is a few
// minutes old the appliance opens a flow also while its database is away. It is bound to this device's key. NAME.grants keeps
// the latest of each flow; it may be lost, be old, or be written by two at once.
type grant struct {
	Target   string    `json:"target"`
	Protocol string    `json:"protocol"`
	Port     uint16    `json:"port,omitempty"`
	VNet     string    `json:"vnet,omitempty"`
	Grant    []byte    `json:"grant"`
	Given    time.Time `json:"given"`
}

const (
	maxGrants   = 32
	grantFresh  = time.Minute // one that is younger is not replaced: not every flow costs a write
	grantUseful = time.Hour   // no appliance takes an older one
)

func (h Home) grantsFile(name string) string { return name + ".grants" }

// grants are those that are kept for an appliance, the latest first.
func (h Home) grants(name string) (all []grant) {
	f, err := os.Open(filepath.Join(h.dir, h.grantsFile(name)))
	if err != nil {
		return nil
	}
	defer f.Close()
	if json.NewDecoder(io.LimitReader(f, 64<<10)).Decode(&all) != nil || len(all) > maxGrants {
		return nil
	}
	return slices.DeleteFunc(all, func(g grant) bool { return len(g.Grant) != frame.GrantSize })
}

func (g grant) isFor(req frame.OpenRequest) bool {
	return g.Target == req.Target && g.Protocol == req.Protocol && g.Port == req.Port && g.VNet == req.VNet
}

// withGrant is a request with the grant that is kept for it, if there is one.
func (h Home) withGrant(name string, req frame.OpenRequest) frame.OpenRequest {
	all := h.grants(name)
	if i := slices.IndexFunc(all, func(g grant) bool { return g.isFor(req) }); i >= 0 {
		req.Grant = all[i].Grant
	}
	return req
}

// keepGrant keeps what came with a flow, if it is newer than what is kept by more than a moment.
func (h Home) keepGrant(name string, req frame.OpenRequest, o *frame.Opened, now time.Time) {
	if len(o.Grant) == 0 {
		return
	}
	all := h.grants(name)
	for _, g := range all {
		if age := now.Sub(g.Given); g.isFor(req) && age >= 0 && age < grantFresh {
			return
		}
	}
	if _, err := os.Stat(h.dir); err != nil {
		return // logged out, folder and all
	}
	all = slices.DeleteFunc(all, func(g grant) bool { return g.isFor(req) || now.Sub(g.Given) > grantUseful })
	all = append([]grant{{req.Target, req.Protocol, req.Port, req.VNet, o.Grant, now}}, all...)
	if b, err := json.Marshal(all[:min(len(all), maxGrants)]); err == nil {
		h.write(h.grantsFile(name), append(b, '\n'))
	}
}
