package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// TestBound rewrites random conditions for an address that is not known yet, and compares with all that the address may
// turn out to be.
func TestBound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	decided := 0
	for range 3000 {
		text := randomCondition(rnd, 4)
		body := condition(t, text)
		might, must := factAddress.bound(body, true), factAddress.bound(body, false)
		if factsIn(might)&factAddress != 0 || factsIn(must)&factAddress != 0 {
			t.Fatalf("%s: the address is still looked at", text)
		}
		for known := range 4 {
			some, all := false, true
			for _, addr := range []string{"127.0.0.1", "::1", "10.0.0.1", "fd00::1"} {
				is := evaluate(t, body, known, addr)
				some, all = some || is, all && is
			}
			mightBe, mustBe := evaluate(t, might, known, ""), evaluate(t, must, known, "")
			if some && !mightBe || mustBe && !all {
				t.Fatalf("%s, known %b: true for some %v, for all %v; might %v, must %v", text, known, some, all, mightBe, mustBe)
			}
			if mightBe == mustBe {
				decided++
			}
		}
	}
	if decided < 1000 {
		t.Errorf("only %d of 12000 were decided without the address: the rewriting says little", decided)
	}
}

func randomCondition(rnd *rand.Rand, depth int) string {
	if depth == 0 || rnd.IntN(4) == 0 {
		return pick(rnd, "context.mfa", "context.port == 22", "context.address.isLoopback()", "context.address.isIpv4()", "true", "false")
	}
	a, b := randomCondition(rnd, depth-1), randomCondition(rnd, depth-1)
	switch rnd.IntN(4) {
	case 0:
		return fmt.Sprintf("(%s && %s)", a, b)
	case 1:
		return fmt.Sprintf("(%s || %s)", a, b)
	case 2:
		return fmt.Sprintf("!(%s)", a)
	}
	return fmt.Sprintf("(if %s then %s else %s)", a, b, randomCondition(rnd, depth-1))
}

func condition(t *testing.T, text string) ast.IsNode {
	t.Helper()
	var p cedar.Policy
	if err := p.UnmarshalCedar([]byte("permit (principal, action, resource) when { " + text + " };")); err != nil {
		t.Fatal(err)
	}
	return (*ast.Policy)(p.AST()).Conditions[0].Body
}

// evaluate evaluates a condition with two known facts as bits, and an address unless it is empty.
func evaluate(t *testing.T, n ast.IsNode, known int, addr string) bool {
	t.Helper()
	m := types.RecordMap{"mfa": types.Boolean(known&1 != 0), "port": types.Long(22 + known&2)}
	if addr != "" {
		m["address"] = ipValue(netip.MustParseAddr(addr))
	}
	v, err := eval.Eval(n, eval.Env{Entities: types.EntityMap{}, Context: types.NewRecord(m)})
	if err != nil {
		t.Fatal(err)
	}
	return v == types.Value(types.True)
}

func TestFactsIn(t *testing.T) {
	for text, want := range map[string]facts{
		"true": 0,
		"context.mfa && context has mfa_age && context.mfa_age < 5": factMFA | factMFAAge,
		"context.time.hour < 5":                    factTime,
		`context == {"a": 1}`:                      inContext,
		`action == Action::"connect"`:              factAction,
		`principal in resource`:                    0,
		`[context.port, 3].contains(1)`:            factPort,
		`context.source.isInRange(ip("10.0.0.1"))`: factSource,
	} {
		if got := factsIn(condition(t, text)); got != want {
			t.Errorf("%s: %b, want %b", text, got, want)
		}
	}
}
