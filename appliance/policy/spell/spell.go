// Package spell finds what a person probably meant by a word that nobody knows.
//
//	spell.Near("db9", []string{"db-09", "web-1"}, 3) // [db-09]
package spell

import (
	"cmp"
	"slices"
	"strings"
)

// Near returns up to limit candidates that are a slip of the finger away from word, the nearest first, and among
// equals in alphabetical order.
func Near(word string, candidates []string, limit int) []string {
	type found struct {
		name     string
		distance int
	}
	word = strings.ToLower(word)
	reach := tolerance(word)
	var near []found
	for _, c := range candidates {
		if d := distance(word, strings.ToLower(c), reach); d <= reach {
			near = append(near, found{c, d})
		}
	}
	slices.SortFunc(near, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, f := range slices.CompactFunc(near, func(a, b found) bool { return a.name == b.name }) {
		if len(names) == limit {
			break
		}
		names = append(names, f.name)
	}
	return names
}

// DidYouMean is Near as the half of a sentence: `did you mean "targets"?`, or fallback when nothing is near.
func DidYouMean(word string, candidates []string, fallback string) string {
	if near := Near(word, candidates, 1); len(near) > 0 {
		return `did you mean "` + near[0] + `"?`
	}
	return fallback
}

// tolerance is how many slips a word of this length may hold before two words have nothing to do with each other.
func tolerance(word string) int {
	switch n := len(word); {
	case n < 3:
		return 1
	case n < 9:
		return 2
	default:
		return 3
	}
}

// distance counts inserted, deleted, changed and swapped neighbouring bytes between a and b, and stops counting
// beyond limit.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
