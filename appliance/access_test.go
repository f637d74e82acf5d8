package appliance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/access"
	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/netstack"
)

// shelf is versions in memory.
type shelf struct {
	site      *site
	versions  []AccessVersion
	accounts  []access.AccountChange // of the latest version
	meanwhile func()                 // happens between the plan and its taking
}

func (s *shelf) Version(_ context.Context, n int64) (AccessVersion, error) {
	if n == 0 {
		n = int64(len(s.versions))
	}
	if n < 1 || n > int64(len(s.versions)) {
		return AccessVersion{}, ErrNoVersion
	}
	return s.versions[n-1], nil
}

func (s *shelf) Versions(context.Context, int) (list []AccessVersion, err error) {
	for _, v := range slices.Backward(s.versions) {
		v.Files = nil
		list = append(list, v)
	}
	return list, nil
}

func (s *shelf) Read(f access.Files) (*access.Rules, error) {
	return access.Read(f, policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: func(netip.Addr) error { return nil }, VNets: []string{"hub"}})
}

func (s *shelf) Apply(_ context.Context, expected int64, v AccessVersion, accounts []access.AccountChange) (int64, error) {
	if s.meanwhile != nil {
		s.meanwhile()
	}
	if expected != int64(len(s.versions)) {
		return 0, ErrVersion
	}
	v.Number = expected + 1
	s.versions, s.accounts = append(s.versions, v), accounts
	rules, err := s.Read(v.Files)
	if err == nil {
		s.site.SetPolicy(rules.Policy)
	}
	return v.Number, err
}

// onShelf is a site whose access files are versions, of which there is one.
func onShelf(t *testing.T) (*site, *shelf) {
	s := newSite(t)
	files := access.Files{"access.yaml": []byte(siteAccess)}
	kept := &shelf{site: s, versions: []AccessVersion{{Number: 1, By: "root", Files: files, Hash: access.Hash(files.Pack())}}}
	s.Access = kept
	return s, kept
}

