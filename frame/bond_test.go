package frame

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	flowID    = bytes.Repeat([]byte{0xf1}, 16)
	sessionID = bytes.Repeat([]byte{0x5e}, 16)
)

// bondOf is what the n-th connection of one person and device gives its flows.
func bondOf(n byte) *Bond {
	return &Bond{User: "ann", Device: [32]byte{1}, Binding: [32]byte{n}, Secret: func([]byte) ([]byte, error) { return bytes.Repeat([]byte{0x44}, 32), nil }}
}

func keyOf(t testing.TB) resumeKey {
	t.Helper()
	key, err := firstKey(bondOf(0), flowID, sessionID)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keysOf are the two ends' keys of one flow.
func keysOf(t testing.TB) (*ticket, *keyring) {
	key := keyOf(t)
	return &ticket{flow: flowID, key: key}, &keyring{user: "ann", device: [32]byte{1}, key: key}
}

// resumeKeys takes two ends to the next epoch, on the connection of b.
func resumeKeys(t testing.TB, tk *ticket, kr *keyring, b *Bond) {
	t.Helper()
	a, r := tk.try(b, 0, FirstLimit)
	if v := kr.judge(b, r); v != proven {
		t.Fatalf("an honest RESUME is %d", v)
	}
	var d Resumed
	kr.answer(b, r, &d)
	if !a.verify(b, r, &d) {
		t.Fatal("an honest answer is not valid")
	}
	key, listed := tk.attach(b, a, &d)
	if !kr.confirm(a.nonce, listed) {
		t.Fatal("an honest confirmation is not valid")
	}
	tk.settle(key)
	if tk.epoch != kr.epoch || tk.key != kr.key {
		t.Fatalf("the ends are at epochs %d and %d", tk.epoch, kr.epoch)
	}
}

// state is a keyring, to be compared.
func (k *keyring) state() string { return fmt.Sprintf("%+v", *k) }

// TestForgedResumes: what is not proven changes nothing, whatever else is known of the flow.
func TestForgedResumes(t *testing.T) {
	const forgeries = 100_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 31))
	tk, kr := keysOf(t)
	for n := range byte(3) {
		resumeKeys(t, tk, kr, bondOf(n))
	}
	here := bondOf(9)
	_, answered := tk.try(here, 100, 1<<20) // so that there is a candidate
	if kr.judge(here, answered) != proven {
		t.Fatal("an honest RESUME is refused")
	}
	kr.answer(here, answered, &Resumed{})
	before := kr.state()

	var some [4]int
	for i := range forgeries {
		_, honest := tk.try(here, uint64(r.IntN(1000)), 1<<20)
		forged, b := *honest, *here
		forged.Proof = bytes.Clone(honest.Proof)
		forged.Nonce = bytes.Clone(honest.Nonce)
		forged.Flow = bytes.Clone(honest.Flow)
		kind := r.IntN(10)
		switch kind {
		case 0:
			b.User = "eve"
		case 1:
			b.Device[r.IntN(32)] ^= 1 << r.IntN(8)
		case 2: // moved from another connection
			b.Binding[r.IntN(32)] ^= 1 << r.IntN(8)
		case 3:
			forged.Epoch = []uint64{0, 1, kr.epoch - 1, kr.epoch + 1, kr.epoch + 2, 1<<64 - 1}[r.IntN(6)]
		case 4:
			forged.Received ^= 1 << r.IntN(62)
		case 5:
			forged.Limit ^= 1 << r.IntN(62)
		case 6:
			forged.Nonce[r.IntN(16)] ^= 1 << r.IntN(8)
		case 7:
			forged.Proof[r.IntN(32)] ^= 1 << r.IntN(8)
		case 8:
			forged.Flow[r.IntN(16)] ^= 1 << r.IntN(8)
		case 9: // a proof with a key that anybody could have: none, an old one, the first
			keys := []resumeKey{{}, keyOf(t), {1}}
			forged.Epoch = []uint64{0, kr.epoch - 1, kr.epoch, kr.epoch + 1, 1<<64 - 1}[r.IntN(5)]
			forged.Proof = keys[r.IntN(3)].clientProof(&b, &forged)
		}
		some[kr.judge(&b, &forged)]++
		if tk.attempts = tk.attempts[:0]; i%1000 == 0 && kr.state() != before {
			t.Fatalf("kind %d changed the keyring", kind)
		}
	}
	if some[unknown] != forgeries || kr.state() != before {
		t.Errorf("unknown, proven, lost race, forked: %d", some)
	}
	_, honest := tk.try(here, 0, 1<<20)
	if kr.judge(here, honest) != proven {
		t.Error("after all that the honest client is refused")
	}
}

