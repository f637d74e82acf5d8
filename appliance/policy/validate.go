package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// validate checks a statement against the schema, and the names in it against access.yaml. The scope and each condition
// are checked by themselves, so that a fault has a place.
func (f *cedarFile) validate(s *statement, chunk policyText) {
	scope, conditions := chunk.conditions()
	bare := *s.parsed
	bare.Conditions = nil
	broken := f.judge(&bare, scope, nil)
	for _, id := range scopeEntities(s.parsed) {
		f.checkName(id, scope)
	}
	for i, c := range s.parsed.Conditions {
		text := chunk
		if i < len(conditions) {
			text = conditions[i]
		}
		one := bare
		one.Conditions = []ast.ConditionType{c}
		f.judge(&one, text, broken)
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				if id, ok := v.Value.(types.EntityUID); ok {
					f.checkName(id, text)
				}
			}
			return true
		})
	}
}

// judge notes what the validator says of p, without what it has said before, and returns all of that.
func (f *cedarFile) judge(p *ast.Policy, text policyText, before []string) (said []string) {
	for _, err := range flatten(validator.Policy("", p)) {
		if !slices.Contains(said, err.Error()) {
			said = append(said, err.Error())
		}
	}
	slices.Sort(said)  // the validator's own order changes from run to run
	if len(said) > 1 { // what is unknown fits nothing
		said = slices.DeleteFunc(said, func(s string) bool { return strings.HasPrefix(s, noActionFits) })
	}
	noted := make(map[yamlfile.Fault]bool)
	for _, message := range said {
		if slices.Contains(before, message) {
			continue
		}
		at, hint, message := explainFault(message, text)
		if note := (yamlfile.Fault{Line: at.Line, Column: at.Column, Message: message}); !noted[note] {
			noted[note] = true
			f.Fault(at, hint, "%s", message)
		}
	}
	return said
}

func flatten(err error) []error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	var all []error
	for _, e := range many.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

const noActionFits = "unable to find an applicable action"

var (
	noEntityType = regexp.MustCompile("^unrecognized entity type `(.*)`$")
	noAction     = regexp.MustCompile("^unrecognized action `Action::\"(.*)\"`$")
	noAttribute  = regexp.MustCompile("^attribute `(.*)` (in context|on entity types? `?([A-Za-z]*)`?).* not found$")
	mayBeMissing = regexp.MustCompile("^unable to guarantee safety of access to optional attribute `(.*)` in context")
	wrongType    = regexp.MustCompile("^unexpected type: expected (.*) but saw (.*)$")
)

// explainFault says in our words, with a place and a hint, what the validator says in its own.
func explainFault(message string, text policyText) (at yamlfile.Position, hint, words string) {
	match := func(r *regexp.Regexp) []string { return r.FindStringSubmatch(message) }
	switch {
	case match(noEntityType) != nil:
		name := match(noEntityType)[1]
		first, _, _ := strings.Cut(name, "::")
		return text.find(first), spell.DidYouMean(name, entityTypes(), "known are "+strings.Join(entityTypes(), ", ")), fmt.Sprintf("there is no entity type %q", name)
	case match(noAction) != nil:
		name := match(noAction)[1]
		known := append([]string{use}, actions...)
		return text.find(`"` + name + `"`), spell.DidYouMean(name, known, "known are "+strings.Join(known, ", ")), fmt.Sprintf("there is no action %q", name)
	case match(noAttribute) != nil:
		m := match(noAttribute)
		last := m[1][strings.LastIndex(m[1], ".")+1:]
		of, known := m[3], attributesOf(types.EntityType(m[3]))
		if m[2] == "in context" {
			of, known = "context", append(slices.Sorted(maps.Keys(contextFacts)), timeAttributes...)
		}
		hint := spell.DidYouMean(last, toStrings(known), "known are "+strings.Join(toStrings(known), ", "))
		switch {
		case slices.Contains(timeAttributes, types.String(last)):
			hint = "write context.time." + last
		case slices.Contains(known, types.String(last)):
			hint = `say what it is about, such as action in Action::"use" or resource is Target`
		}
		return text.find(last, `"`+last+`"`), hint, fmt.Sprintf("%s has no attribute %q here", of, last)
	case match(mayBeMissing) != nil:
		name := match(mayBeMissing)[1]
		return text.find(name), fmt.Sprintf("write context has %s && before it", name), fmt.Sprintf("context.%s may be missing", name)
	case match(wrongType) != nil:
		m := match(wrongType)
		return text.tokens[0].at, "", fmt.Sprintf("there is %s where %s must be", typeWords(m[2]), typeWords(m[1]))
	case strings.HasPrefix(message, noActionFits):
		return text.tokens[0].at, "connect and what goes with it is done by User to Target and Address, admin and bench to Appliance",
			"no action fits both the principal and the resource"
	}
	if strings.HasSuffix(message, " are not compatible") {
		hint = "say what it is about, such as resource is Target"
	}
	return text.tokens[0].at, hint, message
}

