package bench

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example is a report of two rounds, in which the machine was twice as fast in the second one.
func example() *Report {
	r := &Report{
		Begin: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Took: time.Minute, Version: "test",
		Machine:  Machine{CPUs: 2, Model: "A CPU", Kernel: "6.1", System: "linux/amd64"},
		Settings: []string{"2 rounds"},
		Candidates: []Candidate{
			{Name: Direct, Kind: Reference}, {Name: "a", Kind: Peer}, {Name: "b", Kind: Peer}, {Name: "ours", Kind: Ours},
		},
		Omissions: []Omission{{Candidate: "c", Why: "c not found"}},
	}
	up, cpu := BulkMeasures(true, 1)
	for name, v := range map[string][2]float64{Direct: {10, 20}, "a": {4, 8}, "b": {5, 9}, "ours": {5, 10}} {
		for i, value := range v {
			r.Add(up, Sample{Candidate: name, Round: i + 1, Value: value})
		}
	}
	for name, v := range map[string][2]float64{Direct: {100, 50}, "a": {200, 150}, "b": {300, 110}, "ours": {150, 100}} {
		for i, value := range v {
			r.Add(RTTP50, Sample{Candidate: name, Round: i + 1, Value: value})
		}
	}
	r.Add(cpu, Sample{Candidate: "ours", Round: 1, Value: 1.5})
	return r
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 100, 1}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("nothing has a median")
	}
}

// Ratios are those of one round, and not of medians of different ones.
func TestSeries(t *testing.T) {
	a, b := Series{1: 10, 2: 30, 3: 50}, Series{1: 10, 2: 10, 4: 7}
	if got := a.Over(b); len(got) != 2 || got[1] != 1 || got[2] != 3 {
		t.Errorf("over: %v", got)
	}
	if got := a.Minus(b).Median(); got != 10 {
		t.Errorf("minus: %v", got)
	}
	if got := best([]Series{a, b, {4: 9}}, true); got[1] != 10 || got[2] != 30 || got[4] != 9 {
		t.Errorf("best: %v", got)
	}
	if got := best([]Series{a, b}, false); got[2] != 10 {
		t.Errorf("best of what is better less: %v", got)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := example().Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`(?m)^  direct +15\.0$`, `(?m)^  ours +7\.50 ×0\.50$`, `(?m)^  ours +125 \(\+50\)$`, `(?m)^  ours +1\.50$`, `skipped: c: c not found`} {
		if !regexp.MustCompile(want).Match(b.Bytes()) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}

func TestBenchfmt(t *testing.T) {
	var b bytes.Buffer
	if err := example().Benchfmt(&b); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^(goos|goarch|pkg|cpu): .+$|^Unit \S+ better=(higher|lower)$|^Benchmark\S+ 1 [0-9.e+-]+ \S+$`)
	for l := range strings.Lines(b.String()) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not Go's format: %q", l)
		}
	}
	if !strings.Contains(b.String(), "BenchmarkLab/measure=up-1/candidate=ours 1 10 Gbit/s\n") {
		t.Errorf("a sample is missing in\n%s", b.String())
	}
}

func TestHTML(t *testing.T) {
	r := example()
	r.Candidates[1].Says = "<script>" // comes from a file of peers
	j := Goals{}.Judge(r)
	r.Judgement = &j
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	svgs := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if len(svgs) != 3 {
		t.Errorf("%d plots of 3 measures", len(svgs))
	}
	for _, svg := range svgs {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("a plot is no SVG: %v", err)
			}
		}
	}
	if rest := regexp.MustCompile(`http://www\.w3\.org/\S+`).ReplaceAllString(page, ""); strings.Contains(rest, "http") || strings.Contains(rest, "<script") {
		t.Error("the page needs something from elsewhere")
	}
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r := example()
	if err := r.Write(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	back, err := ReadReport(path)
	if err != nil {
		t.Fatal(err)
	}
	if back.Series("ours", "up-1").Median() != 7.5 || !back.Begin.Equal(r.Begin) || len(back.Omissions) != 1 {
		t.Errorf("read back: %+v", back)
	}
	for content, want := range map[string]string{`{`: "no report", `{"format": 99}`: "format 99"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReport(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

func TestCompare(t *testing.T) {
	before, after := example(), example()
	for i, s := range after.Samples {
		if s.Candidate == "ours" && s.Measure == "up-1" {
			after.Samples[i].Value *= 4
		}
	}
	var b bytes.Buffer
	if err := Compare(&b, before, after); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`up-1 +ours +Gbit/s +7\.50 \(5\.00–10\.0\) +30\.0 \(20\.0–40\.0\) +\+300\.0 % +0\.50 .*2\.00 .*\+300\.0 %`,
		`rtt-p50 +a +µs +175 .* ~ \+0\.0 %`,
	} {
		if !regexp.MustCompile(want).Match(b.Bytes()) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}
