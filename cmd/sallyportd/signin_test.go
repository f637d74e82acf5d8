package main

import (
	"html"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// TestSignIn: people sign in at a real identity provider and with accounts of the appliance's own. What the provider says of
// them decides, now and later; what ends a sign-in ends what it carries.
func TestSignIn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Node process")
	}
	e := newEntrance(t)

	// By the provider, whose groups open a target, and who knows of no second factor.
	annsHome := e.login("ann", func(b *browser) { b.atProvider("ann") })
	ann := e.dialer(annsHome)
	flow := e.opens(ann, "demo-1")
	e.refused(ann, "demo-2", "E_DENIED")
	me, err := client.NewAPI(ann).Me(t.Context())
	if err != nil || me.User != "ann" || strings.Join(me.Groups, " ") != "dev ops" || me.SignedInUntil.IsZero() {
		t.Errorf("%+v, %v", me, err)
	}
	e.again(annsHome, flow, func(b *browser) { b.atProvider("ann") })
	// Who is in no group sees nothing.
	dave := e.dialer(e.login("dave", func(b *browser) { b.atProvider("dave") }))
	e.refused(dave, "demo-1", "E_TARGET_UNKNOWN")

	// An administrator makes accounts; their owners set them up.
	root := e.root()
	bobsSecret := e.setUp(root, "bob")
	bob := e.dialer(e.login("bob", func(b *browser) { b.byPassword("bob", bobsSecret) }))
	bobs := e.opens(bob, "demo-2") // which wants a second factor
	list, err := client.NewAPI(root).Accounts(t.Context())
	if err != nil || len(list) != 3 || list[1].User != "bob" || strings.Join(list[1].Has, " ") != "password recovery totp" && strings.Join(list[1].Has, " ") != "password totp recovery" || list[0].Source != e.idp.Issuer {
		t.Errorf("%+v, %v", list, err)
	}
	// A name belongs to whoever had it first.
	b := e.browser()
	to := html.UnescapeString(onward.FindStringSubmatch(b.form("/login/at/corp", nil, "0;url="))[1])
	if text := b.page(b.Get(b.url + "/login/corp?" + b.idp.Login(t, to, "bob").Encode())); !strings.Contains(text, "belongs to somebody else") {
		t.Errorf("the provider's bob: %s", text)
	}

	e.stolen(annsHome, bob)

	e.byBrowser()

	// The provider is away: what there is goes on, nobody signs in anew.
	b = e.browser()
	to = html.UnescapeString(onward.FindStringSubmatch(b.form("/login/at/corp", nil, "0;url="))[1])
	back := b.idp.Login(t, to, "ann")
	e.idp.Do(t, "down")
	time.Sleep(3 * time.Second) // it is asked each second
	if text := b.page(b.Get(b.url + "/login/corp?" + back.Encode())); !strings.Contains(text, "the identity provider does not answer") {
		t.Errorf("while the provider is away: %s", text)
	}
	e.opens(ann, "demo-1")
	e.idp.Do(t, "up")

	// It takes ann out of her groups.
	e.idp.Do(t, "demote")
	e.ends(flow, "E_TARGET_UNKNOWN", "what is known of you has changed")
	e.refused(ann, "demo-1", "E_TARGET_UNKNOWN")

	// An administrator bars bob.
	if err := client.NewAPI(root).SetAccount(t.Context(), "bob", api.SetAccount{Disabled: true}); err != nil {
		t.Fatal(err)
	}
	e.ends(bobs, "E_SIGNED_OUT E_DEVICE_REVOKED", "")
	e.refused(bob, "demo-1", "E_SIGNED_OUT", "E_DEVICE_REVOKED") // the one is known a moment before the other
	e.browser().form("/login/password", url.Values{"user": {"bob"}, "password": {bobsPassword}}, "this account is locked")

	// She signs out everywhere.
	if err := client.NewAPI(ann).Logout(t.Context(), true); err != nil {
		t.Errorf("logout everywhere: %v", err)
	}
	e.refused(ann, "demo-1", "E_DEVICE_REVOKED")

	e.traces(root)
}

const bobsPassword = "an owl in the attic"

var (
	shownSecret   = regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`)
	shownRecovery = regexp.MustCompile(`<li>([^<]+)</li>`)
)

// setUp makes an account, and has its owner set it up. It returns the secret of their one-time codes.
func (e *entrance) setUp(admin *client.Direct, user string) string {
	e.t.Helper()
	made, err := client.NewAPI(admin).AddAccount(e.t.Context(), api.AddAccount{User: user})
	if err != nil {
		e.t.Fatal(err)
	}
	code, ours := strings.CutPrefix(made.Path, "/setup#")
	if !ours {
		e.t.Fatalf("the path is %s", made.Path)
	}
	b := e.browser()
	secret := shownSecret.FindStringSubmatch(b.form("/setup", url.Values{"code": {code}}, "Welcome, "+user))[1]
	one, err := totp.GenerateCode(secret, time.Now()) // the next one is for the login
	if err != nil {
		e.t.Fatal(err)
	}
	e.witness.hide(code, secret, bobsPassword)
	done := b.form("/setup/finish", url.Values{"code": {code}, "secret": {secret}, "password": {bobsPassword}, "again": {bobsPassword}, "totp": {one}}, "Your account is ready")
	recovery := shownRecovery.FindAllStringSubmatch(done, -1)
	if len(recovery) != 10 {
		e.t.Fatalf("%d recovery codes are on\n%s", len(recovery), done)
	}
	for _, c := range recovery {
		e.witness.hide(c[1], strings.ReplaceAll(c[1], "-", ""))
	}
	return secret
}

// stolen puts one person's token beside another's key.
func (e *entrance) stolen(from client.Home, thief *client.Direct) {
	e.t.Helper()
	tokens, err := filepath.Glob(filepath.Join(from.Dir(), "*.token"))
	if err != nil || len(tokens) != 1 {
		e.t.Fatalf("%q, %v", tokens, err)
	}
	token, err := os.ReadFile(tokens[0])
	if err != nil || len(token) == 0 {
		e.t.Fatalf("%q, %v", token, err)
	}
	if info, err := os.Stat(tokens[0]); err != nil || info.Mode() != 0o600 {
		e.t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	home := e.login("eve", func(b *browser) { b.atProvider("eve") })
	if err := os.WriteFile(filepath.Join(home.Dir(), filepath.Base(tokens[0])), token, 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.refused(e.dialer(home), "demo-1", frame.Auth)
	if text := e.log.String(); !strings.Contains(text, "the token is bound to the device key") || strings.Contains(text, string(token)) {
		e.t.Error("the log does not say why the token was refused, or says too much")
	}
	e.refused(e.dialer(home), "demo-1", "E_TARGET_UNKNOWN") // eve is who she is, without the token
}
