package bench

import (
	"bytes"
	"strings"
	"testing"
)

func mustParse(t *testing.T, text string) Goals {
	t.Helper()
	g, err := ParseGoals([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestBuiltinGoals(t *testing.T) {
	for _, text := range []string{FullGoals, QuickGoals} {
		if g := mustParse(t, text); len(g.Goals) < 10 {
			t.Errorf("%d goals", len(g.Goals))
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		goal   string
		figure float64
		met    bool
	}{
		{"{name: n, measure: up-1, of: [ours], at_least: 7}", 7.5, true},
		{"{name: n, measure: up-1, of: [ours], at_most: 7}", 7.5, false},
		{"{name: n, measure: up-1, of: [a, b], at_least: 7}", 7, true},
		{"{name: n, measure: up-1, of: [ours], against: [a], at_least: 1.25}", 1.25, true},
		{"{name: n, measure: up-1, of: [ours], against: [peers], at_least: 1.06}", (1 + 10.0/9) / 2, false},
		{"{name: n, measure: rtt-p50, than: up-1, of: [ours], at_most: 20}", 20, true},
		{"{name: n, measure: rtt-p50, of: [ours], as: overhead, at_most: 50}", 50, true},
		{"{name: n, measure: rtt-p50, of: [ours], against: [peers], as: overhead_ratio, at_most: 0.6}", (0.5 + 50.0/60) / 2, false},
	} {
		j := mustParse(t, "goals:\n  - "+c.goal).Judge(example())
		r := j.Rulings[0]
		if r.Figure == nil || *r.Figure-c.figure > 1e-9 || c.figure-*r.Figure > 1e-9 || r.Met != c.met || j.Passed != c.met {
			t.Errorf("%s: %+v", c.goal, r)
		}
	}
}

// A round in which direct was slower than a peer says nothing of overheads.
func TestJudgeSlowDirect(t *testing.T) {
	r := example()
	for name, v := range map[string]float64{Direct: 2000, "a": 1900, "b": 2000, "ours": 9000} {
		r.Add(RTTP50, Sample{Candidate: name, Round: 3, Value: v})
	}
	const goal = "goals:\n  - {name: n, measure: rtt-p50, of: [ours], against: [peers], as: overhead_ratio, at_most: 0.6}"
	before, after := mustParse(t, goal).Judge(example()), mustParse(t, goal).Judge(r)
	if a, b := before.Rulings[0], after.Rulings[0]; *a.Figure != *b.Figure || a.Least != b.Least || a.Greatest != b.Greatest {
		t.Errorf("%+v has become %+v", a, b)
	}
}

// What was not measured neither passes nor fails, and is told; a measurement of ours that fails does.
func TestVerdict(t *testing.T) {
	g := mustParse(t, "goals:\n  - {name: n, measure: down-1, of: [ours], at_least: 7}\n  - {name: m, measure: up-1, of: [ours], at_least: 7}")
	r := example()
	j := g.Judge(r)
	if want := "PASS: goals: 1 met, 1 not measured"; !j.Passed || j.Verdict != want {
		t.Errorf("%q, want %q", j.Verdict, want)
	}
	if j := mustParse(t, "goals:\n  - {name: n, measure: down-1, of: [ours], at_least: 7}").Judge(r); !j.Passed || j.Verdict != "NO VERDICT: goals: 1 not measured" {
		t.Errorf("nothing was measured: %q", j.Verdict)
	}
	r.Omissions = append(r.Omissions, Omission{Candidate: "a", Measure: "up-1", Why: "it broke", Failed: true})
	if j := g.Judge(r); !j.Passed {
		t.Errorf("another's failure is ours: %q", j.Verdict)
	}
	r.Omissions = append(r.Omissions, Omission{Candidate: "ours", Measure: "up-1", Why: "it broke", Failed: true})
	j = g.Judge(r)
	if want := "FAIL: goals: 1 met, 1 not measured; 1 measurements of Sallyport failed"; j.Passed || j.Verdict != want {
		t.Errorf("%q, want %q", j.Verdict, want)
	}
	var b bytes.Buffer
	if err := j.Print(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(b.String(), "\n"+j.Verdict+"\n") || strings.Contains(b.String(), "not measured\n") {
		t.Errorf("printed %s", b.String())
	}
}

func TestParseGoals(t *testing.T) {
	for text, want := range map[string]string{
		"goals:\n  - {name: n, measure: m, of: [a], at_last: 1}":                           "at_last",
		"goals:\n  - {name: n, measure: m, of: [a]}":                                       "one of at_least and at_most",
		"goals:\n  - {name: n, measure: m, of: [a], at_least: 1, at_most: 2}":              "one of at_least and at_most",
		"goals:\n  - {measure: m, of: [a], at_least: 1}":                                   "name, measure and of",
		"goals:\n  - {name: n, measure: m, of: [a], as: ratio, at_least: 1}":               "needs against",
		"goals:\n  - {name: n, measure: m, of: [a], as: value, against: [b], at_least: 1}": "against nobody",
		"goals:\n  - {name: n, measure: m, than: o, of: [a], as: overhead, at_least: 1}":   "than is for",
		"goals:\n  - {name: n, measure: m, of: [a], as: twice, at_least: 1}":               "none of",
	} {
		if _, err := ParseGoals([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
