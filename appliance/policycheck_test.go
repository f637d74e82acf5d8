package appliance

import (
	"strings"
	"testing"

	"sallyport/appliance/api"
)

func TestPolicyCheck(t *testing.T) {
	s := newSite(t)
	before := s.policy.Load()
	for text, want := range map[string]string{
		siteAccess: "",
		siteAccess + "tests:\n  - {user: ann, target: db-1, allow: true}\n":            "",
		siteAccess + "tests:\n  - {name: no, user: ann, target: db-1, allow: false}\n": `access.yaml:12:1: test "no": got allowed, want denied`,
		"targetz: []\n": `unknown key "targetz"; did you mean "targets"?`,
	} {
		got, err := call{s.request("POST", "policy/check"), s.Gateway, s.peer}.policyCheck(api.CheckPolicy{Files: map[string][]byte{"access.yaml": []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		check := got.(api.PolicyCheck)
		if faults := strings.Join(check.Faults, "\n"); want == "" && (faults != "" || check.Tests != strings.Count(text, "tests:")) || !strings.Contains(faults, want) {
			t.Errorf("%s\n%+v, want %q", text, check, want)
		}
	}
	if s.policy.Load() != before {
		t.Error("the check has changed the policy")
	}
}
