package appliance

// maxRoll bounds what is remembered: more than there are people and devices of one appliance.
const maxRoll = 20_000

// A roll remembers something of people or devices, by name. When it is full it forgets all of them: that lets somebody do for once
// what they had to wait for, and costs no search. Whoever has it guards it.
type roll[T any] map[string]*T

// of is what is remembered of somebody, or what begins now.
func (r *roll[T]) of(who string, begin func() *T) *T {
	one := (*r)[who]
	if one == nil {
		if *r == nil || len(*r) >= maxRoll {
			*r = roll[T]{}
		}
		one = begin()
		(*r)[who] = one
	}
	return one
}
