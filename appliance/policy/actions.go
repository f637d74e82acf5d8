package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// What people can do, as policies name it.
const (
	Connect      = "connect"
	ClipboardIn  = "clipboard_in"
	ClipboardOut = "clipboard_out"
	Upload       = "upload"
	Download     = "download"
	Drive        = "drive"
	RecordExempt = "record_exempt" // from the recording that a policy demands
	ViewSession  = "view_session"
	KillSession  = "kill_session"
	Admin        = "admin"
	// Bench is an action, and the protocol of the appliance's own service, by which people measure their way to it:
	// nothing is dialled, and no rule about targets concerns it.
	Bench = "bench"
)

// use is the group of actions that holds connect and the channels.
const use = "use"

// channels lists what flows through the connections of a protocol beside the keyboard and the screen. An ssh or a tcp
// connection carries files as soon as it carries anything, and what runs in a terminal can set the clipboard of who looks on.
var channels = map[string][]string{
	SSH: {ClipboardIn, ClipboardOut, Upload, Download},
	RDP: {ClipboardIn, ClipboardOut, Upload, Download, Drive},
	TCP: {Upload, Download},
}

// actions lists all, in the order of their bits in an actionSet.
var actions = []string{Connect, ClipboardIn, ClipboardOut, Upload, Download, Drive, RecordExempt, ViewSession, KillSession, Admin, Bench}

// An actionSet is the actions that a policy is about.
type actionSet uint16

const (
	anyAction   actionSet = 1<<11 - 1
	usesTargets actionSet = 1<<6 - 1           // the members of use
	onTargets             = usesTargets | 1<<6 // with record_exempt
)

func actionBit(name string) actionSet {
	if name == use {
		return usesTargets
	}
	if i := slices.Index(actions, name); i >= 0 {
		return 1 << i
	}
	return 0
}

// actionsOf returns the actions that fit the scope.
func actionsOf(scope ast.IsActionScopeNode) (set actionSet) {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		if s.Entity.ID != use {
			set = actionBit(string(s.Entity.ID))
		}
	case ast.ScopeTypeIn:
		set = actionBit(string(s.Entity.ID))
	case ast.ScopeTypeInSet:
		for _, e := range s.Entities {
			set |= actionBit(string(e.ID))
		}
	default:
		set = anyAction
	}
	return set
}

// names lists the actions of the set.
func (s actionSet) names() (names []string) {
	for i, name := range actions {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func actionUID(name string) types.EntityUID { return uid(typeAction, name) }
