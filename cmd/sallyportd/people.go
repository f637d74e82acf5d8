package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/pending"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/auth/token"
	"sallyport/appliance/config"
	"sallyport/appliance/people"
	"sallyport/appliance/portal"
	"sallyport/frame"
	"sallyport/transport"
)

// standings is what sign-ins say of devices.
type standings struct {
	*auth.Registry
	signIns *auth.SignIns
}

// Standing implements appliance.People.
func (s standings) Standing(device string) (auth.Standing, error) {
	return s.signIns.Standing(s.SignInOf(device))
}

// GroupsOf implements appliance.People.
func (s standings) GroupsOf(user string) []string { return s.signIns.GroupsOf(user) }

// SignOut implements appliance.People.
func (s standings) SignOut(ctx context.Context, device string) error {
	id := s.SignInOf(device)
	if id == "" {
		return nil
	}
	if err := s.signIns.End(ctx, id); !errors.Is(err, auth.ErrSignedOut) {
		return err
	}
	return nil
}

// openPeople reads who has signed in. What has ended ends the flows that it carried, also where nobody can sign in any
// more.
func (d *daemon) openPeople(ctx context.Context) error {
	var err error
	d.people = people.SignIns{Store: d.store, Box: people.NewBox(d.identity.Derive("database box v1"))}
	d.signIns, err = auth.OpenSignIns(ctx, d.people, time.Now, func(n auth.SignIn, why error) {
		if why == nil {
			d.gateway.PeopleChanged()
			return
		}
		if d.registry.SignInOf(n.Device) != n.ID {
			return // the device has signed in anew since
		}
		d.gateway.SignInEnded(n, why)
		d.showOut(n.Device, why)
	})
	if err != nil {
		return err
	}
	d.gateway.People = standings{d.registry, d.signIns}
	if d.cfg.Identity.URL == "" {
		return nil
	}
	return d.openSignIn()
}

// openSignIn makes the pages on which people sign in.
func (d *daemon) openSignIn() error {
	cfg := d.cfg.Identity
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return err
	}
	if d.gateway.Tokens, err = token.New(token.Config{Fleet: cfg.URL, Lifetime: cfg.Token}, d.identity); err != nil {
		return err
	}
	accounts := &people.Accounts{Store: d.store, Box: d.people.Box}
	waiting, logins := d.waiting()
	ceremonies, _ := d.waiting() // of strangers, who must not crowd those out who have got further
	hasher := password.New(password.Config{})
	c := signin.Config{Accounts: accounts, Passwords: hasher, Cookies: lockout.NewCookies(d.identity.Derive("cookies v1"), time.Now),
		Visits: waiting, Logins: logins, PasswordAlone: cfg.Local.PasswordAlone}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil { // passkeys belong to names
		if c.Passkeys, err = passkey.New(passkey.Config{Host: u.Hostname(), Origins: []string{cfg.URL}, Title: d.cfg.Name, Waiting: ceremonies}); err != nil {
			return err
		}
	}
	set, err := d.identityProviders(ceremonies)
	if err != nil {
		return err
	}
	var names []string
	if set != nil {
		c.Providers, names = set, set.Names()
		d.refresher = &people.Refresher{SignIns: d.people, Providers: set, Every: cfg.Refresh, Log: d.log, Ended: func(id string) {
			if err := d.signIns.End(context.Background(), id); err != nil {
				d.log.Warn("a sign-in is not ended in the database", "cause", err)
			}
		}}
	}
	d.browsers = &people.Browsers{Store: d.store}
	d.portal, err = portal.New(portal.Config{Name: d.cfg.Name, URL: cfg.URL, Service: signin.New(c), Providers: names, Accounts: accounts, Passwords: hasher,
		Passkeys: c.Passkeys, Enrol: d.enrol, EnrolByCode: d.enrolByCode, Identity: [][]byte{d.identity.Public()}, API: d.browserAPI, Leave: d.leave, Known: transport.Known, Guests: guests{d}, Browsers: d.browsers, Banner: d.cfg.Banner, Lasts: cfg.Lasts, Refused: d.signInRefused, Log: d.log,
		Changing: d.changing, UserOf: d.userOf, LeaveOthers: d.leaveOthers,
		SetUp: func(user string, source netip.Addr) { d.gateway.AccountSetUp(user, source.String()) }})
	return err
}

