package appliance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/appliance/access"
	"sallyport/appliance/api"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// An accessPlan is what comes of a version.
type accessPlan struct {
	api.AccessPlan
	changes  []access.Change
	accounts []access.AccountChange
}

// maxEnds bounds the sessions that a plan lists.
const maxEnds = 1000

// planAccess says what files would change that come after a version, for who asks.
func (g *Gateway) planAccess(who frame.Peer, versions Access, was AccessVersion, files access.Files) (p accessPlan, err error) {
	p.AccessPlan = api.AccessPlan{Version: was.Number, Changes: []api.AccessChange{}, Ends: []api.AccessEnd{}}
	is, err := versions.Read(files)
	var faults policy.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			p.Faults = append(p.Faults, f.Error())
		}
		return p, nil
	}
	if err != nil {
		return p, err
	}
	before := &access.Rules{}
	if was.Number > 0 {
		if before, err = versions.Read(was.Files); err != nil {
			before = &access.Rules{Accounts: access.AccountsOf(was.Files)}
			p.Warnings = append(p.Warnings, fmt.Sprintf("version %d has faults on this appliance, as it is configured now; all is shown as added", was.Number))
		}
	}
	p.changes = access.Diff(before.Things, is.Things)
	p.accounts = access.AccountChanges(before.Accounts, is.Accounts)
	p.Changes = changesOf(p.changes)
	p.Ends = g.wouldEnd(is.Policy, p.accounts)
	if why := g.losesAdmin(who, is.Policy, p.accounts); why != "" {
		p.NeedsForce = true
		p.Warnings = slices.Insert(p.Warnings, 0, why)
	}
	return p, nil
}

// losesAdmin says that who asks would be no administrator any more; empty if they would. Who stays one can go back.
func (g *Gateway) losesAdmin(who frame.Peer, p *policy.Policy, accounts []access.AccountChange) string {
	if endsAccount(accounts, who.User) {
		return fmt.Sprintf("the account %s, which is yours, could not be used any more", who.User)
	}
	if g.allowsBy(p, policy.Admin, who, "", "") {
		return ""
	}
	return fmt.Sprintf("%s would be no administrator any more, and could not go back", who.User)
}

func endsAccount(accounts []access.AccountChange, user string) bool {
	return slices.ContainsFunc(accounts, func(c access.AccountChange) bool { return c.User == user && c.Ends() })
}

// wouldEnd lists the sessions that a policy, or an account that ends, would end here.
func (g *Gateway) wouldEnd(p *policy.Policy, accounts []access.AccountChange) []api.AccessEnd {
	ends, now := []api.AccessEnd{}, time.Now()
	g.live.each(func(f *flow) {
		why := ""
		if endsAccount(accounts, f.peer.User) {
			why = "the account " + f.peer.User + " ends"
		} else if err := f.still(p, f.latest(), now); err != nil {
			why = reasonOf(changed("the rules have changed", err)).Sentence
		}
		if why != "" && len(ends) < maxEnds {
			ends = append(ends, api.AccessEnd{Session: f.sessionID(), User: f.peer.User, Target: f.grant.Target, Why: why})
		}
	})
	return ends
}
