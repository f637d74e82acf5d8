package appliance

import (
	"context"
	"net/url"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// People knows who has signed in on which device.
type People interface {
	// Standing is what holds now for a device, or why it may not go on. It does not wait for a database.
	Standing(device string) (auth.Standing, error)
	// SignOut ends the sign-in of a device, if it has one.
	SignOut(ctx context.Context, device string) error
}

// Accounts are those who may sign in.
type Accounts interface {
	List(context.Context) ([]auth.Account, error)
	// Add and Reset return the code by which a person sets their account up.
	Add(ctx context.Context, user string) (code string, err error)
	Reset(ctx context.Context, user string) (code string, err error)
	Disable(ctx context.Context, user string) error
	Enable(ctx context.Context, user string) error
	Remove(ctx context.Context, user string) error
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
}

// SignInRefused notes that somebody has not signed in in a browser.
func (g *Gateway) SignInRefused(e audit.Event) {
	g.Metrics.signIn(e.Transport, e.Code)
	g.recordOf("", e)
}

// AccountSetUp is told of a person who has set their account up.
func (g *Gateway) AccountSetUp(user, source string) {
	g.Log.Info("account set up", "user", user, "source", source)
	g.record(audit.Event{Kind: audit.AccountChanged, User: user, By: user, Source: source, Object: "set up"})
}

// errNoSignIn refuses what is about accounts where there are none.
var errNoSignIn = frame.Refuse("E_NO_SIGN_IN", "nobody signs in at this appliance; devices enrol with codes", "an administrator can configure identity")

func (c call) accounts() (any, error) {
	if c.gateway.Accounts == nil {
		return nil, errNoSignIn
	}
	all, err := c.gateway.Accounts.List(c.Context())
	list := make([]api.Account, 0, len(all))
	for _, a := range all {
		list = append(list, api.Account{User: a.User, Source: a.Source, Created: a.Created.UTC(), Disabled: a.Disabled, LastLogin: a.LastLogin, Factors: a.Factors})
	}
	return list, err
}

func (c call) addAccount(ask api.NewAccount) (any, error) {
	if c.gateway.Accounts == nil {
		return nil, errNoSignIn
	}
	return c.setUp(ask.User, "made", c.gateway.Accounts.Add)
}

func (c call) resetAccount() (any, error) {
	if c.gateway.Accounts == nil {
		return nil, errNoSignIn
	}
	return c.setUp(c.PathValue("user"), "reset", c.gateway.Accounts.Reset)
}

// setUp makes a set-up link, which is given out only when that is written down.
func (c call) setUp(user, what string, do func(context.Context, string) (string, error)) (any, error) {
	code, err := do(c.Context(), user)
	if err != nil {
		return nil, err
	}
	if err := c.gateway.demand(c.ofAccount(user, what)); err != nil {
		return nil, err
	}
	return api.Setup{User: user, Link: c.gateway.URL + "/setup#" + url.PathEscape(code)}, nil
}

func (c call) ofAccount(user, what string) audit.Event {
	c.gateway.Log.Info("account "+what, "user", frame.Clip(user, 64), "by", c.peer.User)
	e := ofCaller(audit.AccountChanged, c.peer)
	e.User, e.Device, e.By, e.Object = frame.Clip(user, 64), "", c.peer.User, what
	return e
}

// changeAccount disables, enables or removes an account. What takes a right away is done first, what gives one is written
// first.
func (c call) changeAccount(what string) (any, error) {
	user := c.PathValue("user")
	switch {
	case c.gateway.Accounts == nil:
		return nil, errNoSignIn
	case user == c.peer.User && what != "enabled":
		return nil, frame.Refuse("E_USAGE", "you would lock yourself out", "another administrator can")
	case what == "enabled":
		if err := c.gateway.demand(c.ofAccount(user, what)); err != nil {
			return nil, err
		}
		return nil, c.gateway.Accounts.Enable(c.Context(), user)
	}
	do := c.gateway.Accounts.Disable
	if what == "removed" {
		do = c.gateway.Accounts.Remove
	}
	if err := do(c.Context(), user); err != nil {
		return nil, err
	}
	c.gateway.record(c.ofAccount(user, what))
	return nil, nil
}
