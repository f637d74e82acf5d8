package clienttest

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"sallyport/appliance/api"
	"sallyport/client"
)

// login is a device that waits for a person.
type login struct {
	api.LoginStart
	key   []byte
	polls uint64
}

// signIn answers about logins; false if a request is about something else.
func (a *Appliance) signIn(w http.ResponseWriter, r *http.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	reply := func(status int, v any) bool {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
		return true
	}
	no := func(code, sentence string) bool { return reply(403, api.Failure{Code: code, Sentence: sentence}) }
	switch r.Method + " " + r.URL.Path {
	case "POST /api/v1/login":
		l := &login{}
		if json.NewDecoder(r.Body).Decode(&l.LoginStart) != nil {
			return no("E_USAGE", "that is no login")
		}
		l.key, _ = base64.RawURLEncoding.DecodeString(l.Key)
		a.logins = append(a.logins, l)
		return reply(201, api.LoginStarted{ID: fmt.Sprint(len(a.logins) - 1), Code: "BCDF-GHJK", Path: "/login#BCDF-GHJK", Interval: 1, Expires: time.Now().Add(a.config.Ahead + 10*time.Minute)})
	case "POST /api/v1/login/poll":
		var p api.LoginPoll
		var n int
		if json.NewDecoder(r.Body).Decode(&p) != nil {
			return no("E_USAGE", "that is no poll")
		}
		if _, err := fmt.Sscan(p.ID, &n); err != nil || n >= len(a.logins) {
			return no("E_LOGIN_UNKNOWN", "this login is not known here")
		}
		l := a.logins[n]
		if l.Name == "cut" && p.Counter == 1 {
			panic(http.ErrAbortHandler) // without an answer
		}
		signature, _ := base64.RawURLEncoding.DecodeString(p.Signature)
		if len(l.key) != ed25519.PublicKeySize || !ed25519.Verify(l.key, client.PollMessage(p.ID, p.Counter), signature) || p.Counter <= l.polls {
			return no("E_LOGIN_PROOF", "the device has not proved its key")
		}
		l.polls = p.Counter
		switch {
		case l.Name == "denied":
			return no("E_LOGIN_DENIED", "the login was denied in the browser")
		case l.polls < 2:
			return reply(200, api.LoginState{State: "waiting"})
		}
		d := &device{ID: fmt.Sprintf("dev-%d", len(a.devices)+1), Name: l.Name}
		a.devices[string(l.key)] = d
		return reply(200, api.LoginState{State: "enrolled", User: User, Device: d.ID})
	}
	return false
}
