package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // an image has no zones of its own

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// Names are what access.yaml defines and anything may refer to.
type names struct {
	groups  map[string][]string
	targets map[string]bool
	vnets   []string // all that are known, sorted
	zone    *time.Location
	unread  bool // access.yaml could not be read: nothing is known of its names
}

func (n *names) checkGroup(f *yamlfile.File, group string, at yamlfile.Position) {
	if _, known := n.groups[group]; !known && !n.unread {
		f.Fault(at, spell.DidYouMean(group, slices.Sorted(maps.Keys(n.groups)), "add it under groups"), "there is no group %q", group)
	}
}

func (n *names) checkTarget(f *yamlfile.File, target string, at yamlfile.Position) {
	if !n.targets[target] && !n.unread {
		f.Fault(at, spell.DidYouMean(target, slices.Sorted(maps.Keys(n.targets)), "add it under targets"), "there is no target %q", target)
	}
}

func (n *names) checkVNet(f *yamlfile.File, vnet string, at yamlfile.Position) {
	switch {
	case !word.MatchString(vnet):
		f.Fault(at, "", "vnet name %q must be 1 to 32 of a-z, 0-9 and -", vnet)
	case !slices.Contains(n.vnets, vnet) && !n.unread:
		f.Fault(at, spell.DidYouMean(vnet, n.vnets, "the daemon has "+strings.Join(n.vnets, ", ")), "there is no vnet %q", vnet)
	}
}

func checkUser(f *yamlfile.File, user string, at yamlfile.Position) {
	if !userName.MatchString(user) {
		f.Fault(at, "", "user name %q must be 1 to 64 of a-z, 0-9, dot, dash, _ and @", user)
	}
}

// zoneOf reads the name of a time zone. The zone of the machine is none: a policy means the same on every appliance.
func zoneOf(f *yamlfile.File, name, what string, at yamlfile.Position) (*time.Location, bool) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || strings.EqualFold(name, "local") {
		f.Fault(at, "such as Europe/Berlin or UTC", "%s is %q, which is not a time zone", what, name)
		return nil, false
	}
	return zone, true
}
