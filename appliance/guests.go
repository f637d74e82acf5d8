package appliance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// Guests come by links: see docs/guests.md. What a guest's device may do is what the maker of its link may and may share,
// narrowed to the link. That is asked at each decision, also about flows that go on, so a link is worth nothing as soon as
// its maker has lost the right, is locked or has taken the link back.

const (
	guestLife    = 2 * time.Hour // of a link, unless its maker says otherwise
	maxGuestUses = 1000
)

// programsOf are the appliance's own that speak a protocol. What none speaks cannot be shared.
var programsOf = map[string][]string{policy.SSH: {"terminal", "files"}, policy.RDP: {"desktop"}}

var noGuests = frame.Refuse("E_NO_SIGN_IN", "this appliance has no pages, and so no guest links", "set identity.url in its configuration")

// linkOf is the link by which a device has come, also one that is no good any more; false for a device of no guest's.
func (g *Gateway) linkOf(device string) (l auth.GuestLink, guest bool) {
	scope, _ := g.Devices.ScopeOf(device)
	if scope.Link == "" {
		return l, false
	}
	l = auth.GuestLink{ID: scope.Link}
	if g.Guests != nil {
		if known, err := g.Guests.Known(scope.Link); err == nil {
			l = known
		}
	}
	return l, true
}

// hostOf is whose guest a device is, for what its person is not asked about; empty for a device of no guest's.
func (g *Gateway) hostOf(device string) string {
	l, _ := g.linkOf(device)
	return l.Maker
}

// invited says why a device that is a guest's may not go on, or nil.
func (g *Gateway) invited(scope auth.Scope, at time.Time) error {
	if scope.Link == "" {
		return nil
	}
	_, err := g.goodLink(scope.Link, at)
	return err
}

// goodLink is a link that lets guests do something, as far as that does not hang on rules.
func (g *Gateway) goodLink(id string, at time.Time) (auth.GuestLink, error) {
	if g.Guests == nil {
		return auth.GuestLink{}, auth.ErrGuestLink
	}
	l, err := g.Guests.Get(id, at)
	if err == nil && g.Locks.Check(l.Maker, "", "") != nil {
		err = auth.ErrGuestLink
	}
	return l, err
}

// decideGuest decides for a device with the scope of a link.
func (g *Gateway) decideGuest(scope auth.Scope, p *policy.Policy, r policy.Request) (policy.Grant, error) {
	l, err := g.goodLink(scope.Link, r.Time)
	if err != nil {
		return policy.Grant{}, err
	}
	return g.decideBy(l, scope, p, r)
}

// decideBy is decideGuest for a link that has been looked at.
func (g *Gateway) decideBy(l auth.GuestLink, scope auth.Scope, p *policy.Policy, r policy.Request) (policy.Grant, error) {
	if r.Protocol = cmp.Or(r.Protocol, l.Protocol); r.Protocol != l.Protocol {
		return policy.Grant{}, frame.Refuse("E_DENIED", fmt.Sprintf("this link is for %s only", l.Protocol), "ask "+l.Maker+" for another")
	}
	asked := r.Opaque || r.Program != "" // and it is not only wondered whether there is any way
	if len(l.Programs) > 0 && asked && !slices.Contains(l.Programs, r.Program) {
		return policy.Grant{}, frame.Refuse("E_DENIED", fmt.Sprintf("this link is for %s only", strings.Join(l.Programs, " and ")), "open it in a browser")
	}
	as := &policy.Guest{Name: r.User, Transport: l.Transport, MFA: !l.MFA.IsZero(), MFAAge: max(0, l.Created.Sub(l.MFA)), Approval: l.Approval}
	as.Source, _ = netip.ParseAddr(l.Source) // without one, policies that look at it deny
	r.Guest, r.User, r.Groups, r.VNet = as, l.Maker, g.groupsOf(l.Maker), cmp.Or(r.VNet, l.VNet)
	grant, err := decideWithin(scope, p, r)
	switch {
	case err == nil && (grant.VNet != l.VNet || grant.Host != l.Host):
		return policy.Grant{}, worthless(l, l.Target+" lies elsewhere now")
	case err == nil:
		return grant, nil
	case reasonOf(err).Code == policy.CodeShare, reasonOf(err).Code == policy.CodeTargetUnknown && r.Target == l.Target:
		return policy.Grant{}, worthless(l, fmt.Sprintf("%s may not share %s any more", l.Maker, l.Target))
	}
	return policy.Grant{}, err
}

