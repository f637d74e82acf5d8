package appliance

import (
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// as opens a flow of somebody and waits until it moves.
func (s *site) as(user, device string) *frame.Stream {
	s.t.Helper()
	before := s.peer
	s.peer.User, s.peer.Device = user, device
	f, _, err := s.open(frame.OpenRequest{Target: "db-1", Protocol: "ssh"})
	s.peer = before
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(f, make([]byte, 14)); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func TestSessions(t *testing.T) {
	s := newSite(t)
	s.target("10.0.0.5:22", echo)
	ann, bob := frame.Peer{User: "ann"}, frame.Peer{User: "bob"}
	for _, user := range []string{"ann", "bob", "bob"} {
		defer s.as(user, "dev-"+user).Close()
	}
	for _, c := range []struct {
		who   frame.Peer
		all   bool
		users string
	}{{ann, false, "ann"}, {ann, true, "ann bob bob"}, {bob, false, "bob bob"}, {bob, true, "bob bob"}} {
		list, err := s.sessions(c.who, c.all)
		var users []string
		for _, l := range list {
			users = append(users, l.User)
		}
		if got := strings.Join(users, " "); got != c.users || err != nil {
			t.Errorf("%s sees, all %t, the sessions of %q, %v; want %q", c.who.User, c.all, got, err, c.users)
		}
	}
	list, _ := s.sessions(ann, false)
	l := list[0]
	if b, err := hex.DecodeString(l.ID); err != nil || len(b) != 16 || l.Address != "10.0.0.5" || l.Rule != "operators" || l.Port != 22 || l.Device != "dev-ann" ||
		l.Source != "192.0.2.1" || time.Until(l.Ends) > time.Hour || l.Ends.IsZero() || l.Idle < 0 || l.Idle > time.Hour {
		t.Errorf("listed as %+v", l)
	}
}

func TestEndSessions(t *testing.T) {
	ann, bob := frame.Peer{User: "ann"}, frame.Peer{User: "bob"} // ann is an administrator
	for name, c := range map[string]struct {
		who      frame.Peer
		ask      func(ofAnn, ofBob string) api.EndSessions
		code     frame.Code // why nothing ends
		ends     string     // whose sessions
		sentence string     // that they are told
	}{
		"own, by id":             {bob, func(_, b string) api.EndSessions { return api.EndSessions{Sessions: []string{b[:12]}} }, "", "bob", "you have ended this session"},
		"own, by user":           {bob, func(_, _ string) api.EndSessions { return api.EndSessions{User: "bob"} }, "", "bob", "you have ended this session"},
		"own, to a target":       {bob, func(_, _ string) api.EndSessions { return api.EndSessions{User: "bob", Target: "named"} }, "", "", ""},
		"another's, by id":       {bob, func(a, _ string) api.EndSessions { return api.EndSessions{Sessions: []string{a}} }, "E_SESSION_UNKNOWN", "", ""},
		"another's, by user":     {bob, func(_, _ string) api.EndSessions { return api.EndSessions{User: "ann"} }, "", "", ""},
		"everybody's, by target": {bob, func(_, _ string) api.EndSessions { return api.EndSessions{Target: "db-1"} }, "", "bob", "you have ended this session"},
		"nobody's":               {bob, func(_, _ string) api.EndSessions { return api.EndSessions{Sessions: []string{strings.Repeat("0", 32)}} }, "E_SESSION_UNKNOWN", "", ""},
		"too short an id":        {ann, func(_, b string) api.EndSessions { return api.EndSessions{Sessions: []string{b[:11]}} }, "E_SESSION_UNKNOWN", "", ""},
		"nothing named":          {ann, func(_, _ string) api.EndSessions { return api.EndSessions{} }, "E_USAGE", "", ""},
		"both forms":             {ann, func(_, b string) api.EndSessions { return api.EndSessions{Sessions: []string{b}, User: "bob"} }, "E_USAGE", "", ""},
		"one good, one bad":      {ann, func(_, b string) api.EndSessions { return api.EndSessions{Sessions: []string{b, "000000000000"}} }, "E_SESSION_UNKNOWN", "", ""},
		"administrator, by id": {ann, func(_, b string) api.EndSessions {
			return api.EndSessions{Sessions: []string{b}, Why: "the laptop\x1b[2J is lost"}
		}, "", "bob", "an administrator has ended this session: the laptop?[2J is lost"},
		"administrator, by a second rule that allows it too": {ann, func(_, _ string) api.EndSessions { return api.EndSessions{Rule: "anybody"} }, "", "bob", "an administrator has ended this session"},
		"administrator, by rule":                             {ann, func(_, _ string) api.EndSessions { return api.EndSessions{Rule: "operators"} }, "", "ann bob", "ended this session"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.SetPolicy(s.parse(siteAccess + "  - {name: anybody, who: [bob], targets: [db-1], protocols: [ssh]}\n"))
			s.target("10.0.0.5:22", echo)
			flows := map[string]*frame.Stream{"ann": s.as("ann", "dev-1"), "bob": s.as("bob", "dev-2")}
			ids := map[string]string{}
			all, _ := s.sessions(ann, true)
			for _, l := range all {
				ids[l.User] = l.ID
			}
			ended, err := s.endSessions(c.who, c.ask(ids["ann"], ids["bob"]))
			if codeOf(err) != c.code || len(ended) != len(strings.Fields(c.ends)) {
				t.Errorf("ended %+v, %v; want %q", ended, err, c.code)
			}
			for user, f := range flows {
				if !strings.Contains(c.ends, user) {
					f.CloseWrite() // so that it ends in order
				}
				_, err := io.ReadAll(f)
				if strings.Contains(c.ends, user) {
					if reason, _ := frame.ReasonOf(err); reason.Code != "E_KILLED" || !strings.Contains(reason.Sentence, c.sentence) {
						t.Errorf("%s is told %+v", user, reason)
					}
				} else if err != nil {
					t.Errorf("the session of %s ended with %v", user, err)
				}
				f.Close()
			}
		})
	}
}

// TestMessageSessions: who may end a session may tell it a line, which its client hears at once, or once it has a connection.
func TestMessageSessions(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(siteAccess, watchers))
	s.target("10.0.0.5:22", echo)
	bob := s.peer
	bob.User, bob.Device = "bob", "dev-2"
	v := s.travel(bob)
	defer v.stream.Close()
	id := hex.EncodeToString(v.opened.Session)
	for _, c := range []struct {
		who, text string
		code      frame.Code
		hears     string
	}{
		{"ann", " restart at noon ", "", "message from ann: restart at noon"},
		{"kim", "und danach Käse", "", "message from kim: und danach Käse"},
		{"bob", "a note to myself", "", "message from bob: a note to myself"},
		{"wes", "who may only look", "E_SESSION_UNKNOWN", ""},
		{"lea", "who may nothing", "E_SESSION_UNKNOWN", ""},
		{"ann", "", "E_USAGE", ""},
		{"ann", " ", "E_USAGE", ""},
		{"ann", "two\nlines", "E_USAGE", ""},
		{"ann", "\x1b[2J", "E_USAGE", ""},
		{"ann", strings.Repeat("x", maxMessage+1), "E_USAGE", ""},
	} {
		told, err := s.messageSessions(frame.Peer{User: c.who, Device: "dev-of-" + c.who}, api.MessageSessions{Sessions: []string{id[:12]}, Text: c.text})
		if codeOf(err) != c.code || (len(told) == 1) != (c.hears != "") {
			t.Errorf("%s says %q: %+v, %v", c.who, c.text, told, err)
		}
		if c.hears != "" {
			if got := <-v.heard; got != c.hears {
				t.Errorf("bob hears %q, want %q", got, c.hears)
			}
		}
	}
	if _, err := s.messageSessions(bob, api.MessageSessions{Text: "to nobody"}); codeOf(err) != "E_USAGE" {
		t.Errorf("a message for no session: %v", err)
	}
	v.lose()
	if _, err := s.messageSessions(frame.Peer{User: "ann"}, api.MessageSessions{Sessions: []string{id}, Text: "come back"}); err != nil {
		t.Error(err)
	}
	if err := v.resume(); err != nil {
		t.Fatal(err)
	}
	if got := <-v.heard; got != "message from ann: come back" {
		t.Errorf("who is back hears %q", got)
	}
	var written []string
	for _, e := range s.book.all() {
		if e.Kind == audit.SessionMessage && e.User == "bob" && e.Session == id {
			written = append(written, e.By+": "+e.Why)
		}
	}
	if got := strings.Join(written, "; "); got != "ann: restart at noon; kim: und danach Käse; bob: a note to myself; ann: come back" {
		t.Errorf("the audit log has %q", got)
	}
}