// ask asks the API in the name of the site's peer.
func (s *site) ask(method, path string, ask, answer any) api.Failure {
	s.t.Helper()
	body, err := json.Marshal(ask)
	if err != nil {
		s.t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(s.t.Context(), method, "/api/v1/"+path, bytes.NewReader(body))
	w := httptest.NewRecorder()
	s.API(s.peer).ServeHTTP(w, req)
	var no api.Failure
	if w.Code != 200 {
		answer = &no
	}
	if answer != nil {
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
			s.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return no
}

func (s *site) applies(ask api.ApplyAccess) (p api.AccessPlan, no api.Failure) {
	s.t.Helper()
	no = s.ask("POST", "access", ask, &p)
	return p, no
}

// TestApply: a version is compared, tried, taken once, and ends what it does not allow.
func TestApply(t *testing.T) {
	s, kept := onShelf(t)
	s.target("10.0.0.5:22", echo)
	f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	speak(t, f, "SSH-2.0-client\r\n")

	without := strings.ReplaceAll(strings.Replace(siteAccess, "  - {name: db-1, vnet: hub, address: 10.0.0.5, protocols: {ssh: 22, tcp: 5432}}\n", "", 1), "[db-1, named,", "[named,")
	ask := api.ApplyAccess{DryRun: true, Files: map[string][]byte{"access.yaml": []byte(without), "accounts.yaml": []byte("accounts: [{user: dan}]")}}
	p, no := s.applies(ask)
	var changes []string
	for _, c := range p.Changes {
		changes = append(changes, c.Action+" "+c.Kind+" "+c.Name)
	}
	if want := []string{"removed target db-1", "added account dan", "changed rule operators"}; !slices.Equal(changes, want) || no.Code != "" {
		t.Errorf("changes %q, %+v", changes, no)
	}
	if p.Version != 1 || p.Taken != 0 || len(kept.versions) != 1 {
		t.Errorf("a dry run took %+v", p)
	}
	if len(p.Ends) != 1 || p.Ends[0].User != "ann" || p.Ends[0].Target != "db-1" || !strings.Contains(p.Ends[0].Why, "the rules have changed") {
		t.Errorf("would end %+v", p.Ends)
	}

	ask.DryRun, ask.Expected = false, 7
	if _, no := s.applies(ask); no.Code != "E_CONFLICT" || len(kept.versions) != 1 {
		t.Errorf("compared with another version: %+v", no)
	}
	ask.Expected, ask.Comment = 1, "db-1 is gone"
	kept.meanwhile = func() {
		again := kept.versions[0]
		again.Number = 2
		kept.versions = append(kept.versions, again)
	}
	if _, no := s.applies(ask); no.Code != "E_CONFLICT" {
		t.Errorf("somebody was faster: %+v", no)
	}
	written := s.book.all()
	failed := written[len(written)-1]
	if failed.Kind != audit.AccessChanged || failed.Code != "E_CONFLICT" || failed.By != "ann" {
		t.Errorf("what was not taken is written as %+v", failed)
	}
	kept.meanwhile, ask.Expected = nil, 2
	if p, no = s.applies(ask); no.Code != "" || p.Taken != 3 {
		t.Errorf("%+v, %+v", p, no)
	}
	if len(kept.accounts) != 1 || kept.accounts[0].User != "dan" {
		t.Fatalf("accounts: %+v", kept.accounts)
	}
	if _, err := f.Read(make([]byte, 1)); codeOf(err) != "E_TARGET_UNKNOWN" {
		t.Errorf("the flow ended with %v", err)
	}
	var taken audit.Event
	for _, e := range s.book.all() {
		if e.Kind == audit.AccessChanged && e.Code == "" {
			taken = e
		}
	}
	if taken.By != "ann" || taken.Why != "db-1 is gone" || taken.Detail["version"] != "3" || !strings.Contains(taken.Detail["summary"], "removed: target db-1") ||
		taken.Detail["hash"] != access.HashText(kept.versions[2].Hash) {
		t.Errorf("written: %+v", taken)
	}

	if p, no = s.applies(api.ApplyAccess{Rollback: 1, Expected: 3}); no.Code != "" || p.Taken != 4 || !kept.accounts[0].Remove || kept.versions[3].Comment != "back to version 1" {
		t.Errorf("back: %+v, %+v, %+v", p, no, kept.versions[3])
	}
	if _, no = s.applies(api.ApplyAccess{Rollback: 9, Expected: 4}); no.Code != "E_VERSION_UNKNOWN" {
		t.Errorf("back to none: %+v", no)
	}
	var list []api.AccessVersion
	if no := s.ask("GET", "access", nil, &list); no.Code != "" || len(list) != 4 || list[0].Version != 4 || list[0].Files != nil {
		t.Errorf("%+v, %+v", list, no)
	}
	var diff []api.AccessChange
	if no := s.ask("GET", "access/diff?from=4&to=3", nil, &diff); no.Code != "" || len(diff) != 3 {
		t.Errorf("%+v, %+v", diff, no)
	}
	var shown api.AccessVersion
	if no := s.ask("GET", "access/active", nil, &shown); no.Code != "" || shown.Version != 4 || string(shown.Files["access.yaml"]) != siteAccess {
		t.Errorf("%+v, %+v", shown, no)
	}
}

func TestApplyRefuses(t *testing.T) {
	s, kept := onShelf(t)
	apply := func(files map[string]string, force bool) (api.AccessPlan, api.Failure) {
		ask := api.ApplyAccess{Files: map[string][]byte{}, Expected: int64(len(kept.versions)), Force: force}
		for name, text := range files {
			ask.Files[name] = []byte(text)
		}
		return s.applies(ask)
	}
	for what, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a key that is none":  {map[string]string{"access.yaml": "admins: [ann]\ntargetts: []\n"}, "access.yaml:2:1: "},
		"a policy":            {map[string]string{"access.yaml": siteAccess, "x.cedar": "permit (principal, action, resource)\n"}, "x.cedar:1:1: "},
		"a test that fails":   {map[string]string{"access.yaml": siteAccess + "tests:\n  - {user: eve, target: db-1, allow: true}\n"}, "access.yaml:12:1: test "},
		"an unknown group":    {map[string]string{"access.yaml": siteAccess, "accounts.yaml": "accounts:\n  - {user: ann, groups: [opps]}\n"}, "accounts.yaml:2:26: there is no group \"opps\""},
		"an account twice":    {map[string]string{"access.yaml": siteAccess, "accounts.yaml": "accounts:\n  - {user: ann}\n  - {user: ann}\n"}, "accounts.yaml:3:12: account \"ann\" is there twice"},
		"a name of elsewhere": {map[string]string{"../access.yaml": siteAccess}, "is not the name of an access file"},
		"nothing":             {nil, "there are no files"},
		"a file that is long": {map[string]string{"access.yaml": siteAccess + "#" + strings.Repeat("x", access.MaxFile)}, "at most 1048576 are taken"},
		"many of them":        {manyFiles(), "at most 200 are taken"},
	} {
		p, no := apply(c.files, true)
		if len(p.Faults) == 0 || !strings.Contains(p.Faults[0], c.want) || no.Code != "" {
			t.Errorf("%s: %q, %+v", what, p.Faults, no)
		}
	}
	locked := strings.Replace(siteAccess, "admins: [ann]", "admins: [bob]", 1)
	for what, files := range map[string]map[string]string{
		"another administrator": {"access.yaml": locked},
		"the account":           {"access.yaml": siteAccess, "accounts.yaml": "accounts: [{user: ann, disabled: true}]"},
	} {
		if _, no := apply(files, false); no.Code != "E_LOCKOUT" || !strings.Contains(no.Sentence, "ann") {
			t.Errorf("%s: %+v", what, no)
		}
	}
	if len(kept.versions) != 1 {
		t.Fatalf("%d versions", len(kept.versions))
	}
	if p, no := apply(map[string]string{"access.yaml": locked}, true); p.Taken != 2 || !p.NeedsForce || no.Code != "" {
		t.Errorf("with force: %+v, %+v", p, no)
	}
	if _, no := apply(map[string]string{"access.yaml": siteAccess}, true); no.Code != "E_ADMIN" {
		t.Errorf("who is no administrator any more: %+v", no)
	}
}

func manyFiles() map[string]string {
	files := map[string]string{"access.yaml": siteAccess}
	for i := range access.MaxFiles {
		files[fmt.Sprintf("p%d.cedar", i)] = ""
	}
	return files
}

// TestUnwrittenAccess: what cannot be written down is not put in force.
func TestUnwrittenAccess(t *testing.T) {
	s, kept := onShelf(t)
	s.book.refuse(errors.New("the disk is full"))
	if _, no := s.applies(api.ApplyAccess{Files: map[string][]byte{"access.yaml": []byte(siteAccess + "\n")}, Expected: 1}); no.Code != "E_AUDIT" || len(kept.versions) != 1 {
		t.Errorf("%+v, %d versions", no, len(kept.versions))
	}
}

// TestAccessInFiles: where the files lie on the appliance's disk, nobody changes them from afar.
func TestAccessInFiles(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"GET access", "GET access/1", "GET access/diff?from=1&to=2", "POST access"} {
		method, path, _ := strings.Cut(path, " ")
		if no := s.ask(method, path, struct{}{}, nil); no.Code != "E_ACCESS_FILES" {
			t.Errorf("%s: %+v", path, no)
		}
	}
}