// worthless is what guests are told who have come in by a link that is no good any more, and why.
func worthless(l auth.GuestLink, why string) error {
	return &auth.Error{Code: auth.ErrGuestLink.Code, Sentence: auth.ErrGuestLink.Sentence + " any more: " + why, Hint: "ask " + l.Maker}
}

// groupsOf are the groups that identity providers have named of a person, as long as they are signed in anywhere.
func (g *Gateway) groupsOf(user string) []string {
	if g.People == nil {
		return nil
	}
	return g.People.GroupsOf(user)
}

// GuestsChanged ends the flows of guests whose links are no good any more, or whose sign-in is over.
func (g *Gateway) GuestsChanged() {
	p, now := g.policy.Load(), time.Now()
	g.live.each(func(f *flow) {
		if _, guest := g.linkOf(f.peer.Device); !guest {
			return
		}
		if err := cmp.Or(f.barred(f.peer), f.still(p, f.latest(), now)); err != nil {
			f.end(reasonError(err))
		}
	})
}

// guests lists the caller's links, or all for administrators.
func (c call) guests() (any, error) {
	g, list := c.gateway, []api.GuestLink{}
	all := c.URL.Query().Has("all")
	if g.scoped(c.peer) {
		return nil, frame.Refuse("E_DENIED", "a device with a scope makes no guest links, and sees none", "use another device")
	}
	if all && !g.isAdmin(c.peer) {
		return nil, frame.Refuse("E_ADMIN", "only administrators see the guest links of others", "leave --all out")
	}
	if g.Guests == nil {
		return list, nil
	}
	uses, err := g.Guests.Uses(c.Context())
	if err != nil {
		return nil, err
	}
	for _, l := range g.Guests.List() {
		if all || l.Maker == c.peer.User {
			list = append(list, g.listedLink(l, uses))
		}
	}
	return list, nil
}

func (g *Gateway) listedLink(l auth.GuestLink, uses []auth.GuestUse) api.GuestLink {
	out := api.GuestLink{ID: l.ID, Maker: l.Maker, Target: l.Target, VNet: l.VNet, Protocol: l.Protocol, Programs: l.Programs, Approval: l.Approval, SignIn: l.SignIn,
		Created: l.Created.UTC(), Expires: l.Expires.UTC(), Uses: l.Uses, Used: l.Used, Revoked: l.Revoked}
	if !l.Revoked.IsZero() {
		out.Why = "it is revoked"
	} else if err := g.holds(l, "", netip.Addr{}); err != nil {
		out.Why = reasonOf(err).Sentence
	}
	for _, u := range uses {
		if u.Link == l.ID {
			out.Opened = append(out.Opened, api.GuestUse{User: u.User, Device: u.Device, Source: u.Source, At: u.At.UTC()})
		}
	}
	return out
}

// holds says why a link lets nobody in who comes from an address, or nil. Of who has yet to sign in it is taken that they
// will with a second factor.
func (g *Gateway) holds(l auth.GuestLink, user string, from netip.Addr) error {
	now := time.Now()
	if g.Locks.Check(l.Maker, "", l.Target) != nil {
		return worthless(l, l.Maker+" or "+l.Target+" is locked")
	}
	r := policy.Request{User: cmp.Or(user, "guest:"+l.ID), Target: l.Target, Protocol: l.Protocol, Source: from, Transport: "https", Time: now}
	if l.SignIn {
		r.MFA = now
	}
	if !from.IsValid() { // nobody comes: it is about the maker
		r.Source, _ = netip.ParseAddr(l.Source)
	}
	_, err := g.decideBy(l, l.Scope(), g.policy.Load(), r)
	return err
}

