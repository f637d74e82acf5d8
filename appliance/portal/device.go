package portal

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"sallyport/appliance/api"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/signin"
)

var b64 = base64.RawURLEncoding

// ask reads the body of a command's request.
func ask(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		answer(w, http.StatusBadRequest, api.Failure{Code: "E_USAGE", Sentence: fmt.Sprintf("the request does not parse: %v", err), Hint: "command and appliance may be of different versions"})
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func failure(w http.ResponseWriter, err error) {
	e := told(err)
	answer(w, statusOf(e), api.Failure{Code: e.Code, Sentence: e.Sentence, Hint: e.Hint})
}

// NoSignIn tells a command that nobody signs in here.
func NoSignIn(w http.ResponseWriter) {
	answer(w, http.StatusNotFound, api.Failure{Code: "E_NO_SIGN_IN", Sentence: "this appliance enrols devices with codes", Hint: "ask an administrator for a code"})
}

// startLogin begins a login for a command's device.
func (p *portal) startLogin(w http.ResponseWriter, r *http.Request) {
	var in api.LoginStart
	if !ask(w, r, &in) {
		return
	}
	key, err := b64.DecodeString(in.Key)
	if err != nil || len(key) != 32 {
		failure(w, signin.ErrProof)
		return
	}
	started, err := p.Service.Start(r.Context(), signin.Start{Key: key, Name: in.Name, Platform: in.Platform, Source: source(r)})
	if err != nil {
		failure(w, err)
		return
	}
	answer(w, http.StatusCreated, api.LoginStarted{ID: started.ID, Code: started.Code, Path: started.Path, Interval: int(started.Interval.Seconds()), Expires: started.Expires.UTC()})
}

// pollLogin tells a command how far its login is, and enrols its device when that is confirmed.
func (p *portal) pollLogin(w http.ResponseWriter, r *http.Request) {
	var in api.LoginPoll
	if !ask(w, r, &in) {
		return
	}
	signature, err := b64.DecodeString(in.Signature)
	if err != nil {
		failure(w, signin.ErrProof)
		return
	}
	e, err := p.Service.Poll(r.Context(), signin.Poll{ID: in.ID, Counter: in.Counter, Signature: signature})
	var device auth.Device
	switch {
	case err == nil && e == nil:
		answer(w, http.StatusOK, api.LoginState{State: "waiting"})
		return
	case err == nil:
		device, err = p.Enrol(r.Context(), *e)
	}
	if err != nil {
		if e != nil { // somebody had confirmed it
			p.Refused(e.Person.User, source(r), err)
		}
		failure(w, err)
		return
	}
	answer(w, http.StatusOK, api.LoginState{State: "enrolled", User: device.User, Device: device.ID})
}
