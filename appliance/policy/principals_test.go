package policy

import (
	"slices"
	"testing"
)

func TestPrincipals(t *testing.T) {
	for name, c := range map[string]struct {
		said [][]string
		want []string
	}{
		"nothing said":       {[][]string{nil, nil}, nil},
		"one says":           {[][]string{nil, {"root", "{user}"}}, []string{"root", "ann"}},
		"what both have":     {[][]string{{"root", "{user}"}, {"ann", "deploy"}}, []string{"ann"}},
		"nothing in common":  {[][]string{{"root"}, {"deploy"}}, []string{}},
		"bound to a machine": {[][]string{{"root@{target}"}}, []string{"root@db-1"}},
	} {
		g := Grant{User: "ann", Target: "db-1"}
		for _, p := range c.said {
			g.Principals = g.common(p)
		}
		if !slices.Equal(g.Principals, c.want) || (g.Principals == nil) != (c.want == nil) {
			t.Errorf("%s: %q, want %q", name, g.Principals, c.want)
		}
	}
}
