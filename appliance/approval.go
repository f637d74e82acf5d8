package appliance

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// Where a policy wants somebody's approval, a flow waits for it: its client is told, and goes on as soon as somebody of
// each group has said yes. A yes lasts for a while and for this person, target, port and protocol; the flows that it has
// allowed end with it. A request outlives who made it: they may come back when it is decided.

// errUnapproved says that a flow waits for somebody, or may not go on without.
func errUnapproved(target string, groups []string) error {
	return frame.Refuse("E_APPROVAL", fmt.Sprintf("%s needs the approval of somebody in %s", target, strings.Join(groups, " and in ")),
		"run: sallyport request, with the target")
}

// wanted is the request that a flow makes of a group.
func (f *flow) wanted(group string) auth.Approval {
	return auth.Approval{User: f.peer.User, Device: f.peer.Device, Target: f.name(), VNet: f.grant.VNet, Protocol: f.grant.Protocol, Group: group}
}

// approved returns nil if somebody of each group has said yes that holds at a time, and notes who.
func (f *flow) approved(groups []string, at time.Time) error {
	if len(groups) == 0 {
		return nil
	}
	if f.gateway.Approvals == nil {
		return errUnapproved(f.name(), groups)
	}
	var yes []auth.Approval
	for _, group := range groups {
		one, there := f.gateway.Approvals.Find(f.wanted(group), at)
		if !there || !one.Approved || f.gateway.Locks.Check(one.By, "", "") != nil {
			if f.approvals.Load() != nil {
				return frame.Refuse("E_GRANT_ENDED", fmt.Sprintf("the approval for %s has ended", f.name()), "connect again to ask for another")
			}
			return errUnapproved(f.name(), groups)
		}
		yes = append(yes, one)
	}
	f.approvals.Store(&yes)
	return nil
}