// makeGuest makes a link.
func (c call) makeGuest(ask api.AskGuest) (any, error) {
	g := c.gateway
	ask.For, ask.Uses = cmp.Or(ask.For, min(guestLife, g.Limits.withDefaults().Guest)), cmp.Or(ask.Uses, 1)
	grant, err := g.mayShare(c.peer, ask.Target, ask.Protocol)
	if err != nil {
		return nil, err
	}
	if err := g.checkGuest(ask, grant); err != nil {
		return nil, err
	}
	standing, err := g.standing(c.peer.Device)
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Microsecond)
	l := auth.GuestLink{ID: auth.NewLinkID(), Maker: c.peer.User, Target: grant.Target, VNet: grant.VNet, Host: grant.Host, Protocol: grant.Protocol,
		Programs: slices.Compact(slices.Sorted(slices.Values(ask.Programs))), Approval: ask.Approval, SignIn: ask.SignIn,
		Source: c.peer.Remote.Addr().String(), Transport: c.peer.Transport, MFA: standing.MFA, Created: now, Expires: now.Add(ask.For).Truncate(time.Microsecond), Uses: ask.Uses}
	e := g.ofLink(audit.GuestMade, l, c.peer)
	if err := g.demand(e); err != nil {
		return nil, err
	}
	l, secret, err := g.Guests.Make(c.Context(), l)
	if err != nil {
		c.failed(e, err)
		return nil, err
	}
	g.Log.Info("guest link made", "link", l.ID, "target", l.Target, "protocol", l.Protocol, "uses", l.Uses, "until", l.Expires, "by", l.Maker)
	out := g.listedLink(l, nil)
	out.Link = g.URL + "/guest#" + secret
	return out, nil
}

// mayShare is what somebody may connect to and share.
func (g *Gateway) mayShare(p frame.Peer, target, protocol string) (policy.Grant, error) {
	if g.Guests == nil || g.URL == "" {
		return policy.Grant{}, noGuests
	}
	if g.scoped(p) {
		return policy.Grant{}, frame.Refuse("E_DENIED", "a device with a scope makes no guest links", "use another device")
	}
	r := g.requestOf(p, time.Now())
	r.Target, r.Protocol = target, protocol
	r.Guest = policy.NewGuest(r)
	grant, err := g.decideNow(r, p.Device)
	if err == nil {
		err = g.Locks.Check("", "", grant.Target)
	}
	if err == nil && programsOf[grant.Protocol] == nil {
		err = frame.Refuse("E_USAGE", fmt.Sprintf("guests come by browser, which has no %s", grant.Protocol), "share ssh or rdp")
	}
	return grant, err
}

// checkGuest says what is wrong with a link for what its maker may share.
func (g *Gateway) checkGuest(ask api.AskGuest, grant policy.Grant) error {
	programs := programsOf[grant.Protocol]
	most := g.Limits.withDefaults().Guest
	switch {
	case ask.For < time.Minute || ask.For > most:
		return frame.Refuse("E_USAGE", fmt.Sprintf("a guest link is good for a minute to %v", most), "")
	case ask.Uses < 1 || ask.Uses > maxGuestUses:
		return frame.Refuse("E_USAGE", fmt.Sprintf("a guest link can be opened once to %d times", maxGuestUses), "")
	case ask.Approval != "" && !g.policy.Load().HasGroup(ask.Approval):
		return frame.Refuse("E_USAGE", fmt.Sprintf("there is no group %q", frame.Clip(ask.Approval, 64)), "access.yaml names the groups")
	case ask.Approval != "" && g.Approvals == nil:
		return noApprovals
	}
	for _, name := range ask.Programs {
		if !slices.Contains(programs, name) {
			return frame.Refuse("E_USAGE", fmt.Sprintf("%s has no program %q", grant.Protocol, frame.Clip(name, 16)), "it has "+strings.Join(programs, " and "))
		}
	}
	return nil
}

// revokeGuest makes a link of the caller's worth nothing, or anybody's for an administrator, and ends its sessions.
func (c call) revokeGuest() (any, error) {
	g := c.gateway
	if g.Guests == nil {
		return nil, auth.ErrGuestUnknown
	}
	l, err := g.Guests.Known(c.PathValue("id"))
	if err != nil || g.scoped(c.peer) || l.Maker != c.peer.User && !g.isAdmin(c.peer) {
		return nil, auth.ErrGuestUnknown // which looks the same
	}
	return nil, c.endLink(l)
}

