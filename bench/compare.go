package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// Compare prints what changed between two reports: the medians with the range of their rounds, and the same for ratios to
// direct, which a machine that has become faster or busier changes less. A change is marked ~ while the ranges overlap.
func Compare(w io.Writer, before, after *Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tcandidate\tunit\tbefore\tafter\tchange\t×direct before\tafter\tchange")
	for _, m := range after.Measures {
		for _, c := range after.Candidates {
			a, b := before.Series(c.Name, m.Name), after.Series(c.Name, m.Name)
			if len(a) == 0 || len(b) == 0 {
				continue
			}
			row := append([]string{m.Name, c.Name, m.Unit}, changed(a, b)...)
			if c.Name != Direct && (m.Unit == Gbit || m.Unit == Mbit) {
				row = append(row, changed(a.Over(before.Series(Direct, m.Name)), b.Over(after.Series(Direct, m.Name)))...)
			}
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
	}
	return t.Flush()
}

// changed are the words about one change.
func changed(a, b Series) []string {
	if len(a) == 0 || len(b) == 0 {
		return []string{"–", "–", "–"}
	}
	change := 100 * (b.Median()/a.Median() - 1)
	text := fmt.Sprintf("%+.1f %%", change)
	leastA, greatestA := Range(a.Values())
	leastB, greatestB := Range(b.Values())
	if leastA <= greatestB && leastB <= greatestA {
		text = "~ " + text
	}
	if math.IsNaN(change) || math.IsInf(change, 0) {
		text = "–"
	}
	return []string{withRange(a), withRange(b), text}
}

// withRange is a median and how far the rounds are apart.
func withRange(s Series) string {
	least, greatest := Range(s.Values())
	return fmt.Sprintf("%s (%s–%s)", number(s.Median()), number(least), number(greatest))
}
