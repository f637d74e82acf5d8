package policy

import (
	"regexp"
	"slices"
	"strings"

	"sallyport/appliance/policy/yamlfile"
)

// principalForm is a user's name on a target, or what a target's AuthorizedPrincipalsFile has in place of one. A comma
// would be two of them in what people see.
var principalForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@/+-]{0,127}$`)

// Placeholders in principals.
var principalWords = strings.NewReplacer("{user}", "x", "{target}", "x")

func (names) checkPrincipal(f *yamlfile.File, principal string, at yamlfile.Position) {
	if !principalForm.MatchString(principalWords.Replace(principal)) {
		f.Fault(at, `such as root, "{user}" or "root@{target}"`, "principal %q must be 1 to 128 letters, digits and . _ @ / + -", principal)
	}
}

// common is what of the grant's principals a further statement leaves: all of them if it says nothing, and else those
// that both have, which may be none.
func (g *Grant) common(principals []string) []string {
	if len(principals) == 0 {
		return g.Principals
	}
	said := []string{}
	for _, p := range principals {
		p = strings.NewReplacer("{user}", g.User, "{target}", g.Target).Replace(p)
		if (g.Principals == nil || slices.Contains(g.Principals, p)) && !slices.Contains(said, p) {
			said = append(said, p)
		}
	}
	return said
}