// typeWords puts a type of the validator's into words.
func typeWords(t string) string {
	t = strings.ReplaceAll(t, "__cedar::internal::AnyEntity", "an entity")
	t = strings.ReplaceAll(t, "__cedar::internal::OpenRecord{}", "a record")
	return strings.ReplaceAll(t, "__cedar::internal::Any", "anything")
}

// timeAttributes are those of context.time.
var timeAttributes = []types.String{"hour", "minute", "weekday", "date"}

func entityTypes() (names []string) {
	for name := range resolvedSchema.Entities {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

func attributesOf(t types.EntityType) []types.String {
	return slices.Sorted(maps.Keys(resolvedSchema.Entities[t].Shape))
}

func toStrings[T ~string](from []T) []string {
	to := make([]string, len(from))
	for i, s := range from {
		to[i] = string(s)
	}
	return to
}

// scopeEntities lists the entities that principal and resource are compared with.
func scopeEntities(p *ast.Policy) (ids []types.EntityUID) {
	for _, scope := range []ast.IsScopeNode{p.Principal, p.Resource} {
		switch s := scope.(type) {
		case ast.ScopeTypeEq:
			ids = append(ids, s.Entity)
		case ast.ScopeTypeIn:
			ids = append(ids, s.Entity)
		case ast.ScopeTypeIsIn:
			ids = append(ids, s.Entity)
		}
	}
	return ids
}

// checkName wants an entity to be one that can be: a slip in a name would make a permit deny and a forbid allow, in
// silence.
func (f *cedarFile) checkName(id types.EntityUID, text policyText) {
	name := string(id.ID)
	at := text.find(`"` + name + `"`)
	switch id.Type {
	case typeGroup:
		f.names.checkGroup(f.File, name, at)
	case typeTarget:
		f.names.checkTarget(f.File, name, at)
	case typeVNet:
		f.names.checkVNet(f.File, name, at)
	case typeUser:
		checkUser(f.File, name, at)
	case typeLabel:
		if key, value, ok := strings.Cut(name, "="); !ok || !isPlain(key, 64) || !isPlain(value, 256) {
			f.Fault(at, `such as Label::"env=prod"`, "%q is not a label", name)
		}
	case typeAddress:
		if addr, err := netip.ParseAddr(name); err != nil || addr.String() != name || addr.Unmap() != addr || addr.Zone() != "" {
			f.Fault(at, cmp.Or(plainSpelling(addr), `such as Address::"10.0.7.12"`), "%q is not an address in its plain spelling", name)
		}
	case typeAppliance:
		if id != thisAppliance {
			f.Fault(at, `write Appliance::"this"`, "there is no appliance %q", name)
		}
	}
}

func plainSpelling(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return "write " + addr.Unmap().WithZone("").String()
}
