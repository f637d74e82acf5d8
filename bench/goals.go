package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
)

// The goals that are built in, as files. QuickGoals catch a collapse on a busy machine and nothing finer.
var (
	//go:embed goals/full.yaml
	FullGoals string
	//go:embed goals/quick.yaml
	QuickGoals string
)

// Goals say what figures must be.
type Goals struct {
	Goals []Goal `yaml:"goals"`
}

// How the figure of a goal is made of values, round by round; the median over rounds counts.
const (
	AsValue         = "value"          // the value itself
	AsRatio         = "ratio"          // divided by that of against
	AsOverhead      = "overhead"       // less that of direct
	AsOverheadRatio = "overhead_ratio" // overhead divided by the overhead of against
)

// A Goal is a bound for one figure.
type Goal struct {
	Name    string   `yaml:"name" json:"name"`
	Measure string   `yaml:"measure" json:"measure"`
	Than    string   `yaml:"than" json:"than,omitempty"` // another measure, by which the same candidate's is divided first
	Of      []string `yaml:"of" json:"of"`               // candidates, of which the best one of each round counts
	Against []string `yaml:"against" json:"against"`     // likewise; "peers" are all of that kind
	As      string   `yaml:"as" json:"as"`               // default: ratio with against, else value
	AtLeast *float64 `yaml:"at_least" json:"at_least,omitempty"`
	AtMost  *float64 `yaml:"at_most" json:"at_most,omitempty"`
}

// ParseGoals reads goals. An unknown key is an error, and all that is wrong is told.
func ParseGoals(b []byte) (Goals, error) {
	var g Goals
	if err := yaml.UnmarshalWithOptions(b, &g, yaml.Strict()); err != nil {
		return g, err
	}
	var errs []error
	for i := range g.Goals {
		if err := g.Goals[i].complete(); err != nil {
			errs = append(errs, fmt.Errorf("goal %d (%s): %w", i+1, g.Goals[i].Name, err))
		}
	}
	return g, errors.Join(errs...)
}

// complete fills in what is left out and says what is wrong.
func (g *Goal) complete() error {
	if g.As == "" {
		g.As = AsValue
		if len(g.Against) > 0 {
			g.As = AsRatio
		}
	}
	var errs []error
	if g.Name == "" || g.Measure == "" || len(g.Of) == 0 {
		errs = append(errs, errors.New("name, measure and of must be given"))
	}
	if (g.AtLeast == nil) == (g.AtMost == nil) {
		errs = append(errs, errors.New("give one of at_least and at_most"))
	}
	if g.Than != "" && g.As != AsValue && g.As != AsRatio {
		errs = append(errs, fmt.Errorf("than is for as: %s and %s", AsValue, AsRatio))
	}
	switch g.As {
	case AsValue, AsOverhead:
		if len(g.Against) > 0 {
			errs = append(errs, fmt.Errorf("as: %s is against nobody", g.As))
		}
	case AsRatio, AsOverheadRatio:
		if len(g.Against) == 0 {
			errs = append(errs, fmt.Errorf("as: %s needs against", g.As))
		}
	default:
		errs = append(errs, fmt.Errorf("as: %s is none of %s, %s, %s, %s", g.As, AsValue, AsRatio, AsOverhead, AsOverheadRatio))
	}
	return errors.Join(errs...)
}

// A Ruling is what a goal came to.
type Ruling struct {
	Goal
	Figure   *float64 `json:"figure,omitempty"` // nil: not measured
	Met      bool     `json:"met"`
	Least    float64  `json:"least"` // of the rounds
	Greatest float64  `json:"greatest"`
}

// A Judgement says whether a report meets its goals.
type Judgement struct {
	Rulings []Ruling `json:"rulings"`
	Passed  bool     `json:"passed"` // no goal that was measured was missed, and no measurement of ours failed
	Verdict string   `json:"verdict"`
}

