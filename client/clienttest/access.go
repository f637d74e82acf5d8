package clienttest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// answerAccess answers about access files, accounts and sign-ins; false if a request is about something else. Of access
// files those that say "bad" have a fault, those that say "same" change nothing, those that say "alone" need force, and
// whoever compares those that say "late" is too late.
func (a *Appliance) answerAccess(r *http.Request) (status int, answer any, ok bool) {
	since := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	version := object{"version": 7, "created": since, "by": User, "comment": "db-2 is\x1b new", "hash": "sha256:00112233445566778899"}
	taken := object{"code": "E_ACCOUNT_TAKEN", "error": "there is an account of that name", "hint": "sallyport admin accounts lists them"}
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/v1/") {
	case "POST access":
		return a.applied(r)
	case "GET access":
		return 200, []object{version, {"version": 6, "created": since, "by": "root"}}, true
	case "GET access/active", "GET access/7":
		version["files"] = map[string][]byte{"access.yaml": []byte("admins: [ann]\n\tx\x1b\n")}
		return 200, version, true
	case "GET access/diff":
		if r.URL.Query().Get("from") == r.URL.Query().Get("to") {
			return 200, []object{}, true
		}
		return 200, []object{{"action": "removed", "kind": "target", "name": "db-2", "keys": []object{{"key": "address", "was": "10.0.0.1"}}}}, true
	case "GET accounts":
		return 200, []object{{"user": "ann", "source": "local", "groups": []string{"ops"}, "has": []string{"passkey", "password"}, "created": since},
			{"user": "bob", "source": "corp", "created": since, "disabled": since}}, true
	case "POST accounts":
		var ask struct {
			User   string
			Groups []string
		}
		if json.NewDecoder(r.Body).Decode(&ask); ask.User == "ann" {
			return 409, taken, true
		}
		return 200, object{"user": ask.User, "path": "/setup#c0de", "expires": since}, true
	case "POST accounts/bob/reset":
		return 200, object{"user": "bob", "path": "/setup#c0de", "expires": since}, true
	case "POST accounts/bob", "DELETE accounts/bob":
		return 200, object{}, true
	case "GET signins":
		if r.URL.Query().Get("user") == "bob" {
			return 200, []object{}, true
		}
		return 200, []object{{"id": "s1", "user": User, "device": "dev-1", "provider": "corp", "created": since, "expires": since}}, true
	case "POST signins/end":
		return 200, []object{{"id": "s1", "user": User, "device": "dev-1"}}, true
	}
	return 0, nil, false
}

// applied answers who applies access files, or goes back to a version.
func (a *Appliance) applied(r *http.Request) (status int, answer any, ok bool) {
	var ask struct {
		Files    map[string][]byte
		Rollback int64
		DryRun   bool `json:"dry_run"`
		Force    bool
		Expected int64
	}
	json.NewDecoder(r.Body).Decode(&ask)
	text := string(ask.Files["access.yaml"])
	plan := object{"version": 7, "changes": []object{}, "ends": []object{}}
	switch {
	case strings.Contains(text, "bad"):
		plan["faults"] = []string{"access.yaml:2:1: this is \x1bwrong"}
	case strings.Contains(text, "same"):
	case strings.Contains(text, "late") && !ask.DryRun:
		return 409, object{"code": "E_CONFLICT", "error": "somebody has changed the access files meanwhile", "hint": "run it again"}, true
	default:
		plan["changes"] = []object{{"action": "added", "kind": "target", "name": "db-2", "keys": []object{{"key": "address", "is": "10.0.0.1"}}},
			{"action": "changed", "kind": "rule", "name": "op\x1berators", "keys": []object{{"key": "targets", "was": "db-1", "is": "db-1, db-2"}, {"key": "idle", "is": "30m"}}}}
		plan["ends"] = []object{{"session": "a1a2a3a4a5a6a7a8a9b0b1b2b3b4b5b6", "user": "bob", "target": "db-1", "why": "the rules have changed"}}
	}
	if strings.Contains(text, "alone") {
		plan["needs_force"], plan["warnings"] = true, []string{"ann would be no administrator any more"}
	}
	if !ask.DryRun && ask.Expected == 7 {
		plan["taken"] = 8
	}
	return 200, plan, true
}
