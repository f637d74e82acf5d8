package appliance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// Accounts are the people who may sign in, and their stays. All errors but one of an unknown name are the database's.
type Accounts interface {
	List(context.Context) ([]api.Account, error)
	// Add makes a local account, and Reset takes credentials off one; both make the only set-up link that is good for it.
	Add(ctx context.Context, user string, groups []string) (api.SetUp, error)
	Reset(ctx context.Context, user string, ask api.ResetAccount) (api.SetUp, error)
	// Disable and Remove end an account's sign-ins and revoke its devices, on all appliances.
	Disable(ctx context.Context, user string, disabled bool) error
	Remove(ctx context.Context, user string) error

	// Factors are what a person's account signs in with, if it is a local one.
	Factors(ctx context.Context, user string) (api.Factors, error)

	// SignIns lists the sign-ins that last, of one person or, without a name, of all.
	SignIns(ctx context.Context, user string) ([]api.SignIn, error)
	// EndSignIns ends some, and says how many those were.
	EndSignIns(ctx context.Context, which api.EndSignIns) (ended []api.SignIn, err error)
}

// The errors of Accounts.
var (
	ErrNoAccount    = frame.Refuse("E_ACCOUNT_UNKNOWN", "there is no such account", "sallyport admin accounts lists them")
	ErrAccountTaken = frame.Refuse("E_ACCOUNT_TAKEN", "there is an account of that name", "sallyport admin accounts lists them")
	ErrElsewhere    = frame.Refuse("E_ACCOUNT_UNKNOWN", "this account's credentials are its identity provider's", "reset them there")
	ErrComesBack    = frame.Refuse("E_USAGE", "this account is an identity provider's, and would come back with the next sign-in", "disable it")
	ErrNoSignIn     = frame.Refuse("E_SIGNIN_UNKNOWN", "there is no such sign-in", "sallyport admin signins lists them")
)

func (c call) accounts() (any, error) { return c.gateway.Accounts.List(c.Context()) }

func (c call) addAccount(ask api.AddAccount) (any, error) {
	if err := auth.CheckUser(ask.User); err != nil {
		return nil, err
	}
	if err := c.gateway.CheckGroups(ask.Groups); err != nil {
		return nil, err
	}
	e := c.ofAccount(audit.AccountCreated, ask.User)
	if len(ask.Groups) > 0 {
		e.Detail = map[string]string{"groups": strings.Join(ask.Groups, ",")}
	}
	return c.settingUp(e, func() (api.SetUp, error) {
		return c.gateway.Accounts.Add(c.Context(), ask.User, slices.Compact(slices.Sorted(slices.Values(ask.Groups))))
	})
}

// CheckGroups refuses groups that access.yaml does not have: they would count nowhere.
func (g *Gateway) CheckGroups(groups []string) error {
	for _, group := range groups {
		if !g.policy.Load().HasGroup(group) {
			return frame.Refuse("E_USAGE", fmt.Sprintf("there is no group %q", frame.Clip(group, 64)), "add it under groups in access.yaml")
		}
	}
	return nil
}

func (c call) resetAccount(ask api.ResetAccount) (any, error) {
	user := c.PathValue("name")
	e := c.ofAccount(audit.AccountSetUp, user)
	what := "all credentials"
	switch {
	case ask.Password && !ask.SecondFactor:
		what = "password"
	case ask.SecondFactor && !ask.Password:
		what = "second factor"
	}
	e.Detail = map[string]string{"reset": what}
	return c.settingUp(e, func() (api.SetUp, error) { return c.gateway.Accounts.Reset(c.Context(), user, ask) })
}

// settingUp does what gives a set-up link out, and is written before; what comes to nothing is written too.
func (c call) settingUp(e audit.Event, do func() (api.SetUp, error)) (any, error) {
	if err := c.gateway.demand(e); err != nil {
		return nil, err
	}
	link, err := do()
	if err != nil {
		c.failed(e, err)
		return nil, err
	}
	c.gateway.Log.Info("set-up link made", "user", frame.Clip(link.User, 64), "by", c.peer.User)
	return link, nil
}

// failed writes that what an event says has not come about.
func (c call) failed(e audit.Event, err error) {
	reason := reasonOf(err)
	e.Code, e.Why = string(reason.Code), reason.Sentence
	c.gateway.record(e)
}

func (c call) setAccount(ask api.SetAccount) (any, error) {
	user := c.PathValue("name")
	if ask.Disabled {
		return nil, c.endAccount(audit.AccountDisabled, user, func() error { return c.gateway.Accounts.Disable(c.Context(), user, true) })
	}
	e := c.ofAccount(audit.AccountEnabled, user)
	if err := c.gateway.demand(e); err != nil {
		return nil, err
	}
	err := c.gateway.Accounts.Disable(c.Context(), user, false)
	if err != nil {
		c.failed(e, err)
	}
	return nil, err
}

func (c call) removeAccount() (any, error) {
	user := c.PathValue("name")
	return nil, c.endAccount(audit.AccountRemoved, user, func() error { return c.gateway.Accounts.Remove(c.Context(), user) })
}

// endAccount takes a right away, which does not wait for being written.
func (c call) endAccount(kind, user string, do func() error) error {
	if user == c.peer.User {
		return frame.Refuse("E_USAGE", "you would lock yourself out", "another administrator can")
	}
	if err := do(); err != nil {
		return err
	}
	c.gateway.Log.Info("account ended", "event", kind, "user", frame.Clip(user, 64), "by", c.peer.User)
	c.gateway.record(c.ofAccount(kind, user))
	return nil
}

// ofAccount is an event of what the caller does to an account.
func (c call) ofAccount(kind, user string) audit.Event {
	e := ofCaller(kind, c.peer)
	e.User, e.Device, e.Object, e.By = frame.Clip(user, 64), "", frame.Clip(user, 64), c.peer.User
	return e
}

// ownFactors are not for robots: they are of the person, who has given them less.
func (c call) ownFactors() (any, error) {
	if c.gateway.scoped(c.peer) {
		return nil, frame.Refuse("E_DENIED", "a device with a scope does not see what its person signs in with", "use another device")
	}
	return c.gateway.Accounts.Factors(c.Context(), c.peer.User)
}

func (c call) signIns() (any, error) {
	return c.gateway.Accounts.SignIns(c.Context(), c.URL.Query().Get("user"))
}

func (c call) endSignIns(ask api.EndSignIns) (any, error) {
	if (ask.ID == "") == (ask.User == "") {
		return nil, frame.Refuse("E_USAGE", "either a sign-in or a user must be named", "sallyport admin signins lists them")
	}
	ended, err := c.gateway.Accounts.EndSignIns(c.Context(), ask)
	if err != nil {
		return nil, err
	}
	for _, s := range ended {
		e := c.ofAccount(audit.SignInEnded, s.User)
		e.Device, e.Object = s.Device, s.ID
		c.gateway.record(e)
	}
	return ended, nil
}
