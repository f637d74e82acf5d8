package appliance

import (
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// People knows who has signed in on which device.
type People interface {
	// Standing is what holds now for a device, or why it may not go on. It does not wait for a database.
	Standing(device string) (auth.Standing, error)
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
