package appliance

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// gone are devices whose sign-in has ended.
type gone map[string]bool

func (g gone) Standing(device string) (auth.Standing, error) {
	if g[device] {
		return auth.Standing{}, auth.ErrSignedOut
	}
	return auth.Standing{}, nil
}

func (gone) GroupsOf(string) []string { return nil }

func (gone) SignOut(context.Context, string) error { return nil }

// watchers are policies by which wes sees the sessions of others and kim ends them, to db-1, and neither may do more.
const watchers = `
permit (principal == User::"wes", action == Action::"view_session", resource == Target::"db-1");
permit (principal == User::"kim", action == Action::"kill_session", resource == Target::"db-1");`

// A question is how a route is asked: by query and body, in which ID is an open session of bob's, or a request for approval
// of dan's. The answers are that to ann, who administers; that to all others who may come in, which for administrators'
// routes is no; and those to others than they.
type question struct {
	query, body string
	ann, others string
	but         map[string]string
}

var questions = map[string]question{
	"GET openapi.json":       {ann: "200", others: "200"},
	"GET me":                 {ann: "200", others: "200"},
	"GET targets":            {ann: "200", others: "200"},
	"GET grant":              {query: "?target=db-1", ann: "200", others: "400 E_TARGET_UNKNOWN", but: map[string]string{"bob": "200", "robot": "200"}},
	"GET bench":              {ann: "400 E_DENIED", others: "400 E_DENIED"},
	"GET sessions":           {query: "?all", ann: "200", others: "200"}, // TestWatchers has what is in them
	"POST sessions/end":      {body: `{"sessions":["ID"]}`, ann: "200", others: "404 E_SESSION_UNKNOWN", but: map[string]string{"bob": "200", "kim": "200"}},
	"POST sessions/message":  {body: `{"sessions":["ID"],"text":"lunch"}`, ann: "200", others: "404 E_SESSION_UNKNOWN", but: map[string]string{"bob": "200", "kim": "200"}},
	"GET approvals":          {ann: "200", others: "200"},
	"POST approvals":         {body: `{"target":"db-1"}`, ann: "200", others: "400 E_TARGET_UNKNOWN", but: map[string]string{"bob": "200", "robot": "200"}},
	"POST approvals/{id}":    {body: `{"approve":true}`, ann: "404 E_APPROVAL_UNKNOWN", others: "404 E_APPROVAL_UNKNOWN", but: map[string]string{"lea": "200"}},
	"GET guests":             {ann: "200", others: "200", but: map[string]string{"robot": "400 E_DENIED"}},
	"POST guests":            {body: `{"target":"db-1"}`, ann: "400 E_SHARE", others: "400 E_TARGET_UNKNOWN", but: map[string]string{"bob": "400 E_SHARE", "robot": "400 E_DENIED"}},
	"DELETE guests/{id}":     {ann: "404 E_GUEST_UNKNOWN", others: "404 E_GUEST_UNKNOWN"},
	"GET clients":            {ann: "404 E_CLIENT_UNKNOWN", others: "404 E_CLIENT_UNKNOWN"}, // the site keeps none
	"GET clients/{name}":     {ann: "404 E_CLIENT_UNKNOWN", others: "404 E_CLIENT_UNKNOWN"},
	"POST clients/upload":    {ann: "404 E_CLIENT_UNKNOWN"},
	"POST logout":            {ann: "200", others: "200"},
	"POST ssh/certificate":   {body: `{"target":"db-1","key":"none"}`, ann: "400 E_USAGE", others: "400 E_USAGE"},
	"GET me/devices":         {ann: "200", others: "200"},
	"DELETE me/devices/{id}": {ann: "404 E_DEVICE_UNKNOWN", others: "404 E_DEVICE_UNKNOWN", but: map[string]string{"robot": "400 E_DENIED"}},
	"GET me/factors":         {ann: "200", others: "200", but: map[string]string{"robot": "400 E_DENIED"}},
	"GET devices":            {ann: "200"},
	"DELETE devices/{id}":    {ann: "404 E_DEVICE_UNKNOWN"},
	"POST codes":             {body: `{"user":"dan"}`, ann: "200"},
	"GET locks":              {ann: "200"},
	"POST locks":             {body: `{"kind":"user","name":"eve"}`, ann: "200"},
	"GET policy":             {ann: "200"},
	"GET policy/why":         {query: "?user=bob&target=db-1", ann: "200"},
	"POST policy/check":      {body: "{}", ann: "200"},
	"GET policy/test":        {ann: "200"},
	"GET audit":              {ann: "200"},
	"GET audit/export":       {query: "?as=jsonl", ann: "200"},
	"GET audit/key":          {ann: "200"},
	"GET hostkeys":           {ann: "200"},
	"POST hostkeys/confirm":  {body: "{}", ann: "404 E_HOST_KEY_UNKNOWN"},
	"POST hostkeys/forget":   {body: "{}", ann: "404 E_HOST_KEY_UNKNOWN"},
	"GET access":             {ann: "400 E_ACCESS_FILES"}, // the site has no versions
	"GET access/diff":        {ann: "400 E_ACCESS_FILES"},
	"GET access/{version}":   {ann: "400 E_ACCESS_FILES"},
	"POST access":            {body: "{}", ann: "400 E_ACCESS_FILES"},
	"GET accounts":           {ann: "200"},
	"POST accounts":          {body: `{"user":"fay"}`, ann: "200"},
	"POST accounts/{name}":   {body: `{"disabled":true}`, ann: "404 E_ACCOUNT_UNKNOWN"},
	"DELETE accounts/{name}": {ann: "404 E_ACCOUNT_UNKNOWN"},
	"GET health":             {ann: "200"},
	"GET settings":           {ann: "200"},
	"GET signins":            {ann: "200"},
	"POST signins/end":       {body: `{"user":"fay"}`, ann: "200"},
	"GET update":             {ann: "400 E_UPDATE_NONE"}, // the site is no image; TestUpdates has one that is
	"POST update/upload":     {ann: "400 E_UPDATE_NONE"},
	"POST update/install":    {body: "{}", ann: "400 E_UPDATE_NONE"},
	"POST update/rollback":   {ann: "400 E_UPDATE_NONE"},
	"POST update/restart":    {ann: "400 E_UPDATE_NONE"},

	"DELETE locks/{kind}/{name}": {ann: "404 E_LOCK_UNKNOWN"},
	"POST accounts/{name}/reset": {body: "{}", ann: "404 E_ACCOUNT_UNKNOWN"},
}

