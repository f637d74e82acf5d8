package appliance

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// allows says whether the policy lets a person do something that is not a flow. A device with a scope may not, whatever the
// policy.
func (g *Gateway) allows(action string, p frame.Peer, target, vnet string) bool {
	return g.allowsBy(g.policy.Load(), action, p, target, vnet)
}

// allowsBy is allows by a policy that need not be in force.
func (g *Gateway) allowsBy(rules *policy.Policy, action string, p frame.Peer, target, vnet string) bool {
	if g.scoped(p) {
		return false
	}
	r := g.requestOf(p, time.Now())
	r.Target, r.VNet = target, vnet
	_, err := rules.Allows(action, r)
	return err == nil
}

func (g *Gateway) isAdmin(p frame.Peer) bool { return g.allows(policy.Admin, p, "", "") }

// mayWith returns a function that says whether a person may do something with sessions of others, and remembers it by the
// target.
func (g *Gateway) mayWith(action string, p frame.Peer) func(*flow) bool {
	known := map[[2]string]bool{}
	return func(f *flow) bool {
		key := [2]string{f.grant.VNet, f.grant.Target}
		may, asked := known[key]
		if !asked {
			may = g.allows(action, p, f.grant.Target, f.grant.VNet)
			known[key] = may
		}
		return may
	}
}