// waiting is where sign-ins are that have begun: in the database that a fleet shares, or else in memory, where strangers
// cost no disk.
func (d *daemon) waiting() (pending.Store, signin.Logins) {
	if d.cfg.Store.URL == "" {
		return pending.NewMemory(pending.Config{}), signin.NewMemory(signin.MemoryConfig{})
	}
	return &people.Waiting{Store: d.store, Box: d.people.Box}, &people.Logins{Store: d.store, Box: d.people.Box}
}

// identityProviders are those that are configured; nil for none.
func (d *daemon) identityProviders(waiting pending.Store) (*oidc.Set, error) {
	var list []oidc.Config
	out := d.uplink()
	client := &http.Client{Transport: out.transport()}
	for _, p := range d.cfg.Identity.Providers {
		out.allow(p.Issuer)
		secret, err := d.clientSecret(p)
		if err != nil {
			return nil, err
		}
		list = append(list, oidc.Config{Name: p.Name, Issuer: p.Issuer, ClientID: p.ClientID, ClientSecret: secret, RedirectURL: d.cfg.Identity.URL + "/login/" + p.Name,
			Scopes: p.Scopes, UserClaim: p.User, GroupsClaim: p.Groups, AMR: p.MFA.AMR, ACR: p.MFA.ACR, HTTP: client, Reach: out.allow})
	}
	if len(list) == 0 {
		return nil, nil
	}
	return oidc.NewSet(waiting, list...)
}