// awaitApproval returns when somebody of each group that the policy names has said yes, with the policy that holds then and
// what it grants.
func (f *flow) awaitApproval(ctx context.Context) (*policy.Policy, error) {
	g := f.gateway
	asked := map[string]bool{}
	for {
		var changed <-chan struct{}
		if g.Approvals != nil {
			changed = g.Approvals.Changed()
		}
		now := time.Now()
		p := g.policy.Load()
		var err error
		if f.grant, err = g.decide(p, f.request(&f.peer, now), f.peer.Device); err != nil {
			return nil, err
		}
		if err = f.approved(f.grant.Approval, now); err == nil {
			return p, nil
		}
		if g.Approvals == nil {
			return nil, err
		}
		if err := f.barred(f.peer); err != nil {
			return nil, err
		}
		until, err := f.ask(ctx, "", asked)
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-time.After(time.Until(until) + time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ask makes the requests that are missing, notes of which groups, and tells the person that they wait. It returns when the
// first of them expires.
func (f *flow) ask(ctx context.Context, reason string, asked map[string]bool) (until time.Time, err error) {
	g := f.gateway
	var ids []string
	more := false
	for _, group := range f.grant.Approval {
		one, there := g.Approvals.Find(f.wanted(group), time.Now())
		switch {
		case there && one.Approved:
			continue
		case there && !one.Decided.IsZero():
			return until, errDenied(f.name(), one)
		case !there && asked[group]:
			return until, frame.Refuse("E_APPROVAL", fmt.Sprintf("nobody in %s has approved %s in time", group, f.name()), "ask somebody there, and try again")
		case !there:
			if one, err = f.newRequest(ctx, group, reason); err != nil {
				return until, err
			}
		}
		more = more || !asked[group]
		asked[group] = true
		ids = append(ids, one.ID[:12])
		if until.IsZero() || one.Expires.Before(until) {
			until = one.Expires
		}
	}
	if more && f.incoming != nil {
		f.log(slog.LevelInfo, "flow waits for approval", "requests", strings.Join(ids, " "))
		f.incoming.Notify(frame.Notice{Text: fmt.Sprintf("waiting for somebody in %s to approve %s; the request is %s", strings.Join(f.grant.Approval, " and in "), f.name(), strings.Join(ids, ", "))})
	}
	return until, nil
}

func (f *flow) newRequest(ctx context.Context, group, reason string) (auth.Approval, error) {
	one := f.wanted(group)
	one.ID, one.Reason, one.Expires = hex.EncodeToString(random()), reason, time.Now().Add(f.gateway.Limits.withDefaults().Approval).Truncate(time.Microsecond)
	asked, err := f.gateway.Approvals.Ask(ctx, one)
	if err != nil || asked.ID != one.ID { // somebody was faster
		return asked, err
	}
	e := f.event(audit.ApprovalAsked)
	e.Object, e.Why, e.Detail = one.ID, frame.Clip(reason, 500), with(e.Detail, "group", group)
	return asked, f.gateway.demand(e)
}

func errDenied(target string, a auth.Approval) error {
	sentence := fmt.Sprintf("%s has not approved %s", a.By, target)
	if a.Why != "" {
		sentence += ": " + a.Why
	}
	return frame.Refuse("E_APPROVAL", sentence, "ask them; you can ask again when the request has expired")
}

// noApprovals refuses what is about approvals where there are none.
var noApprovals = frame.Refuse("E_APPROVAL_UNKNOWN", "this appliance keeps no approvals", "")

// mayDecide says whether the caller may decide a request: they are in its group, it is neither their own nor their guest's, and
// their device has no scope.
func (c call) mayDecide(a auth.Approval) bool {
	if c.gateway.scoped(c.peer) {
		return false
	}
	standing, err := c.gateway.standing(c.peer.Device)
	return err == nil && a.User != c.peer.User && c.gateway.hostOf(a.Device) != c.peer.User && c.gateway.policy.Load().Member(c.peer.User, standing.Groups, a.Group)
}

// approvals lists the requests that the caller may decide, and their own.
func (c call) approvals() (any, error) {
	list := []api.Approval{}
	if c.gateway.Approvals == nil {
		return list, nil
	}
	all := c.URL.Query().Has("all")
	for _, a := range c.gateway.Approvals.List() {
		mine, may := c.gateway.owns(c.peer, a.User, a.Device), c.mayDecide(a)
		if (mine || may) && (all || a.Decided.IsZero()) {
			list = append(list, listedApproval(a, may))
		}
	}
	return list, nil
}

func listedApproval(a auth.Approval, may bool) api.Approval {
	return api.Approval{ID: a.ID, User: a.User, Device: a.Device, Target: a.Target, VNet: a.VNet, Protocol: a.Protocol, Group: a.Group, Reason: a.Reason,
		Asked: a.Asked.UTC(), Expires: a.Expires.UTC(), Decided: a.Decided, Approved: a.Approved, By: a.By, Why: a.Why, MayDecide: may && a.Decided.IsZero()}
}

// requestApproval asks without connecting.
func (c call) requestApproval(ask api.AskApproval) (any, error) {
	if c.gateway.Approvals == nil {
		return nil, noApprovals
	}
	if err := checkReason(ask.Reason); err != nil {
		return nil, err
	}
	if ask.Port < 0 || ask.Port > 65535 {
		return nil, frame.Refuse(policy.CodePort, "port must be 1-65535", "")
	}
	f, err := c.gateway.consider(c.peer, frame.OpenRequest{Target: ask.Target, Protocol: ask.Protocol, Port: uint16(ask.Port), Program: ask.Program})
	f.session = [16]byte(random())
	if err == nil {
		err = f.checkProgram()
	}
	if err != nil {
		f.refused(reasonOf(err), err)
		return nil, err
	}
	if _, err := f.ask(c.Context(), ask.Reason, map[string]bool{}); err != nil {
		return nil, err
	}
	list := []api.Approval{}
	for _, group := range f.grant.Approval {
		if a, there := c.gateway.Approvals.Find(f.wanted(group), time.Now()); there {
			list = append(list, listedApproval(a, false))
		}
	}
	return list, nil
}

// checkReason wants one line of at most 200 printable characters.
func checkReason(text string) error {
	if text != frame.Clip(text, 200) || strings.ContainsRune(text, '\n') {
		return frame.Refuse("E_USAGE", "a reason is one line of at most 200 printable characters", "")
	}
	return nil
}

// decideApproval says yes or no.
func (c call) decideApproval(ask api.DecideApproval) (any, error) {
	if c.gateway.Approvals == nil {
		return nil, noApprovals
	}
	if err := checkReason(ask.Why); err != nil {
		return nil, err
	}
	a, err := c.gateway.Approvals.Get(c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if a.Approved && !ask.Approve && (c.mayDecide(a) || c.gateway.isAdmin(c.peer)) {
		return c.withdraw(a, ask.Why)
	}
	if a.User == c.peer.User || c.gateway.hostOf(a.Device) == c.peer.User {
		return nil, frame.Refuse("E_DENIED", "nobody decides their own request, or their guest's", "somebody else in "+a.Group+" must")
	}
	if !c.mayDecide(a) {
		return nil, auth.ErrApprovalUnknown // which looks the same
	}
	for _, other := range c.gateway.Approvals.List() {
		if other.Approved && other.By == c.peer.User && other.User == a.User && other.Target == a.Target && other.VNet == a.VNet && other.Protocol == a.Protocol && other.Group != a.Group {
			return nil, frame.Refuse("E_DENIED", "you have said yes for "+other.Group+" already", "somebody else in "+a.Group+" must")
		}
	}
	limits := c.gateway.Limits.withDefaults()
	lasts := ask.For
	if lasts == 0 {
		lasts = min(time.Hour, limits.Approved)
	}
	if lasts < time.Minute || lasts > limits.Approved {
		return nil, frame.Refuse("E_USAGE", fmt.Sprintf("an approval lasts from a minute to %v", limits.Approved), "")
	}
	kind := audit.ApprovalRefused
	a.Approved, a.By, a.Why = ask.Approve, c.peer.User, ask.Why
	if ask.Approve {
		kind, a.Expires = audit.ApprovalGiven, time.Now().Add(lasts).Truncate(time.Microsecond)
	}
	e := audit.Event{Kind: kind, User: a.User, Device: a.Device, Target: a.Target, VNet: a.VNet, Protocol: a.Protocol, By: c.peer.User, Object: a.ID, Why: ask.Why,
		Source: c.peer.Remote.String(), Detail: map[string]string{"group": a.Group, "until": a.Expires.UTC().Format(time.RFC3339)}}
	if err := c.gateway.demand(e); err != nil {
		return nil, err
	}
	if err := c.gateway.Approvals.Decide(c.Context(), a); err != nil {
		c.failed(e, err)
		return nil, err
	}
	c.gateway.Log.Info("request decided", "request", a.ID[:12], "approved", ask.Approve, "user", a.User, "target", a.Target, "by", c.peer.User)
	return listedApproval(a, false), nil
}

// withdraw takes a yes back. The flows that it has allowed end.
func (c call) withdraw(a auth.Approval, why string) (any, error) {
	a.Expires = time.Now().Truncate(time.Microsecond)
	if err := c.gateway.Approvals.Withdraw(c.Context(), a); err != nil {
		return nil, err
	}
	c.gateway.record(audit.Event{Kind: audit.ApprovalRefused, User: a.User, Device: a.Device, Target: a.Target, VNet: a.VNet, Protocol: a.Protocol, By: c.peer.User, Object: a.ID,
		Why: why, Source: c.peer.Remote.String(), Detail: map[string]string{"group": a.Group, "withdrawn": a.By}})
	c.gateway.Log.Info("approval withdrawn", "request", a.ID[:12], "user", a.User, "target", a.Target, "by", c.peer.User)
	return listedApproval(a, false), nil
}

// ApprovalsChanged ends the flows whose approval was withdrawn.
func (g *Gateway) ApprovalsChanged() { g.review(g.policy.Load(), "an approval has changed") }

// approvers are those who have said yes to a flow, and the ids of their decisions.
func (f *flow) approvers() (by, ids string) {
	yes := f.approvals.Load()
	if yes == nil {
		return "", ""
	}
	var who, which []string
	for _, a := range *yes {
		who, which = append(who, a.By), append(which, a.ID)
	}
	return strings.Join(slices.Compact(who), ","), strings.Join(which, ",")
}