// sessions lists the caller's sessions, or all that the caller may see.
func (g *Gateway) sessions(p frame.Peer, all bool) ([]api.Session, error) {
	list := []api.Session{}
	may := g.mayWith(policy.ViewSession, p)
	g.live.each(func(f *flow) {
		if f.isOf(p) || all && may(f) {
			list = append(list, f.listed())
		}
	})
	slices.SortFunc(list, func(a, b api.Session) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// isOf says whether the flow is somebody's own, or that of a guest whom they have let in.
func (f *flow) isOf(p frame.Peer) bool {
	return f.gateway.owns(p, f.peer.User, f.peer.Device) || p.User == f.gateway.hostOf(f.peer.Device) && !f.gateway.scoped(p)
}

// listed is the flow's session as the API shows it.
func (f *flow) listed() api.Session {
	now := f.latest()
	l := api.Session{ID: f.sessionID(), Flow: hex.EncodeToString(f.id[:6]), User: f.peer.User, Device: f.peer.Device,
		Target: f.grant.Target, VNet: f.grant.VNet, Protocol: f.grant.Protocol, Program: f.open.Program, Port: f.grant.Port, Rule: f.grant.Rule,
		Transport: now.Transport, Source: now.Remote.Addr().String(), Client: frame.Clip(now.Software, 64), Since: f.begun.UTC(),
		IdleLimit: f.grant.Idle, Ends: f.grant.Expires, Bandwidth: f.grant.Bandwidth}
	if link, guest := f.gateway.linkOf(f.peer.Device); guest {
		l.GuestOf, l.Link = link.Maker, link.ID
	}
	if addr := f.addr.Load(); addr != nil {
		l.Address = addr.Addr().String()
	}
	if s := f.stream.Load(); s != nil {
		s.Probe() // for who asks again
		v := s.Vitals()
		l.Attached, l.Up, l.Down, l.RTT, l.Detached = v.Attached, v.Taken, v.Acked, v.RTT, v.Detached
		if v.Attached > 1 {
			resumed, gap, why := f.lastResumed()
			l.Resumed, l.Gap, l.Why = resumed, gap, why.String()
		}
		if v.Lost != nil {
			l.Lost = v.Lost.Error()
		}
	}
	if r := f.relay.Load(); r != nil {
		l.Idle = r.Quiet()
	}
	return l
}

// maxEnd bounds how many sessions are named at once by their ids.
const maxEnd = 256

// minSessionID is how much of a session's id names it: the lists show so many characters.
const minSessionID = 12

// endSessions ends sessions for good: those that an id names, or all of a person, to a target, by a rule that the caller may
// end. What a caller may not end is as unknown as what there is not.
func (g *Gateway) endSessions(p frame.Peer, ask api.EndSessions) ([]api.Session, error) {
	chosen, err := g.choose(p, ask)
	if err != nil {
		return nil, err
	}
	ended := []api.Session{}
	for _, f := range chosen {
		ended = append(ended, f.listed())
		f.log(slog.LevelInfo, "session killed", "by", p.User, "why", frame.Clip(ask.Why, 255))
		e := f.event(audit.SessionKilled)
		e.By, e.Why = p.User, frame.Clip(ask.Why, 255)
		g.record(e)
		f.end(killed(p.User == f.peer.User, ask.Why))
	}
	return ended, nil
}

// maxMessage bounds what somebody may say to a session, in bytes.
const maxMessage = 255

// messageSessions tells those to whom sessions belong a line, and who says it. Who may end a session may; a session that has
// no connection hears of it when it has one again. The answer lists those that are told.
func (g *Gateway) messageSessions(p frame.Peer, ask api.MessageSessions) ([]api.Session, error) {
	text := strings.TrimSpace(ask.Text)
	if text == "" || text != frame.Clip(text, maxMessage) {
		return nil, frame.Refuse("E_USAGE", fmt.Sprintf("a message is one line of at most %d bytes that print", maxMessage), "")
	}
	chosen, err := g.choose(p, api.EndSessions{Sessions: ask.Sessions})
	if err != nil {
		return nil, err
	}
	told := []api.Session{}
	for _, f := range chosen {
		s := f.stream.Load()
		if s == nil {
			continue // it is being opened, and nobody works in it yet
		}
		f.log(slog.LevelInfo, "session told", "by", p.User, "text", text)
		e := f.event(audit.SessionMessage)
		e.By, e.Why = p.User, text
		g.recordOf(p.User, e)
		s.Notify(frame.Notice{Text: fmt.Sprintf("message from %s: %s", p.User, text)})
		told = append(told, f.listed())
	}
	return told, nil
}

// choose finds the flows that a caller wants to end or to tell something, and may.
func (g *Gateway) choose(p frame.Peer, ask api.EndSessions) (chosen []*flow, err error) {
	many := ask.User != "" || ask.Target != "" || ask.Rule != ""
	switch {
	case many && len(ask.Sessions) > 0:
		return nil, frame.Refuse("E_USAGE", "ids do not go with --user, --target and --rule", "give one or the other")
	case !many && len(ask.Sessions) == 0:
		return nil, frame.Refuse("E_USAGE", "no session is named", "sallyport sessions lists them")
	}
	var mine []*flow
	may := g.mayWith(policy.KillSession, p)
	g.live.each(func(f *flow) {
		if f.isOf(p) || may(f) {
			mine = append(mine, f)
		}
	})
	if many {
		return slices.DeleteFunc(mine, func(f *flow) bool {
			return ask.User != "" && f.peer.User != ask.User || ask.Target != "" && f.grant.Target != ask.Target || ask.Rule != "" && !f.allowedBy(ask.Rule)
		}), nil
	}
	if len(ask.Sessions) > maxEnd {
		return nil, frame.Refuse("E_USAGE", fmt.Sprintf("at most %d sessions can be named at once by their ids", maxEnd), "")
	}
	for _, id := range ask.Sessions {
		found := slices.DeleteFunc(slices.Clone(mine), func(f *flow) bool { return !strings.HasPrefix(hex.EncodeToString(f.session[:]), id) })
		other := func(f *flow) bool { return f.session != found[0].session }
		if len(id) < minSessionID || len(found) == 0 || slices.ContainsFunc(found, other) {
			return nil, frame.Refuse("E_SESSION_UNKNOWN", fmt.Sprintf("no session %q that you may end", frame.Clip(id, 32)), "sallyport sessions lists them")
		}
		for _, f := range found { // of a program's session there may be several
			if !slices.Contains(chosen, f) {
				chosen = append(chosen, f)
			}
		}
	}
	return chosen, nil
}

// allowedBy says whether a rule is among those that allow the flow.
func (f *flow) allowedBy(rule string) bool {
	decided := f.decided.Load()
	return f.grant.Rule == rule || decided != nil && slices.Contains(decided.policies, rule)
}

// killed says why a session ended that somebody has ended.
func killed(own bool, why string) error {
	sentence := "an administrator has ended this session"
	if own {
		sentence = "you have ended this session"
	}
	if why = frame.Clip(strings.TrimSpace(why), 255); why != "" {
		sentence += ": " + why
	}
	return frame.Refuse("E_KILLED", sentence, "")
}
