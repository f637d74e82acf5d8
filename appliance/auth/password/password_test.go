package password

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// cheap keeps the tests quick; TestCost looks at the real parameters.
var cheap = Config{Memory: 64, Passes: 1}

func TestHashAndVerify(t *testing.T) {
	h := New(cheap)
	stored, err := h.Hash(t.Context(), "Grüße aus dem Süden")
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Hash(t.Context(), "Grüße aus dem Süden")
	if err != nil || again == stored {
		t.Errorf("two hashes of one password are the same, or %v", err)
	}
	for password, want := range map[string]bool{
		"Grüße aus dem Süden":             true,
		"Gru\u0308ße aus dem Su\u0308den": true, // as a Mac sends it
		"grüße aus dem süden":             false,
		"":                                false,
		"Grüße aus dem Süden" + strings.Repeat(" ", 9): false,
		strings.Repeat("x", 1<<20):                     false,
	} {
		match, err := h.Verify(t.Context(), stored, password)
		if err != nil || match.OK != want || match.Rehash {
			t.Errorf("%.30q: %+v, %v", password, match, err)
		}
	}
}

// An account without a password, and one that does not exist, must not be open to any password, the empty one least.
func TestNothingStored(t *testing.T) {
	h := New(cheap)
	for _, password := range []string{"", "a password of some length"} {
		if match, err := h.Verify(t.Context(), "", password); err != nil || match.OK {
			t.Errorf("%q: %+v, %v", password, match, err)
		}
	}
}

func TestCost(t *testing.T) {
	stored, err := New(Config{}).Hash(t.Context(), "a password of some length")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(stored) {
		t.Error(stored)
	}
	if decoy := New(Config{}).decoy; decoy.params != (params{19 * 1024, 2, 1}) || len(decoy.sum) != sumSize {
		t.Errorf("the decoy costs %+v", decoy.params)
	}
}

func TestRehash(t *testing.T) {
	stored, err := New(cheap).Hash(t.Context(), "a password of some length")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		rehash bool
	}{
		{Config{Memory: 64, Passes: 1}, false},
		{Config{Memory: 32, Passes: 1}, false},
		{Config{Memory: 128, Passes: 1}, true},
		{Config{Memory: 64, Passes: 2}, true},
		{Config{Memory: 64, Passes: 1, Lanes: 2}, true},
	} {
		match, err := New(c.config).Verify(t.Context(), stored, "a password of some length")
		if err != nil || !match.OK || match.Rehash != c.rehash {
			t.Errorf("%+v: %+v, %v", c.config, match, err)
		}
		if wrong, _ := New(c.config).Verify(t.Context(), stored, "another of some length"); wrong.Rehash {
			t.Error("a wrong password asks for a new hash")
		}
	}
}

// TestQueue: two hashes are made at once and sixteen wait, as nothing else is configured. Who comes then is refused at once,
// the waiting ones end with their context, and then there is room again.
func TestQueue(t *testing.T) {
	h := New(Config{Memory: 64, Passes: 1})
	if cap(h.running) != 2 {
		t.Fatalf("%d hashes are made at once", cap(h.running))
	}
	for range 2 {
		h.admitted <- struct{}{}
		h.running <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := h.Verify(ctx, "", "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("who waited got %v", err)
			}
		})
	}
	for len(h.admitted) < 2+16 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		if _, err := h.Hash(ctx, "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("the nineteenth got %v", err)
		}
	}
	cancel()
	wg.Wait()
	<-h.running
	<-h.admitted
	if _, err := h.Hash(t.Context(), "x"); err != nil {
		t.Errorf("with a free slot: %v", err)
	}
}

func TestParse(t *testing.T) {
	good := hash{params{19456, 2, 1}, []byte("0123456789abcdef"), []byte("0123456789abcdef0123456789abcdef")}.String()
	if h, err := parse(good); err != nil || h.String() != good {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"empty":            "",
		"plain":            "hunter2",
		"argon2i":          strings.Replace(good, "argon2id", "argon2i", 1),
		"an older version": strings.Replace(good, "v=19", "v=16", 1),
		"4 GiB":            strings.Replace(good, "m=19456", "m=4194304", 1),
		"more than uint32": strings.Replace(good, "m=19456", "m=4294967297", 1),
		"no memory":        strings.Replace(good, "m=19456", "m=0", 1),
		"too little":       strings.Replace(good, "m=19456", "m=7", 1),
		"a million passes": strings.Replace(good, "t=2", "t=1000000", 1),
		"no pass":          strings.Replace(good, "t=2", "t=0", 1),
		"255 lanes":        strings.Replace(good, "p=1", "p=255", 1),
		"a sign":           strings.Replace(good, "t=2", "t=+2", 1),
		"a leading zero":   strings.Replace(good, "t=2", "t=02", 1),
		"another order":    strings.Replace(good, "m=19456,t=2", "t=2,m=19456", 1),
		"padding":          good + "=",
		"short salt":       strings.Replace(good, "MDEyMzQ1Njc4OWFiY2RlZg$", "MDEy$", 1),
		"no sum":           good[:strings.LastIndex(good, "$")+1],
		"a line break":     good + "\n",
		"a trailing field": good + "$",
		"long":             good + strings.Repeat("A", 1<<20),
	} {
		if h, err := parse(text); err == nil {
			t.Errorf("%s: %.200q is taken as %+v", what, text, h.params)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
	f.Add("$argon2id$v=19$m=65537,t=2,p=1$$")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parse(text)
		if err != nil {
			return
		}
		if h.String() != text {
			t.Errorf("%q is written as %q", text, h)
		}
		if h.memory > maxMemory || h.passes > maxPasses || h.lanes > maxLanes || len(h.sum) < minSum {
			t.Errorf("%q asks for %+v", text, h.params)
		}
	})
}

func TestRules(t *testing.T) {
	for password, sentence := range map[string]string{
		"":                                "a password has at least 12 characters, this one has 0",
		"elevenchars":                     "a password has at least 12 characters, this one has 11",
		"zwölf?":                          "a password has at least 12 characters, this one has 6",
		"twelve chars":                    "",
		"sentences make good passwords":   "",
		strings.Repeat("abcdefgh", 16):    "",
		strings.Repeat("abcdefgh", 17):    "a password has at most 128 characters",
		strings.Repeat("日本語で", 32):        "",
		strings.Repeat("x", 1<<20):        "a password has at most 128 characters",
		"ann.miller@corp.example":         "this password is little more than the user name",
		"Ann.Miller12":                    "this password is little more than the user name",
		"ann.millerann.miller":            "this password is little more than the user name",
		"ann.miller likes red boats":      "",
		"Password1234":                    "this password is among the first that anybody would guess",
		"correct horse battery staple":    "this password is among the first that anybody would guess",
		"aaaaaaaaaaaaaaaa":                "this password is among the first that anybody would guess",
		"abcabcabcabcabc":                 "this password is among the first that anybody would guess",
		"a password\x00with a zero":       "a password cannot hold control characters",
		"a password\nof two lines":        "a password cannot hold control characters",
		"not utf-8 \xff at all, is it so": "a password cannot hold control characters",
	} {
		err := Check("ann.miller@corp.example", password)
		switch {
		case sentence == "" && err != nil:
			t.Errorf("%.40q: %v", password, err)
		case sentence != "" && (!errors.Is(err, ErrRule) || err.Error() != sentence):
			t.Errorf("%.40q: %v, not %s", password, err, sentence)
		}
	}
	for line := range strings.Lines(common) {
		if err := Check("ann", strings.TrimSpace(line)); err == nil {
			t.Errorf("%q is in the list and will do", line)
		}
	}
}
