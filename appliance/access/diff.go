package access

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport/appliance/policy"
)

// What may become of a thing.
const (
	Added   = "added"
	Changed = "changed"
	Removed = "removed"
)

// A Change is a thing that is not the same in two versions.
type Change struct {
	Action string // Added, Changed or Removed
	Kind   string
	Name   string
	Keys   []KeyChange // what is said differently; all, of what was added or removed
}

// A KeyChange is a key of a thing with what it says, empty where it does not.
type KeyChange struct{ Key, Was, Is string }

func (c Change) String() string { return fmt.Sprintf("%s %s %s", c.Action, c.Kind, c.Name) }

// Diff compares two versions by what they speak of. Changes come by kind and name.
func Diff(was, is []policy.Thing) (changes []Change) {
	type key struct{ kind, name string }
	before := map[key]policy.Thing{}
	for _, t := range was {
		before[key{t.Kind, t.Name}] = t
	}
	for _, t := range is {
		k := key{t.Kind, t.Name}
		old, known := before[k]
		delete(before, k)
		switch keys := diffKeys(old.Says, t.Says); {
		case !known:
			changes = append(changes, Change{Added, t.Kind, t.Name, keys})
		case len(keys) > 0:
			changes = append(changes, Change{Changed, t.Kind, t.Name, keys})
		}
	}
	for k, t := range before {
		changes = append(changes, Change{Removed, k.kind, k.name, diffKeys(t.Says, nil)})
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	return changes
}

// kinds in the order in which they are shown.
var kinds = []string{policy.KindSetting, policy.KindTarget, policy.KindGroup, KindAccount, policy.KindRule, policy.KindPolicy, policy.KindTest}

func diffKeys(was, is map[string]string) (keys []KeyChange) {
	all := maps.Clone(was)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, is)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if was[k] != is[k] {
			keys = append(keys, KeyChange{k, was[k], is[k]})
		}
	}
	return keys
}

// maxSummary bounds a summary, in bytes.
const maxSummary = 500

// Summary says in one line what has changed.
func Summary(changes []Change) string {
	if len(changes) == 0 {
		return "nothing that counts has changed"
	}
	var parts []string
	for _, action := range []string{Added, Changed, Removed} {
		var names []string
		for _, c := range changes {
			if c.Action == action {
				names = append(names, c.Kind+" "+c.Name)
			}
		}
		if len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s: %s", len(names), action, strings.Join(names, ", ")))
		}
	}
	text := strings.Join(parts, "; ")
	if len(text) > maxSummary {
		return strings.ToValidUTF8(text[:maxSummary-len("…")], "") + "…"
	}
	return text
}
