package yamlfile

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type form struct {
	Text     string            `yaml:"text"`
	Yes      bool              `yaml:"yes"`
	Count    int               `yaml:"count"`
	Port     uint16            `yaml:"port"`
	Wait     time.Duration     `yaml:"wait"`
	Addr     netip.Addr        `yaml:"addr"`
	Prefixes []netip.Prefix    `yaml:"prefixes"`
	Words    map[string]string `yaml:"words"`
	Inner    struct {
		Deep []string `yaml:"deep"`
	} `yaml:"inner"`
	Ours string `yaml:"-"`
}

func TestRead(t *testing.T) {
	var got form
	f := Read("f", []byte("\ufeff# a comment\r\ntext: 'a: b'\r\nyes: true\ncount: 7\nport: 65535\nwait: 1h30m\naddr: \"::1\"\nprefixes: [10.0.0.1/8]\n"+
		"words: {a: b}\ninner:\n  deep:\n    - x\n    - |\n      two\n      lines\n"), &got)
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	want := form{Text: "a: b", Yes: true, Count: 7, Port: 65535, Wait: 90 * time.Minute, Addr: netip.IPv6Loopback(),
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}, Words: map[string]string{"a": "b"}}
	want.Inner.Deep = []string{"x", "two\nlines\n"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for what, at := range map[Position][]any{
		{2, 7}:  {"text"},
		{8, 12}: {"prefixes", 0},
		{12, 7}: {"inner", "deep", 0},
		{12, 5}: {"inner", "deep", 7, "x"},
		{11, 3}: {"inner", "shallow"},
		{2, 1}:  {"none"},
	} {
		if got := f.At(at...); got != what {
			t.Errorf("At(%v) = %v, want %v", at, got, what)
		}
	}
	if got := f.KeyAt("inner", "deep"); got != (Position{11, 3}) || !f.Has("inner", "deep", 1) || f.Has("inner", "deep", 2) || f.Text("count") != "7" {
		t.Errorf("KeyAt %v", got)
	}
}

func TestPlain(t *testing.T) {
	f, text, ok := Plain("f", []byte("\ufeffa\r\nb: [\n"))
	f.Fault(Position{2, 1}, "", "not this")
	if err := f.Err(); !ok || text != "a\nb: [\n" || err == nil || err.Error() != "f:2:1: not this" || !f.Parsed() {
		t.Errorf("%q, %v, %v", text, ok, err)
	}
	for data, want := range map[string]string{
		"a\x00":                        "f:1:2: a control character (U+0000) has no place in this file",
		strings.Repeat("a", MaxSize+1): "f:1:1: the file has 1048577 bytes; at most 1048576 are read",
	} {
		f, _, ok := Plain("f", []byte(data))
		f.Fault(Position{1, 1}, "", "what is not known has no faults")
		if err := f.Err(); ok || err == nil || err.Error() != want || f.Parsed() {
			t.Errorf("%v, %v", ok, err)
		}
	}
}

func TestEmptyFiles(t *testing.T) {
	for _, data := range []string{"", "\n", "# nothing\n", "---\n", "{}", "null\n"} {
		var got form
		if err := Read("f", []byte(data), &got).Err(); err != nil || !reflect.DeepEqual(got, form{}) {
			t.Errorf("%q: %+v, %v", data, got, err)
		}
	}
}

// TestBombs has files that are small and hostile. Each must end in a fault, and soon.
func TestBombs(t *testing.T) {
	laughs := "a: &a [x, x]\n"
	for c := 'b'; c < 'z'; c++ {
		laughs += fmt.Sprintf("%c: &%c [*%c, *%c]\n", c, c, c-1, c-1)
	}
	steps := ""
	for i := range 1400 {
		steps += strings.Repeat(" ", i) + "a:\n"
	}
	var wide strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&wide, "k%d: v\n", i)
	}
	for what, data := range map[string]string{
		"aliases":              laughs,
		"itself":               "a: &a [*a]\n",
		"merge":                "a: {b: c}\n<<: {d: e}\n",
		"brackets":             strings.Repeat("[", 1<<19),
		"braces":               "a: " + strings.Repeat("{a: ", 1<<17),
		"closed brackets":      "text: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"dashes":               strings.Repeat("- ", 1<<18),
		"question marks":       strings.Repeat("? ", 1<<18),
		"steps":                steps,
		"a wide mapping":       wide.String(),
		"a wide mapping in {}": "words: {" + strings.ReplaceAll(wide.String(), "\n", ",\n ") + "}",
		"one key, many times":  strings.Repeat("text: a\n", 100_000),
		"too large":            strings.Repeat("#", MaxSize+1),
		"many faults":          strings.Repeat("- {}\n", 100_000),
		"tag":                  "text: !!str 1\n",
		"binary tag":           "text: !!binary AAAA\n",
		"directive":            "%YAML 1.1\n---\ntext: a\n",
		"NUL":                  "text: a\x00b\n",
	} {
		t.Run(what, func(t *testing.T) {
			start := time.Now()
			var got form
			err := Read("f", []byte(data), &got).Err()
			if err == nil {
				t.Error("no fault")
			} else if len(err.Error()) > 100_000 {
				t.Errorf("a report of %d bytes", len(err.Error()))
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestALargeHonestFile(t *testing.T) {
	var into struct {
		Items []map[string]string `yaml:"items"`
	}
	data := "items:\n" + strings.Repeat("  - {name: a-target, vnet: hub, address: 10.0.0.1}\n", 15_000)
	start := time.Now()
	if err := Read("f", []byte(data), &into).Err(); err != nil || len(into.Items) != 15_000 {
		t.Errorf("%d items, %v", len(into.Items), err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestManyFaultsAreCut(t *testing.T) {
	var got form
	err := Read("f", []byte("prefixes: ["+strings.Repeat("x, ", 1000)+"x]\n"), &got).Err()
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != maxFaults {
		t.Errorf("%d faults", len(faults))
	}
}

func TestAnUnparsedFileHasOneFault(t *testing.T) {
	var got form
	f := Read("f", []byte("text: [a\n"), &got)
	f.Fault(f.At("port"), "", "there is no port")
	if err := f.Err(); err == nil || strings.Contains(err.Error(), "port") {
		t.Error(err)
	}
}

// TestSlips: what people get wrong most often is said in words, and where.
func TestSlips(t *testing.T) {
	for data, want := range map[string]string{
		"inner: {deep: [a, b\n":    `f:1:15: the list that begins here does not end; add the ]`,
		"words: {a: b\n":           `f:1:8: the mapping that begins here does not end; add the }`,
		"text: \"a\n":              `f:1:7: the text that begins here does not end; add the "`,
		"text: 'a\n":               `f:1:7: the text that begins here does not end; add the '`,
		"text: a: b\n":             `f:1:7: a value already stands before this colon; check the indentation, or put text with a colon in quotes`,
		"text: a\n  count: 7\n":    `f:1:7: a value already stands before this colon; check the indentation, or put text with a colon in quotes`,
		"words: {a: b}}\n":         `f:1:14: this does not belong here; check the indentation and the brackets before it`,
		"inner:\n\tdeep: [a, b]\n": `f:2:1: a tab stands where the line is indented; indent by spaces`,
	} {
		var got form
		if err := Read("f", []byte(data), &got).Err(); err == nil || err.Error() != want {
			t.Errorf("%q: %v\nwant %s", data, err, want)
		}
	}
}
