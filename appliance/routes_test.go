package appliance

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// TestRoutesByRole asks for each route as each kind of caller: who may not, gets nothing.
func TestRoutesByRole(t *testing.T) {
	s := newSite(t)
	ask := func(r route, p frame.Peer) (status int, no api.Failure) {
		t.Helper()
		req := httptest.NewRequest(r.method, strings.NewReplacer("{id}", "x", "{kind}", "user", "{name}", "x").Replace(r.path), strings.NewReader("{}"))
		w := httptest.NewRecorder()
		s.API(p).ServeHTTP(w, req)
		json.Unmarshal(w.Body.Bytes(), &no)
		return w.Code, no
	}
	revoked := auth.DeviceID(s.enrolled("ann"))
	robot := frame.Peer{User: "ann", Device: s.robot("ann", auth.Scope{Targets: []string{"db-1"}})}
	if err := s.reg.Revoke(revoked); err != nil {
		t.Fatal(err)
	}
	if err := s.Locks.Lock(t.Context(), auth.Lock{Kind: auth.LockUser, Name: "carl"}); err != nil {
		t.Fatal(err)
	}
	administered := 0
	for _, r := range routes {
		name := r.method + " " + r.path
		if status, no := ask(r, frame.Peer{User: "ann", Device: revoked}); status != http.StatusBadRequest || no.Code != auth.ErrRevoked.Code {
			t.Errorf("%s by a revoked device: %d %+v", name, status, no)
		}
		if status, no := ask(r, frame.Peer{User: "carl", Device: "dev-3"}); status != http.StatusBadRequest || no.Code != auth.ErrLocked.Code {
			t.Errorf("%s by somebody who is locked: %d %+v", name, status, no)
		}
		status, no := ask(r, frame.Peer{User: "bob", Device: "dev-2"})
		switch r.role {
		case administrator:
			administered++
			if status != http.StatusForbidden || no.Code != "E_ADMIN" {
				t.Errorf("%s by bob: %d %+v", name, status, no)
			}
			if status, no := ask(r, robot); status != http.StatusForbidden || no.Code != "E_ADMIN" {
				t.Errorf("%s by an administrator's robot: %d %+v", name, status, no)
			}
			if status, no := ask(r, frame.Peer{User: "ann", Device: "dev-1"}); no.Code == "E_ADMIN" || status == http.StatusInternalServerError {
				t.Errorf("%s by an administrator: %d %+v", name, status, no)
			}
		case person:
			if status >= 500 {
				t.Errorf("%s by bob: %d %+v", name, status, no)
			}
		default:
			t.Errorf("%s is for %q, which is nobody", name, r.role)
		}
	}
	if administered == 0 {
		t.Error("no route is for administrators")
	}
}
