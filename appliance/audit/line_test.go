package audit

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

var someTime = time.Date(2026, 11, 26, 20, 53, 25, 120_000_000, time.FixedZone("CET", 3600))

func TestLine(t *testing.T) {
	e := Event{
		Seq: 7, Time: someTime, Kind: FlowEnd, Appliance: "bastion-1", Flow: "f873cc2356bd", User: "ann", Source: "10.77.1.2:51234",
		Target: "db-1", Port: 22, Policies: []string{"operators"}, Up: 1 << 40, Duration: 3471, Why: "<a> & \"b\"", Prev: noLine,
	}
	b, err := line(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":7,"time":"2026-11-26T19:53:25.120000Z","event":"flow.end","appliance":"bastion-1","flow":"f873cc2356bd",` +
		`"user":"ann","source":"10.77.1.2:51234","target":"db-1","port":22,"policies":["operators"],"why":"<a> & \"b\"",` +
		`"up":1099511627776,"duration_ms":3471,"prev":"` + noLine + "\"}\n"
	if string(b) != want {
		t.Errorf("got  %swant %s", b, want)
	}
}

// TestEscape puts into a name what terminals, browsers and shippers of logs obey.
func TestEscape(t *testing.T) {
	for _, name := range []string{
		"a\nb\r\t\x00\x1b[2Jc", "del\x7f", "c1\u009b31m", "bidi\u202egnp.exe\u2066", "zero\u200bwidth\ufeff", "line\u2028par\u2029",
		"tag\U000e0041", "private\ue000\U0010ffff", "nbsp\u00a0", "Zoë 東京 😀 \\ \"quoted\"", `\u001b`,
	} {
		e := Event{Seq: 1, Kind: SignInRefused, User: name, Detail: map[string]string{name: name}, Policies: []string{name}}
		b, err := line(e)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSuffix(string(b), "\n")
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: does not print: %q", name, text)
		}
		got, err := parseLine([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got.User != name || got.Detail[name] != name || got.Policies[0] != name {
			t.Errorf("%q became %q", name, got.User)
		}
	}
}

func TestInvalidText(t *testing.T) {
	b, err := line(Event{Seq: 1, Kind: SignInRefused, User: "a\xffb\xc3"})
	if err != nil || !json.Valid(b) || !bytes.Contains(b, []byte(`a\ufffdb\ufffd`)) {
		t.Errorf("got %s, %v", b, err)
	}
}

// TestClip gives every field more than a line holds, of what grows most when it is escaped.
func TestClip(t *testing.T) {
	for _, long := range []string{strings.Repeat("x", 1<<20), strings.Repeat("\x00", 20000), strings.Repeat("\u200b", 20000), strings.Repeat("\x80", 5000)} {
		e := Event{Seq: 1, Time: someTime, Kind: FlowEnd, Prev: noLine, Appliance: strings.Repeat("\x01", maxName), Detail: map[string]string{}}
		for v, i := reflect.ValueOf(&e).Elem(), 0; i < v.NumField(); i++ {
			switch name := v.Type().Field(i).Name; {
			case name == "Kind" || name == "Prev" || name == "Appliance" || name == "Key" || name == "Sig":
			case v.Field(i).Kind() == reflect.String:
				v.Field(i).SetString(long)
			}
		}
		for i := range 1000 {
			e.Policies = append(e.Policies, long)
			e.Detail[strings.Repeat("k", i)+long[:2000]] = long
		}
		before := maps.Clone(e.Detail)
		b, err := line(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxLine || !json.Valid(b) || !strings.Contains(string(b), "bytes more") {
			t.Errorf("%.10q: %d bytes", long, len(b))
		}
		if len(e.Policies) != 1000 || !maps.Equal(before, e.Detail) {
			t.Errorf("the caller's event was changed")
		}
	}
}

// TestClipSaysHowMuch wants what fits to be left alone, and a mark with the right number on what does not.
func TestClipSaysHowMuch(t *testing.T) {
	fits := strings.Repeat("é", maxText/2)
	if got := clipText(fits, maxText); got != fits {
		t.Errorf("%d bytes became %d", len(fits), len(got))
	}
	if got, want := clipText("x"+fits, maxText), "x"+strings.Repeat("é", maxText/2-1)+"… 2 bytes more"; got != want {
		t.Errorf("got … %q", got[len(got)-30:])
	}
	if got := clipList([]string{"a", "b", "c"}, 2, 10); !reflect.DeepEqual(got, []string{"a", "b", "… 1 more"}) {
		t.Errorf("got %q", got)
	}
	if got := clipDetail(map[string]string{"a": "1", "b": "2", "c": "3"}, 1, 10); !maps.Equal(got, map[string]string{"a": "1", "…": "2 more"}) {
		t.Errorf("got %q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"seq":1}`, `{"seq":0,"event":"a"}`, `{"seq":-1,"event":"a"}`, `{"seq":1,"event":"a"} x`,
		`{"seq":1,"event":"a","time":"yesterday"}`, `{"seq":1,"event":"a","sig":"00"}`, `{"seq":1,"event":"a","why":"` + strings.Repeat("x", maxLine) + `"}`,
	} {
		if e, err := parseLine([]byte(text)); err == nil {
			t.Errorf("%.40q was taken for %+v", text, e)
		}
	}
}

// FuzzLine: what is taken for an event can be written as a line, which prints and says the same.
func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"seq":7,"time":"2026-11-26T19:53:25.120000Z","event":"flow.end","user":"ann","detail":{"a":"b"},"prev":"00"}`))
	f.Add([]byte(`{"seq":1,"event":"head","format":1,"count":3,"key":"00","sig":"00","why":"\u202e\ud83d\ude00"}`))
	f.Add([]byte(`{"SEQ":1,"event":"a","policies":["\u0000"],"port":65535,"up":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseLine(b)
		if err != nil || e.Time.Year() < 1 || e.Time.Year() > 9998 {
			return
		}
		out, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("does not print: %q", out)
		}
		var again Event
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		e.Time, again.Time = e.Time.UTC().Truncate(time.Microsecond), again.Time.UTC()
		if len(e.Policies) == 0 {
			e.Policies, again.Policies = nil, nil
		}
		if len(e.Detail) == 0 {
			e.Detail, again.Detail = nil, nil
		}
		if !reflect.DeepEqual(e, again) {
			t.Fatalf("%s\nbecame %s", b, out)
		}
		whole, err := line(e)
		if err != nil || len(whole) > maxLine {
			t.Fatalf("%d bytes, %v", len(whole), err)
		}
	})
}