// Judge looks at each goal. One that was not measured is told, and neither met nor missed.
func (g Goals) Judge(r *Report) Judgement {
	var j Judgement
	met, missed, open := 0, 0, 0
	for _, goal := range g.Goals {
		ruling := goal.judge(r)
		switch {
		case ruling.Figure == nil:
			open++
		case ruling.Met:
			met++
		default:
			missed++
		}
		j.Rulings = append(j.Rulings, ruling)
	}
	failed := 0
	for _, o := range r.Failures() {
		if i := slices.IndexFunc(r.Candidates, func(c Candidate) bool { return c.Name == o.Candidate }); i < 0 || r.Candidates[i].Kind == Ours {
			failed++
		}
	}
	j.Passed = missed == 0 && failed == 0
	var parts []string
	for _, p := range []struct {
		n    int
		text string
	}{{met, "met"}, {missed, "missed"}, {open, "not measured"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	if parts == nil {
		parts = []string{"none"}
	}
	word := "FAIL"
	switch {
	case j.Passed && met == 0 && len(g.Goals) > 0:
		word = "NO VERDICT" // a run of a few measures, say
	case j.Passed:
		word = "PASS"
	}
	j.Verdict = word + ": goals: " + strings.Join(parts, ", ")
	if failed > 0 {
		j.Verdict += fmt.Sprintf("; %d measurements of Sallyport failed", failed)
	}
	return j
}

func (g Goal) judge(r *Report) Ruling {
	s := g.figure(r)
	ruling := Ruling{Goal: g}
	figure := s.Median()
	if len(s) == 0 || math.IsNaN(figure) || math.IsInf(figure, 0) {
		return ruling
	}
	ruling.Figure = &figure
	ruling.Least, ruling.Greatest = Range(s.Values())
	ruling.Met = g.AtLeast != nil && figure >= *g.AtLeast || g.AtMost != nil && figure <= *g.AtMost
	return ruling
}

// figure is the goal's figure by round.
func (g Goal) figure(r *Report) Series {
	m, _ := r.Measure(g.Measure)
	get := func(names []string, overhead bool) Series {
		var all []Series
		for _, name := range names {
			s := r.Series(name, g.Measure)
			if g.Than != "" {
				s = s.Over(r.Series(name, g.Than))
			}
			if overhead {
				s = s.Minus(r.Series(Direct, g.Measure))
			}
			all = append(all, s)
		}
		return best(all, m.Higher)
	}
	overhead := g.As == AsOverhead || g.As == AsOverheadRatio
	s := get(g.Of, overhead)
	if len(g.Against) > 0 {
		against := get(r.expand(g.Against), overhead)
		if overhead { // of nothing, or less: direct was slow in that round, and says nothing
			maps.DeleteFunc(against, func(_ int, v float64) bool { return v <= 0 })
		}
		s = s.Over(against)
	}
	return s
}

// expand puts the names of all peers in the place of "peers".
func (r *Report) expand(names []string) []string {
	var all []string
	for _, name := range names {
		if name != "peers" {
			all = append(all, name)
			continue
		}
		for _, c := range r.Candidates {
			if c.Kind == Peer {
				all = append(all, c.Name)
			}
		}
	}
	return all
}

// Print prints each goal that was measured, and the verdict, which counts the others, as the last line.
func (j Judgement) Print(w io.Writer) error {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range j.Rulings {
		if r.Figure != nil {
			fmt.Fprintln(t, strings.Join(r.row(), "\t"))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, j.Verdict)
	return err
}

// row are the words of a line about a ruling.
func (r Ruling) row() []string {
	bound, limit := "at least", r.AtLeast
	if limit == nil {
		bound, limit = "at most", r.AtMost
	}
	word, figure := "–", "not measured"
	if r.Figure != nil {
		word, figure = "missed", number(*r.Figure)+" ("+number(r.Least)+" to "+number(r.Greatest)+")"
		if r.Met {
			word = "met"
		}
	}
	return []string{word, r.Name, bound + " " + number(*limit), figure}
}