// guests is accounts in memory.
type guests struct{ all []api.Account }

func (g *guests) find(user string) int {
	return slices.IndexFunc(g.all, func(a api.Account) bool { return a.User == user })
}

func (g *guests) List(context.Context) ([]api.Account, error) { return slices.Clone(g.all), nil }

func (g *guests) Add(_ context.Context, user string, groups []string) (api.SetUp, error) {
	if g.find(user) >= 0 {
		return api.SetUp{}, ErrAccountTaken
	}
	g.all = append(g.all, api.Account{User: user, Groups: groups})
	return api.SetUp{User: user, Path: "/setup#secret", Expires: time.Now().Add(time.Hour)}, nil
}

func (g *guests) Reset(_ context.Context, user string, _ api.ResetAccount) (api.SetUp, error) {
	if g.find(user) < 0 {
		return api.SetUp{}, ErrNoAccount
	}
	return api.SetUp{User: user, Path: "/setup#secret", Expires: time.Now().Add(time.Hour)}, nil
}

func (g *guests) Disable(_ context.Context, user string, disabled bool) error {
	i := g.find(user)
	if i < 0 {
		return ErrNoAccount
	}
	if g.all[i].Disabled = (time.Time{}); disabled {
		g.all[i].Disabled = time.Now()
	}
	return nil
}

func (g *guests) Remove(_ context.Context, user string) error {
	i := g.find(user)
	if i < 0 {
		return ErrNoAccount
	}
	g.all = slices.Delete(g.all, i, i+1)
	return nil
}

func (g *guests) Factors(context.Context, string) (api.Factors, error) { return api.Factors{}, nil }

func (g *guests) SignIns(context.Context, string) ([]api.SignIn, error) { return []api.SignIn{}, nil }

func (g *guests) EndSignIns(_ context.Context, which api.EndSignIns) ([]api.SignIn, error) {
	if which.User == "" {
		return nil, ErrNoSignIn
	}
	return []api.SignIn{{ID: "s1", User: which.User, Device: "dev-7"}}, nil
}

