package appliance

import (
	"context"
	"net/http"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// People knows who has signed in on which device.
type People interface {
	// Standing is what holds now for a device, or why it may not go on. It does not wait for a database.
	Standing(device string) (auth.Standing, error)
	// GroupsOf are the groups that identity providers have named of a person, in the sign-ins that last.
	GroupsOf(user string) []string
	// SignOut ends the sign-in of a device, if it has one.
	SignOut(ctx context.Context, device string) error
}

func (g *Gateway) standing(device string) (auth.Standing, error) {
	if g.People == nil {
		return auth.Standing{}, nil
	}
	return g.People.Standing(device)
}

// requestOf is what policies are asked about a person, but for what it is that they want. Who is not signed in any more has
// neither groups nor a second factor, and is barred besides.
func (g *Gateway) requestOf(p frame.Peer, now time.Time) policy.Request {
	standing, _ := g.standing(p.Device)
	return policy.Request{User: p.User, Groups: standing.Groups, MFA: standing.MFA, Source: p.Remote.Addr(), Transport: p.Transport, Time: now}
}

// PeopleChanged asks the policy anew about all live flows: somebody has other groups, or another second factor.
func (g *Gateway) PeopleChanged() { g.review(g.policy.Load(), "what is known of you has changed") }

// SignInEnded ends what a sign-in has carried, and says why.
func (g *Gateway) SignInEnded(n auth.SignIn, why error) {
	reason := reasonOf(why)
	g.record(audit.Event{Kind: audit.SignInEnded, User: n.User, Device: n.Device, Why: reason.Sentence})
	g.Log.Info("sign-in ended", "user", n.User, "device", n.Device, "cause", string(reason.Code))
	g.EndDevice(n.Device, why)
	g.GuestsChanged() // whose maker may have been in other groups by it
}

// SignInRefused notes that somebody has not signed in in a browser.
func (g *Gateway) SignInRefused(e audit.Event) {
	g.Metrics.signIn(e.Transport, e.Code)
	g.recordOf("", e)
}

// ChangeAccount has a person change what they sign in with, by do: what, and perhaps which of those. It is written before;
// what comes to nothing is written too.
func (g *Gateway) ChangeAccount(user, source, what, object string, do func() error) error {
	if err := g.Locks.Check(user, "", ""); err != nil {
		return err
	}
	e := audit.Event{Kind: audit.AccountChanged, User: user, By: user, Source: source, Object: object, Detail: map[string]string{"what": what}}
	if err := g.demand(e); err != nil {
		return err
	}
	if err := do(); err != nil {
		reason := reasonOf(err)
		e.Code, e.Why = string(reason.Code), reason.Sentence
		g.record(e)
		return err
	}
	g.Log.Info("account changed", "user", user, "what", what, "source", source)
	return nil
}

// LeaveOthers revokes the devices of a person but for p's own, and with them their guest links, as that person does.
func (g *Gateway) LeaveOthers(ctx context.Context, p frame.Peer) error {
	return call{new(http.Request).WithContext(ctx), g, p}.leaveAll(p.Device)
}

// AccountSetUp is told of a person who has set their account up.
func (g *Gateway) AccountSetUp(user, source string) {
	g.Log.Info("account set up", "user", user, "source", source)
	g.record(audit.Event{Kind: audit.AccountReady, User: user, By: user, Source: source})
}