func (d *daemon) clientSecret(p config.Provider) (string, error) {
	if p.ClientSecretFile == "" {
		return "", nil
	}
	text, err := d.supply.File(p.ClientSecretFile)
	if err != nil {
		return "", fmt.Errorf("read the client secret of provider %s: %w", p.Name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// enrol makes the device of a confirmed login its person's: the sign-in first, without which the device may do nothing.
func (d *daemon) enrol(ctx context.Context, e signin.Enrolment) (auth.Device, error) {
	n, err := d.begin(ctx, e)
	if err != nil {
		return auth.Device{}, err
	}
	before := d.registry.SignInOf(n.Device)
	device, err := d.registry.Add(ctx, auth.Device{User: n.User, Name: e.Name, Platform: e.Platform, Key: e.Key, SignIn: n.ID})
	if err == nil {
		detail := map[string]string{"method": e.Person.Method}
		err = d.trail.Write(audit.Event{Kind: audit.DeviceEnrolled, User: n.User, Device: device.ID, Object: device.Name, Source: e.Source.String(), Detail: detail})
	}
	if err != nil {
		d.undo(ctx, n)
		return auth.Device{}, err
	}
	if before != "" && before != n.ID {
		if err := d.signIns.End(ctx, before); err != nil && !errors.Is(err, auth.ErrSignedOut) {
			d.log.Warn("the sign-in of before is not ended in the database", "user", n.User, "cause", err)
		}
	}
	d.noteLogin(ctx, n)
	d.log.Info("device enrolled", "user", n.User, "device", device.ID, "name", device.Name, "source", e.Source, "by", e.Person.Method)
	return device, nil
}

// begin begins the sign-in of a confirmed login.
func (d *daemon) begin(ctx context.Context, e signin.Enrolment) (auth.SignIn, error) {
	n, err := d.people.Add(ctx, e, d.cfg.Identity.Lasts)
	if err != nil {
		return n, err
	}
	d.signIns.Learn(n)
	if n, err = d.people.SignIn(ctx, n.ID); err != nil || !n.Ended.IsZero() { // by somebody, meanwhile
		d.signIns.Learn(auth.SignIn{ID: e.SignIn, Ended: time.Now()})
		return n, errors.Join(signin.ErrLocked, err)
	}
	return n, nil
}

// undo ends a sign-in that has come to nothing.
func (d *daemon) undo(ctx context.Context, n auth.SignIn) {
	if err := d.signIns.End(ctx, n.ID); err != nil {
		d.log.Warn("a sign-in that came to nothing is not ended in the database", "user", n.User, "cause", err)
	}
}

func (d *daemon) noteLogin(ctx context.Context, n auth.SignIn) {
	if err := d.store.NoteLogin(ctx, n.User, n.Began); err != nil {
		d.log.Warn("a login is not noted", "user", n.User, "cause", err)
	}
}

// enrolByCode makes a device of a browser whose person has a one-time code.
func (d *daemon) enrolByCode(e auth.Enrolment, r *http.Request) (auth.Device, error) {
	p, err := browserPeer(r)
	if err != nil {
		return auth.Device{}, err
	}
	return d.gateway.Enrol(e, p)
}

// browserPeer is who asks by a browser, as far as the connection says.
func browserPeer(r *http.Request) (frame.Peer, error) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return frame.Peer{Transport: "browser", Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), Software: frame.Clip(r.UserAgent(), 64)}, err
}

// signInRefused notes why somebody has not signed in: exactly in the log, and as they were told in the audit log.
func (d *daemon) signInRefused(user string, source netip.Addr, why error) {
	user = frame.Clip(user, 64)
	var detail *oidc.Detail
	cause := why.Error()
	if errors.As(why, &detail) {
		cause = detail.Error()
	}
	code, sentence := auth.ErrControlDown.Code, cause
	var e *auth.Error
	if errors.As(why, &e) {
		code, sentence = e.Code, e.Sentence
	}
	d.log.Info("sign-in refused", "source", source, "user", user, "cause", code, "why", frame.Clip(cause, 600))
	d.gateway.SignInRefused(audit.Event{Kind: audit.SignInRefused, User: user, Source: source.String(), Transport: "browser", Code: code, Why: sentence})
}

// browserAPI is the API as the device of a browser sees it.
func (d *daemon) browserAPI(id string, r *http.Request) (http.Handler, error) {
	p, err := d.devicePeer(id, r)
	if err != nil {
		return nil, err
	}
	d.registry.Touch(p.Device, p.Remote.Addr(), "")
	return d.gateway.API(p), nil
}

// devicePeer is the device of a browser, as it asks.
func (d *daemon) devicePeer(id string, r *http.Request) (frame.Peer, error) {
	device, err := d.registry.Lookup(id)
	if err != nil {
		return frame.Peer{}, err
	}
	p, err := browserPeer(r)
	p.User, p.Device = device.User, device.ID
	p.Transport = "websocket" // as its flows come: what it asks about them is decided alike
	return p, err
}

// leave revokes the device of a browser that has become another.
func (d *daemon) leave(id string, r *http.Request) error {
	p, err := d.devicePeer(id, r)
	if errors.Is(err, auth.ErrRevoked) || errors.Is(err, auth.ErrUnknownDevice) {
		return nil
	}
	return errors.Join(err, d.gateway.Leave(r.Context(), p))
}

// changing has somebody change what they sign in with.
func (d *daemon) changing(user string, source netip.Addr, what, object string, do func() error) error {
	err := d.gateway.ChangeAccount(user, source.String(), what, object, do)
	if r, refused := frame.ReasonOf(err); refused {
		return &auth.Error{Code: string(r.Code), Sentence: r.Sentence, Hint: r.Hint}
	}
	return err
}

// userOf is whose a device is.
func (d *daemon) userOf(id string) string {
	device, err := d.registry.Lookup(id)
	if err != nil {
		return ""
	}
	return device.User
}

// leaveOthers signs somebody out everywhere but on a device of theirs, or everywhere.
func (d *daemon) leaveOthers(user, but string, r *http.Request) error {
	p, err := browserPeer(r)
	if err != nil {
		return err
	}
	p.User, p.Device = user, but
	return d.gateway.LeaveOthers(r.Context(), p)
}

// followPeople asks identity providers about sign-ins until ctx ends.
func (d *daemon) followPeople(ctx context.Context) {
	if d.refresher != nil {
		d.refresher.Run(ctx)
	}
}