// TestNoKeyBeforeTheFirst: at epoch 0 there is none before, and no proof by the key of nobody is an alarm.
func TestNoKeyBeforeTheFirst(t *testing.T) {
	_, kr := keysOf(t)
	b := bondOf(1)
	r := &Resume{Flow: flowID, Epoch: 1<<64 - 1, Limit: FirstLimit, Nonce: make([]byte, 16)}
	r.Proof = resumeKey{}.clientProof(b, r)
	if v := kr.judge(b, r); v != unknown {
		t.Errorf("a proof that anybody can make is %d", v)
	}
}

// TestEqualWork: whatever is wrong with a RESUME, the same is computed before it is refused. What judge allocates is
// what its HMACs do, so that their number shows.
func TestEqualWork(t *testing.T) {
	tk, kr := keysOf(t)
	resumeKeys(t, tk, kr, bondOf(0))
	here := bondOf(9)
	_, candidate := tk.try(here, 0, 1<<20)
	kr.judge(here, candidate)
	kr.answer(here, candidate, &Resumed{})

	_, honest := tk.try(here, 0, 1<<20)
	with := func(change func(*Resume)) *Resume {
		r := *honest
		r.Proof = bytes.Clone(honest.Proof)
		change(&r)
		return &r
	}
	stranger, device := *here, *here
	stranger.User, device.Device = "eve", [32]byte{7}
	work := map[string]float64{}
	for name, c := range map[string]struct {
		b *Bond
		r *Resume
	}{
		"proof":           {here, with(func(r *Resume) { r.Proof[31] ^= 1 })},
		"epoch before":    {here, with(func(r *Resume) { r.Epoch-- })},
		"epoch after":     {here, with(func(r *Resume) { r.Epoch++ })},
		"epoch far":       {here, with(func(r *Resume) { r.Epoch = 1 << 60 })},
		"user":            {&stranger, honest},
		"device":          {&device, honest},
		"connection":      {bondOf(8), honest},
		"what is honest ": {here, honest},
	} {
		work[name] = testing.AllocsPerRun(100, func() { kr.judge(c.b, c.r) })
	}
	for name, n := range work {
		if n != work["proof"] {
			t.Errorf("%s takes %v allocations, an unknown proof %v", name, n, work["proof"])
		}
	}
	t.Logf("%v allocations each", work["proof"])
}

// TestForked: a good proof at the epoch before is the race that the client knows of, or an alarm.
func TestForked(t *testing.T) {
	tk, kr := keysOf(t)
	b := bondOf(1)
	_, lost := tk.try(b, 0, FirstLimit)          // it never arrived, and the client goes on
	stolen := &ticket{flow: flowID, key: tk.key} // somebody else has the key
	resumeKeys(t, tk, kr, b)
	_, theirs := stolen.try(b, 0, FirstLimit)
	before := kr.state()
	if v := kr.judge(b, lost); v != lostRace {
		t.Errorf("an attempt that the client has listed is %d", v)
	}
	if v := kr.judge(b, theirs); v != forked {
		t.Errorf("an attempt of somebody else is %d", v)
	}
	resumeKeys(t, tk, kr, b)
	if before == kr.state() {
		t.Error("the honest client did not go on")
	}
	if v := kr.judge(b, theirs); v != unknown {
		t.Errorf("an attempt two epochs ago is %d", v)
	}
}

// TestLateAttempts: the confirming ACK is lost with its list, so the next RESUME confirms. An attempt that was made
// before and comes only now is no alarm.
func TestLateAttempts(t *testing.T) {
	tk, kr := keysOf(t)
	b := bondOf(1)
	_, late := tk.try(b, 0, FirstLimit)
	a, r := tk.try(b, 0, FirstLimit)
	var d Resumed
	kr.judge(b, r)
	kr.answer(b, r, &d)
	tk.attach(b, a, &d)
	again, r := tk.try(b, 0, FirstLimit)
	if v := kr.judge(b, r); v != proven || kr.epoch != 1 {
		t.Fatalf("the RESUME that confirms is %d, epoch %d", v, kr.epoch)
	}
	if v := kr.judge(b, late); v != lostRace {
		t.Errorf("the late attempt is %d", v)
	}
	kr.answer(b, r, &d)
	if _, listed := tk.attach(b, again, &d); !kr.confirm(again.nonce, listed) {
		t.Error("not confirmed")
	}
	if v := kr.judge(b, late); v != unknown {
		t.Errorf("two epochs later the late attempt is %d", v)
	}
}