// TestRoutesByRole asks for each route as each kind of caller: who may not, gets nothing.
func TestRoutesByRole(t *testing.T) {
	s, _ := approving(t, 0)
	s.SetPolicy(s.parse("groups: {leads: [lea]}\n"+siteAccess, watchers))
	hosting(t, s)
	out := gone{}
	s.People = out
	if err := s.Locks.Lock(t.Context(), auth.Lock{Kind: auth.LockUser, Name: "carl"}); err != nil {
		t.Fatal(err)
	}
	caller := func(role string) frame.Peer {
		t.Helper()
		p := frame.Peer{User: role, Remote: s.peer.Remote, Transport: "quic"}
		switch role {
		case "robot":
			p.User, p.Device = "ann", s.robot("ann", auth.Scope{Targets: []string{"db-1"}})
			return p
		case "revoked", "signed out":
			p.User = "ann"
		case "locked":
			p.User = "carl"
		}
		p.Device = auth.DeviceID(s.enrolled(p.User))
		out[p.Device] = role == "signed out"
		if role == "revoked" {
			if err := s.reg.Revoke(p.Device); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	ask := func(r route, q question, role string) string {
		t.Helper()
		id := "0123456789abcdef"
		switch r.method + " " + r.path {
		case "POST /api/v1/sessions/end", "POST /api/v1/sessions/message":
			f := s.as("bob", "dev-7")
			defer f.Close()
			list, err := s.sessions(frame.Peer{User: "bob", Device: "dev-7"}, false)
			if err != nil || len(list) == 0 {
				t.Fatal(list, err)
			}
			id = list[len(list)-1].ID
		case "POST /api/v1/approvals/{id}":
			one, err := s.Approvals.Ask(t.Context(), auth.Approval{ID: rand.Text(), User: "dan", Device: "dev-8", Target: "db-1:22", VNet: "hub", Protocol: "ssh", Group: "leads", Expires: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			id = one.ID
		}
		path := strings.NewReplacer("{id}", id, "{kind}", "user", "{name}", "x", "{version}", "active").Replace(r.path)
		req := httptest.NewRequest(r.method, path+q.query, strings.NewReader(strings.ReplaceAll(q.body, "ID", id)))
		w := httptest.NewRecorder()
		s.API(caller(role)).ServeHTTP(w, req)
		if w.Code == http.StatusOK {
			return "200"
		}
		var no api.Failure
		if err := json.Unmarshal(w.Body.Bytes(), &no); err != nil {
			t.Errorf("%s answers %q", path, w.Body)
		}
		return strings.TrimSpace(fmt.Sprintf("%d %s", w.Code, no.Code))
	}
	for _, r := range routes {
		name := r.method + " " + strings.TrimPrefix(r.path, "/api/v1/")
		q, asked := questions[name]
		if !asked || (r.role == person) != (q.others != "") || r.role != person && r.role != administrator {
			t.Errorf("%s is for %q, and asked as %+v", name, r.role, q)
			continue
		}
		wants := map[string]string{"ann": q.ann, "revoked": "400 E_DEVICE_REVOKED", "locked": "400 E_LOCKED", "signed out": "400 E_SIGNED_OUT"}
		for _, role := range []string{"bob", "robot", "lea", "wes", "kim"} {
			wants[role] = cmp.Or(q.but[role], q.others, "403 E_ADMIN")
		}
		for role, want := range wants {
			if got := ask(r, q, role); got != want {
				t.Errorf("%s by %s: %s, want %s", name, role, got, want)
			}
		}
	}
	if len(questions) != len(routes) {
		t.Errorf("%d routes are asked, there are %d", len(questions), len(routes))
	}
}
