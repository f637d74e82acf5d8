package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// format is the version of the JSON of a report.
const format = 1

// What a candidate is.
const (
	Reference = "reference" // no gateway: the routed way
	Replaced  = "replaced"  // what people use today
	Peer      = "peer"      // other tunnels
	Ours      = "sallyport"
)

// A Candidate is one way from client to target.
type Candidate struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Version string `json:"version,omitempty"` // of its program
	Says    string `json:"says"`              // what it is, in a sentence
}

// Direct is the candidate that others are compared with.
const Direct = "direct"

// A Sample is one value.
type Sample struct {
	Candidate string  `json:"candidate"`
	Measure   string  `json:"measure"`
	Round     int     `json:"round"` // from 1
	Value     float64 `json:"value"`
}

// An Omission is what was not measured, and why.
type Omission struct {
	Candidate string `json:"candidate"`
	Measure   string `json:"measure,omitempty"` // empty: none of its measures
	Round     int    `json:"round,omitempty"`   // 0: all
	Why       string `json:"why"`
	Failed    bool   `json:"failed"` // it went wrong; else it was left out on purpose
}

// A Machine is where the figures are from.
type Machine struct {
	CPUs   int     `json:"cpus"`
	Model  string  `json:"model"`
	Kernel string  `json:"kernel"`
	System string  `json:"system"` // Go's GOOS/GOARCH
	Load   float64 `json:"load"`   // load average of the last minute, before the first round
}

// A Report is what was measured.
type Report struct {
	Format     int           `json:"format"`
	Begin      time.Time     `json:"begin"`
	Took       time.Duration `json:"took"` // nanoseconds
	Version    string        `json:"version"`
	Machine    Machine       `json:"machine"`
	Settings   []string      `json:"settings"` // how it was measured, for people
	Candidates []Candidate   `json:"candidates"`
	Measures   []Measure     `json:"measures"`
	Samples    []Sample      `json:"samples"`
	Omissions  []Omission    `json:"omissions"`
	Judgement  *Judgement    `json:"judgement,omitempty"`
}

// Add adds values of a measure.
func (r *Report) Add(m Measure, samples ...Sample) {
	if !slices.ContainsFunc(r.Measures, func(known Measure) bool { return known.Name == m.Name }) {
		r.Measures = append(r.Measures, m)
	}
	for _, s := range samples {
		s.Measure = m.Name
		r.Samples = append(r.Samples, s)
	}
}

// Series are the values of one measure of a candidate.
func (r *Report) Series(candidate, measure string) Series {
	s := Series{}
	for _, sample := range r.Samples {
		if sample.Candidate == candidate && sample.Measure == measure {
			s[sample.Round] = sample.Value
		}
	}
	return s
}

// Measure finds a measure by its name.
func (r *Report) Measure(name string) (Measure, bool) {
	i := slices.IndexFunc(r.Measures, func(m Measure) bool { return m.Name == name })
	if i < 0 {
		return Measure{}, false
	}
	return r.Measures[i], true
}

// Failures are the omissions that went wrong.
func (r *Report) Failures() []Omission {
	return slices.DeleteFunc(slices.Clone(r.Omissions), func(o Omission) bool { return !o.Failed })
}

// group are the measures of a group that have a value, in the order in which they were first measured.
func (r *Report) group(name string) []Measure {
	var in []Measure
	for _, m := range r.Measures {
		if m.Group == name {
			in = append(in, m)
		}
	}
	return in
}

// Write writes the report as JSON.
func (r *Report) Write(w io.Writer) error {
	r.Format = format
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// ReadReport reads what Write has written.
func ReadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s is no report of sallyport-bench: %w", path, err)
	}
	if r.Format != format {
		return nil, fmt.Errorf("%s is a report of format %d; this program reads format %d", path, r.Format, format)
	}
	return &r, nil
}

// number writes a value with three significant digits or so.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// cell is a median and, where it tells something, what it is to direct.
func (r *Report) cell(candidate string, m Measure) string {
	s := r.Series(candidate, m.Name)
	if len(s) == 0 {
		return "–"
	}
	text := number(s.Median())
	if candidate == Direct {
		return text
	}
	direct := r.Series(Direct, m.Name)
	switch {
	case len(direct) == 0:
	case m.Unit == Gbit || m.Unit == Mbit:
		text += " ×" + strconv.FormatFloat(s.Over(direct).Median(), 'f', 2, 64)
	case m.Group == "latency":
		if more := s.Minus(direct).Median(); !math.IsNaN(more) {
			text += fmt.Sprintf(" (%+.0f)", more)
		}
	}
	return text
}

// Table prints the report for a terminal.
func (r *Report) Table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d CPUs, Linux %s, load %.2f; %s\n", r.Machine.Model, r.Machine.CPUs, r.Machine.Kernel, r.Machine.Load, r.Version)
	for _, s := range r.Settings {
		fmt.Fprintln(w, s)
	}
	for _, g := range groups {
		measures := r.group(g.name)
		if len(measures) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", g.title)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range r.rows(measures) {
			fmt.Fprintln(t, "  "+strings.Join(row, "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(r.Omissions) > 0 {
		fmt.Fprintln(w)
	}
	for _, o := range r.Omissions {
		fmt.Fprintln(w, o)
	}
	return nil
}

// rows are the lines of a table, the first one its head. Candidates without a value have none.
func (r *Report) rows(measures []Measure) [][]string {
	head := []string{""}
	for _, m := range measures {
		name := m.Name
		if m.Group == "latency" || m.Group == "idle" || m.Group == "frames" {
			name += " " + m.Unit
		}
		head = append(head, name)
	}
	rows := [][]string{head}
	for _, c := range r.Candidates {
		row, any := []string{c.Name}, false
		for _, m := range measures {
			text := r.cell(c.Name, m)
			any = any || text != "–"
			row = append(row, text)
		}
		if any {
			rows = append(rows, row)
		}
	}
	return rows
}

// String is the line that tells of it.
func (o Omission) String() string {
	text := o.Candidate
	if o.Measure != "" {
		text += " " + o.Measure
	}
	if o.Round > 0 {
		text += fmt.Sprintf(" in round %d", o.Round)
	}
	if o.Failed {
		return "failed: " + text + ": " + o.Why
	}
	return "skipped: " + text + ": " + o.Why
}

// Benchfmt prints all samples in the format of Go's benchmarks, for benchstat.
func (r *Report) Benchfmt(w io.Writer) error {
	goos, goarch, _ := strings.Cut(r.Machine.System, "/")
	_, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: sallyport\ncpu: %s\n", goos, goarch, r.Machine.Model)
	errs := []error{err}
	units := map[string]bool{}
	for _, m := range r.Measures {
		if units[m.Unit] {
			continue
		}
		units[m.Unit] = true
		better := "lower"
		if m.Higher {
			better = "higher"
		}
		_, err := fmt.Fprintf(w, "Unit %s better=%s\n", m.Unit, better)
		errs = append(errs, err)
	}
	for _, s := range r.Samples {
		m, _ := r.Measure(s.Measure)
		_, err := fmt.Fprintf(w, "BenchmarkLab/measure=%s/candidate=%s 1 %s %s\n", s.Measure, s.Candidate, strconv.FormatFloat(s.Value, 'g', 6, 64), m.Unit)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