// TestTwoAnswers: two attempts of one epoch were answered and the flow was attached by both, one after the other. Which
// of them the appliance has heard of the client cannot know: it finds out, without an alarm.
func TestTwoAnswers(t *testing.T) {
	for _, heard := range []int{-1, 0, 1} {
		for _, first := range []int{0, 1} { // which the client attaches first
			tk, kr := keysOf(t)
			b := bondOf(1)
			var attempts [2]attempt
			var answers [2]Resumed
			for i := range 2 {
				a, r := tk.try(b, 0, FirstLimit)
				if kr.judge(b, r) != proven {
					t.Fatal("not proven")
				}
				kr.answer(b, r, &answers[i])
				attempts[i] = a
			}
			var lists [2][]nonce
			for _, i := range []int{first, 1 - first} {
				_, lists[i] = tk.attach(b, attempts[i], &answers[i])
			}
			if heard >= 0 && !kr.confirm(attempts[heard].nonce, lists[heard]) {
				t.Fatal("not confirmed")
			}
			for try := 1; ; try++ {
				a, r := tk.try(b, 0, FirstLimit)
				v := kr.judge(b, r)
				if v == proven {
					var d Resumed
					kr.answer(b, r, &d)
					if !a.verify(b, r, &d) {
						t.Error("the answer is not valid")
					}
					key, listed := tk.attach(b, a, &d)
					if !kr.confirm(a.nonce, listed) {
						t.Error("not confirmed")
					}
					tk.settle(key)
					break
				}
				if err := tk.refused(a); v != unknown || err != errLostAnswer || try > 2 {
					t.Fatalf("heard %d, first %d, try %d: %d, %v", heard, first, try, v, err)
				}
			}
			resumeKeys(t, tk, kr, b)
		}
	}
}

// TestRefusedAttempts: what the appliance's not knowing an attempt means, when others were under way with it.
func TestRefusedAttempts(t *testing.T) {
	tk, kr := keysOf(t)
	b := bondOf(1)
	early, _ := tk.try(b, 0, FirstLimit)
	a, r := tk.try(b, 0, FirstLimit)
	var d Resumed
	kr.judge(b, r)
	kr.answer(b, r, &d)
	key, _ := tk.attach(b, a, &d)
	if err := tk.refused(early); err != ErrSuperseded {
		t.Errorf("another attempt of its epoch has the flow: %v", err)
	}
	one, _ := tk.try(b, 0, FirstLimit)
	two, _ := tk.try(b, 0, FirstLimit)
	for _, a := range []attempt{one, two} { // both at the epoch that the appliance has not heard of
		if err := tk.refused(a); err != errLostAnswer {
			t.Errorf("refused ahead: %v", err)
		}
	}
	tk.settle(key) // it has, after all
	for _, a := range []attempt{early, a} {
		if err := tk.refused(a); err != ErrSuperseded {
			t.Errorf("refused behind: %v", err)
		}
	}
	last, _ := tk.try(b, 0, FirstLimit)
	if err := tk.refused(last); err != nil {
		t.Errorf("the last word: %v", err)
	}
}

// FuzzResume: whatever comes as RESUME is refused, but for what the client itself has said.
func FuzzResume(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.payload(), byte(0))
	}
	honest, kr := keysOf(f)
	resumeKeys(f, honest, kr, bondOf(0))
	_, good := honest.try(bondOf(1), 5, FirstLimit)
	f.Add(Append(nil, TypeResume, good)[HeaderSize:], byte(1))
	start := *kr
	f.Fuzz(func(t *testing.T, p []byte, connection byte) {
		var r Resume
		if Parse(TypeResume, p, &r) != nil {
			return
		}
		k := start
		v := k.judge(bondOf(connection), &r)
		same := connection == 1 && bytes.Equal(Append(nil, TypeResume, &r), Append(nil, TypeResume, good))
		if (v == proven) != same || v != proven && v != unknown || k.state() != start.state() {
			t.Errorf("%x is %d", p, v)
		}
	})
}
