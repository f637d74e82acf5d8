package appliance

import (
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
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
