package bench

import (
	"math"
	"slices"
)

// Median is the middle of the values, or the mean of the two in the middle; NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Range is the least and the greatest of the values; NaN of none.
func Range(values []float64) (least, greatest float64) {
	if len(values) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(values), slices.Max(values)
}

// A Series is the values of one thing by round.
type Series map[int]float64

// Values are those of all rounds, in their order.
func (s Series) Values() []float64 {
	var values []float64
	for _, round := range s.rounds() {
		values = append(values, s[round])
	}
	return values
}

func (s Series) rounds() []int {
	var rounds []int
	for r := range s {
		rounds = append(rounds, r)
	}
	slices.Sort(rounds)
	return rounds
}

// Median is the median over rounds; NaN of none.
func (s Series) Median() float64 { return Median(s.Values()) }

// join applies f to the values of the rounds that both have.
func (s Series) join(other Series, f func(a, b float64) float64) Series {
	joined := Series{}
	for round, a := range s {
		if b, ok := other[round]; ok {
			joined[round] = f(a, b)
		}
	}
	return joined
}

// Over is s divided by other, round by round.
func (s Series) Over(other Series) Series {
	return s.join(other, func(a, b float64) float64 { return a / b })
}

// Minus is s less other, round by round.
func (s Series) Minus(other Series) Series {
	return s.join(other, func(a, b float64) float64 { return a - b })
}

// best is, round by round, the best of several.
func best(all []Series, higher bool) Series {
	b := Series{}
	for _, s := range all {
		for round, v := range s {
			if old, ok := b[round]; !ok || (v > old) == higher {
				b[round] = v
			}
		}
	}
	return b
}
