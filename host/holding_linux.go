package host

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A holding is what the parent holds open for the worker, by one plan. What is fresh has not been sent yet.
type holding struct {
	plan    Plan
	owner   account
	sockets []heldSocket
	links   []heldLink
	files   []heldFile
}

type heldSocket struct {
	Listen
	fd    int
	fresh bool
}

// A heldLink keeps a TAP for as long as it is planned and nobody has deleted it, and packet sockets only until they have
// been sent.
type heldLink struct {
	plan  LinkPlan
	info  linkInfo
	fds   []int
	fresh bool
}

type heldFile struct {
	*watched
	fresh bool
}

// prepare opens what a plan needs beyond what is held already; afresh names VNets whose links are to be opened again.
// On error it closes what it has opened.
func (s *supervisor) prepare(plan Plan, afresh []string) (next holding, err error) {
	next.plan = plan
	defer func() {
		if err != nil {
			next.closeExcept(&s.held)
		}
	}()
	for _, vnet := range afresh {
		if !slices.ContainsFunc(plan.Links, func(l LinkPlan) bool { return l.VNet == vnet }) {
			return next, fmt.Errorf("the plan has no VNet %s", vnet)
		}
	}
	if next.owner, err = lookupAccount(plan.RunAs); err != nil {
		return next, err
	}
	if s.held.owner != (account{}) && s.held.owner != next.owner {
		return next, fmt.Errorf("run as %q: another user needs a restart", plan.RunAs)
	}
	if plan.State != "" {
		if err := makeState(plan.State, next.owner); err != nil {
			return next, err
		}
	}
	for _, l := range plan.Listen {
		h := heldSocket{l, -1, true}
		if i := slices.IndexFunc(s.held.sockets, func(h heldSocket) bool { return h.Listen == l }); i >= 0 {
			h = s.held.sockets[i]
		} else if h.fd, err = openListen(l); err != nil {
			return next, err
		}
		next.sockets = append(next.sockets, h)
	}
	for _, l := range plan.Links {
		h := heldLink{plan: l, fresh: true}
		if i := slices.IndexFunc(s.held.links, func(h heldLink) bool { return h.plan == l }); i >= 0 {
			h = s.held.links[i]
			h.fresh = h.info.Error != "" || slices.Contains(afresh, l.VNet)
		}
		if h.fresh {
			if err := h.open(s.RunDir); err != nil {
				return next, err
			}
		}
		next.links = append(next.links, h)
	}
	for _, path := range plan.Files {
		i := slices.IndexFunc(s.held.files, func(h heldFile) bool { return h.path == path })
		if i >= 0 {
			next.files = append(next.files, s.held.files[i])
		} else {
			next.files = append(next.files, heldFile{watch(path, plan.Count), true})
		}
	}
	return next, nil
}

// adopt makes next what is held, and closes what only the old one had.
func (s *supervisor) adopt(next holding) {
	s.held.closeExcept(&next)
	s.held = next
}

// open opens the link, unless it is open. The descriptors of a TAP that was deleted are good for nothing; they are left
// to the caller, since another holding may have them too.
func (h *heldLink) open(runDir string) error {
	if len(h.fds) > 0 && (h.plan.Kind == Packet || isTAP(h.fds[0])) {
		return nil
	}
	h.fds = nil
	var err error
	if h.plan.Kind == Packet {
		h.info, h.fds, err = openPacket(runDir, h.plan)
	} else {
		var fd int
		if h.info, fd, err = openTAP(h.plan); err == nil {
			h.fds = []int{fd}
		}
	}
	if err != nil {
		err = fmt.Errorf("link %s: %w", h.plan.VNet, err)
		h.info = linkInfo{VNet: h.plan.VNet, Kind: h.plan.Kind, Interface: h.plan.Interface, Error: err.Error()}
	}
	return err
}

// sendFresh gives the worker what it has not been given, and lets go of what only the worker needs.
func (h *holding) sendFresh(c channel) error {
	for i := range h.sockets {
		if s := &h.sockets[i]; s.fresh {
			if err := c.send(message{Listener: &s.Listen}, s.fd); err != nil {
				return err
			}
			s.fresh = false
		}
	}
	for i := range h.links {
		if l := &h.links[i]; l.fresh {
			if err := c.send(message{Link: &l.info}, l.fds...); err != nil {
				return err
			}
			l.fresh = false
			if l.plan.Kind == Packet {
				closeAll(l.fds)
				l.fds = nil
			}
		}
	}
	for i := range h.files {
		if f := &h.files[i]; f.fresh {
			if err := f.send(c); err != nil {
				return err
			}
			f.fresh = false
		}
	}
	return nil
}

// refresh makes everything fresh, for a new worker. A link that cannot be opened now is sent as an error.
func (h *holding) refresh(runDir string) {
	before := holding{links: slices.Clone(h.links)}
	for i := range h.sockets {
		h.sockets[i].fresh = true
	}
	for i := range h.links {
		h.links[i].fresh = true
		h.links[i].open(runDir) // the error is in its info
	}
	before.closeExcept(h)
	h.refreshFiles()
	for i := range h.files {
		h.files[i].fresh = true
	}
}

// refreshFiles reads what has changed, makes it fresh and says whether there was anything.
func (h *holding) refreshFiles() bool {
	changed := false
	for i := range h.files {
		if f := &h.files[i]; f.watched.refresh() {
			f.fresh, changed = true, true
		}
	}
	return changed
}

// info is what the worker is told when it has been sent everything.
func (h *holding) info() planInfo {
	p := planInfo{State: h.plan.State}
	for _, s := range h.sockets {
		p.Listen = append(p.Listen, s.Name)
	}
	for _, l := range h.links {
		p.Links = append(p.Links, l.plan.VNet)
	}
	for _, f := range h.files {
		p.Files = append(p.Files, f.path)
	}
	return p
}

func (h *holding) descriptors() []int {
	var fds []int
	for _, s := range h.sockets {
		fds = append(fds, s.fd)
	}
	for _, l := range h.links {
		fds = append(fds, l.fds...)
	}
	for _, f := range h.files {
		fds = append(fds, f.fd)
	}
	return slices.DeleteFunc(fds, func(fd int) bool { return fd < 0 })
}

// closeExcept closes what other does not hold.
func (h *holding) closeExcept(other *holding) {
	kept := other.descriptors()
	for _, fd := range h.descriptors() {
		if !slices.Contains(kept, fd) {
			unix.Close(fd)
		}
	}
}