// TestWatchers: who may watch sessions sees those that the policy says and ends none; who may end them does not see them;
// neither administers.
func TestWatchers(t *testing.T) {
	s := newSite(t)
	s.SetPolicy(s.parse(siteAccess, watchers))
	s.target("10.0.0.5:22", echo)
	flows := map[string]*frame.Stream{"db-1": s.as("bob", "dev-2")}
	f, _, err := s.open(frame.OpenRequest{Target: "named", Protocol: "ssh"}) // of ann's
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flows["named"] = f
	ids := map[string]string{}
	all, _ := s.sessions(frame.Peer{User: "ann"}, true)
	for _, l := range all {
		ids[l.Target] = l.ID
	}
	if len(ids) != 2 {
		t.Fatalf("ann sees %+v", all)
	}
	for who, want := range map[string]string{"wes": "bob to db-1", "kim": "", "lea": ""} {
		p := frame.Peer{User: who, Device: "dev-of-" + who}
		list, err := s.sessions(p, true)
		var seen []string
		for _, l := range list {
			seen = append(seen, l.User+" to "+l.Target)
		}
		if got := strings.Join(seen, ", "); got != want || err != nil {
			t.Errorf("%s sees %q, %v; want %q", who, got, err, want)
		}
		if list, _ := s.sessions(p, false); len(list) != 0 {
			t.Errorf("%s has %+v", who, list)
		}
		if s.isAdmin(p) {
			t.Errorf("%s administers", who)
		}
		if _, err := s.endSessions(p, api.EndSessions{Sessions: []string{ids["named"]}}); codeOf(err) != "E_SESSION_UNKNOWN" {
			t.Errorf("%s ends the session to named: %v", who, err)
		}
		if who == "kim" {
			continue
		}
		if _, err := s.endSessions(p, api.EndSessions{Sessions: []string{ids["db-1"]}}); codeOf(err) != "E_SESSION_UNKNOWN" {
			t.Errorf("%s ends bob's session: %v", who, err)
		}
		if ended, err := s.endSessions(p, api.EndSessions{User: "bob"}); len(ended) != 0 || err != nil {
			t.Errorf("%s ends %+v, %v", who, ended, err)
		}
	}
	kim := frame.Peer{User: "kim", Device: "dev-of-kim"}
	if ended, err := s.endSessions(kim, api.EndSessions{Rule: "operators", Why: "maintenance"}); len(ended) != 1 || ended[0].ID != ids["db-1"] || err != nil {
		t.Errorf("kim ends %+v, %v", ended, err)
	}
	_, err = io.ReadAll(flows["db-1"])
	if reason, _ := frame.ReasonOf(err); reason.Code != "E_KILLED" || reason.Sentence != "an administrator has ended this session: maintenance" {
		t.Errorf("bob is told %+v", reason)
	}
	flows["db-1"].Close()
	speak(t, f, "SSH-2.0-still\r\n")

	// A device of kim's with a scope may not.
	scoped := frame.Peer{User: "kim", Device: s.robot("kim", auth.Scope{Targets: []string{"db-1"}})}
	bobs := s.as("bob", "dev-2")
	defer bobs.Close()
	if ended, err := s.endSessions(scoped, api.EndSessions{Target: "db-1"}); len(ended) != 0 || err != nil {
		t.Errorf("kim's robot ends %+v, %v", ended, err)
	}
}
