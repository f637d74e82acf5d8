package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/tests/chaoslink/chaos"
)

// A Step of a script is an impairment, of which direction, and when it comes.
type Step struct {
	Wait      time.Duration
	Direction Direction
	Impairment
}

// Words is the help on what a step of a script can say.
const Words = `  up, down       only in this direction; otherwise in both
  pass           nothing happens
  delay=40ms     every packet is delayed
  jitter=10ms    by up to so much more; packets keep their order
  unordered      jitter reorders
  rate=1M        bytes of frames a second; k, M and G are powers of 1,000
  queue=50ms     how much may wait for the rate: a time, or bytes such as 64k
  loss=1%        packets are lost
  burst=0.1%:20  so many begin a burst of losses, so long in the mean
  reorder=1%     packets are late
  late=5ms       by so much
  duplicate=1%   packets come twice
  corrupt=1%     a bit of the payload is flipped
  mtu=1300       larger IP packets are dropped
  too-big        and answered by ICMP
  hole=udp       all UDP is dropped; hole=tcp, hole=all
`

// Parse reads a script: steps like "5s loss=1% delay=40ms" or "up hole=udp", divided by commas; Words has the list. A
// time may be a range, "1s-3s", of which the seed chooses. A step takes the place of what its direction did before.
func Parse(script string, seed uint64) ([]Step, error) {
	var steps []Step
	err := chaos.Script(script, seed, func(wait time.Duration, words []string) error {
		s := Step{Wait: wait, Direction: Both}
		if len(words) > 0 && (words[0] == "up" || words[0] == "down") {
			s.Direction = Up
			if words[0] == "down" {
				s.Direction = Down
			}
			words = words[1:]
		}
		if len(words) == 0 {
			return errors.New("a step says nothing: \"5s loss=1%\" would be one, or \"5s pass\"")
		}
		for _, w := range words {
			if err := s.read(w); err != nil {
				return fmt.Errorf("%q: %w", w, err)
			}
		}
		steps = append(steps, s)
		return s.Validate()
	})
	return steps, err
}

// read understands one word.
func (i *Impairment) read(word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "unordered":
		i.Unordered, err = true, bare(word, key)
	case "too-big":
		i.TooBig, err = true, bare(word, key)
	case "pass":
		*i, err = Impairment{}, bare(word, key)
	case "delay":
		i.Delay, err = time.ParseDuration(value)
	case "jitter":
		i.Jitter, err = time.ParseDuration(value)
	case "late":
		i.Late, err = time.ParseDuration(value)
	case "rate":
		i.Rate, err = number(value)
	case "queue":
		if strings.HasSuffix(value, "s") {
			i.QueueTime, err = time.ParseDuration(value)
		} else {
			i.QueueBytes, err = number(value)
		}
	case "mtu":
		i.MTU, err = number(value)
	case "loss":
		i.Loss, err = share(value)
	case "reorder":
		i.Reorder, err = share(value)
	case "duplicate":
		i.Duplicate, err = share(value)
	case "corrupt":
		i.Corrupt, err = share(value)
	case "burst":
		begin, length, _ := strings.Cut(value, ":")
		if i.Burst, err = share(begin); err == nil {
			i.BurstLength, err = strconv.ParseFloat(length, 64)
		}
	case "hole":
		i.Hole = Hole(value)
		if value == "" {
			err = errors.New("of what?")
		}
	default:
		err = errors.New("nothing of this name happens to packets")
	}
	return err
}

func bare(word, key string) error {
	if word != key {
		return errors.New("it takes no value")
	}
	return nil
}

// number reads "1500", "64k" or "1.25M".
func number(s string) (int, error) {
	unit := 1.0
	for suffix, value := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if cut, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = cut, value
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n*unit < 1 || n*unit > 1e12 {
		return 0, errors.New("not a number such as 1500, 64k or 1.25M")
	}
	return int(n * unit), nil
}

// share reads "1%" or "0.01".
func share(s string) (float64, error) {
	s, percent := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(s, 64)
	if percent {
		f /= 100
	}
	return f, err
}

// String is the impairment in the words of a script.
func (i Impairment) String() string {
	var words []string
	add := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(i.Delay > 0, "delay=%v", i.Delay)
	add(i.Jitter > 0, "jitter=%v", i.Jitter)
	add(i.Unordered, "unordered")
	add(i.Rate > 0, "rate=%d", i.Rate)
	add(i.QueueBytes > 0, "queue=%d", i.QueueBytes)
	add(i.QueueTime > 0, "queue=%v", i.QueueTime)
	add(i.Loss > 0, "loss=%v", i.Loss)
	add(i.Burst > 0, "burst=%v:%v", i.Burst, i.BurstLength)
	add(i.Reorder > 0, "reorder=%v", i.Reorder)
	add(i.Late > 0, "late=%v", i.Late)
	add(i.Duplicate > 0, "duplicate=%v", i.Duplicate)
	add(i.Corrupt > 0, "corrupt=%v", i.Corrupt)
	add(i.MTU > 0, "mtu=%d", i.MTU)
	add(i.TooBig, "too-big")
	add(i.Hole != "", "hole=%s", i.Hole)
	if words == nil {
		return "pass"
	}
	return strings.Join(words, " ")
}