// TestAccountsByHand: what administrators do to accounts, what is refused, and what of it is written: never the link.
func TestAccountsByHand(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(strings.Replace(siteAccess, "admins: [ann]", "admins: [ann]\ngroups: {ops: []}", 1)))
	for _, step := range []struct {
		method, path string
		ask          any
		code, kind   string // the refusal; the event that is written
	}{
		{"POST", "accounts", api.AddAccount{User: "Dan"}, "E_NAME", ""},
		{"POST", "accounts", api.AddAccount{User: "dan", Groups: []string{"opps"}}, "E_USAGE", ""},
		{"POST", "accounts", api.AddAccount{User: "dan", Groups: []string{"ops"}}, "", audit.AccountCreated},
		{"POST", "accounts", api.AddAccount{User: "dan"}, "E_ACCOUNT_TAKEN", audit.AccountCreated},
		{"POST", "accounts/dan/reset", api.ResetAccount{SecondFactor: true}, "", audit.AccountSetUp},
		{"POST", "accounts/eve/reset", api.ResetAccount{}, "E_ACCOUNT_UNKNOWN", audit.AccountSetUp},
		{"POST", "accounts/dan", api.SetAccount{Disabled: true}, "", audit.AccountDisabled},
		{"POST", "accounts/dan", api.SetAccount{}, "", audit.AccountEnabled},
		{"POST", "accounts/ann", api.SetAccount{Disabled: true}, "E_USAGE", ""},
		{"DELETE", "accounts/ann", nil, "E_USAGE", ""},
		{"DELETE", "accounts/eve", nil, "E_ACCOUNT_UNKNOWN", ""},
		{"DELETE", "accounts/dan", nil, "", audit.AccountRemoved},
		{"POST", "signins/end", api.EndSignIns{}, "E_USAGE", ""},
		{"POST", "signins/end", api.EndSignIns{ID: "x"}, "E_SIGNIN_UNKNOWN", ""},
		{"POST", "signins/end", api.EndSignIns{User: "dan"}, "", audit.SignInEnded},
	} {
		before := len(s.book.all())
		no := s.ask(step.method, step.path, step.ask, nil)
		if no.Code != step.code {
			t.Errorf("%s %s: %+v, want %q", step.method, step.path, no, step.code)
		}
		written := s.book.all()[before:]
		if (step.kind == "") != (len(written) == 0) || step.kind != "" && (written[len(written)-1].Kind != step.kind || written[len(written)-1].Code != step.code || written[0].By != "ann") {
			t.Errorf("%s %s: written %+v, want %q", step.method, step.path, written, step.kind)
		}
	}
	if text := fmt.Sprint(s.book.all()); strings.Contains(text, "secret") {
		t.Error("a link is in the audit log")
	}
}

// TestWhatIsInForce: administrators see all targets and what is said of them, wherever the access files are kept; nobody else does.
func TestWhatIsInForce(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(siteAccess, `@id("no files") forbid (principal, action in [Action::"upload", Action::"download"], resource == Target::"named");`))
	names := func(path string) (names string, no api.Failure) {
		var list []api.Target
		no = s.ask("GET", path, nil, &list)
		for _, target := range list {
			names += fmt.Sprintf("%s at %s, files %t; ", target.Name, cmp.Or(target.Address, "?"), target.Files)
		}
		return names, no
	}
	if got, _ := names("targets"); got != "db-1 at ?, files true; named at ?, files false; outside at ?, files true; rebound at ?, files true; " {
		t.Errorf("ann may use %s", got)
	}
	if got, _ := names("targets?all"); !strings.HasPrefix(got, "db-1 at 10.0.0.5, files false; hidden at hidden.corp.example, files false; named at db.corp.example, ") || strings.Count(got, ";") != 5 {
		t.Errorf("there are %s", got)
	}
	var list []api.PolicyStatement
	if no := s.ask("GET", "policy", nil, &list); no.Code != "" {
		t.Fatal(no)
	}
	var said []string
	for _, one := range list {
		said = append(said, one.Kind+" "+one.Effect+" "+one.ID)
	}
	if got := strings.Join(said, "; "); !strings.Contains(got, "rule permit operators") || !strings.Contains(got, "policy forbid no files") {
		t.Errorf("in force are %s", got)
	}
	s.peer.User = "bob"
	for _, path := range []string{"targets?all", "policy"} {
		if no := s.ask("GET", path, nil, nil); no.Code != "E_ADMIN" {
			t.Errorf("%s to bob: %+v", path, no)
		}
	}
}