// endLink makes a link worth nothing, if it is not.
func (c call) endLink(l auth.GuestLink) error {
	g := c.gateway
	if !l.Revoked.IsZero() {
		return nil
	}
	if err := g.Guests.Revoke(c.Context(), l.ID); err != nil {
		return err
	}
	g.Log.Info("guest link revoked", "link", l.ID, "target", l.Target, "of", l.Maker, "by", c.peer.User)
	g.record(g.ofLink(audit.GuestRevoked, l, c.peer))
	return nil
}

// endOwnLinks does so with all links that the caller has made.
func (c call) endOwnLinks() (err error) {
	if c.gateway.Guests == nil {
		return nil
	}
	for _, l := range c.gateway.Guests.List() {
		if l.Maker == c.peer.User {
			err = errors.Join(err, c.endLink(l))
		}
	}
	return err
}

// ofLink is an event about a link.
func (g *Gateway) ofLink(kind string, l auth.GuestLink, by frame.Peer) audit.Event {
	e := ofCaller(kind, by)
	if l.Maker != by.User {
		e.Device = "" // which is of whoever does it
	}
	e.User, e.By, e.Object, e.Target, e.VNet, e.Protocol = l.Maker, by.User, l.ID, l.Target, l.VNet, l.Protocol
	e.Detail = map[string]string{"until": l.Expires.UTC().Format(time.RFC3339), "uses": strconv.FormatInt(l.Uses, 10), "sign_in": strconv.FormatBool(l.SignIn)}
	if l.Approval != "" {
		e.Detail["approval"] = l.Approval
	}
	if len(l.Programs) > 0 {
		e.Detail["programs"] = strings.Join(l.Programs, ",")
	}
	return e
}

// LookGuest is what a link is for, if it lets somebody in who comes from an address now. Whatever else holds, the answer is
// auth.ErrGuestLink; the log has why.
func (g *Gateway) LookGuest(ctx context.Context, secret string, from netip.Addr) (auth.GuestLink, error) {
	if g.Guests == nil {
		return auth.GuestLink{}, auth.ErrGuestLink
	}
	l, err := g.Guests.Look(ctx, secret)
	if err == nil {
		err = g.holds(l, "", from)
	}
	if err == nil {
		return l, nil
	}
	g.notOpened(l, from, err)
	if errors.Is(err, auth.ErrControlDown) {
		return auth.GuestLink{}, err
	}
	return auth.GuestLink{}, auth.ErrGuestLink
}

// notOpened writes why a link has not let somebody in.
func (g *Gateway) notOpened(l auth.GuestLink, from netip.Addr, why error) {
	reason := reasonOf(why)
	g.Log.Info("guest link refused", "link", l.ID, "source", from, "cause", string(reason.Code), "why", reason.Sentence)
	g.recordOf("", audit.Event{Kind: audit.GuestRefused, Object: l.ID, By: l.Maker, Target: l.Target, Source: from.String(), Transport: "browser", Code: string(reason.Code), Why: reason.Sentence})
}

// OpenGuest uses a link that LookGuest has returned for a new device, of a guest or, with user and sign-in, of who has
// signed in. A device that cannot be written down has no rights.
func (g *Gateway) OpenGuest(ctx context.Context, l auth.GuestLink, d auth.Device, from netip.Addr) (auth.Device, error) {
	if d.User != "" {
		if err := g.Locks.Check(d.User, auth.DeviceID(d.Key), ""); err != nil {
			return auth.Device{}, err
		}
	}
	made, err := g.Guests.Open(ctx, l, d, from.String())
	if err != nil {
		g.notOpened(l, from, err)
		return auth.Device{}, err
	}
	e := audit.Event{Kind: audit.GuestOpened, User: made.User, Device: made.ID, By: l.Maker, Object: l.ID, Source: from.String(), Transport: "browser", Target: l.Target,
		VNet: l.VNet, Protocol: l.Protocol, Detail: map[string]string{"until": l.Expires.UTC().Format(time.RFC3339)}}
	if err := g.demand(e); err != nil {
		return auth.Device{}, errors.Join(err, g.Devices.Revoke(made.ID))
	}
	g.Log.Info("guest link opened", "link", l.ID, "user", made.User, "device", made.ID, "target", l.Target, "source", from, "of", l.Maker)
	return made, nil
}
