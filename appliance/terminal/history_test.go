package terminal

import (
	"strings"
	"testing"
)

// A recorded is a filter with the history of what it passes, in pieces.
type recorded struct {
	*filter
	*history
}

func record(h *history, pieces ...string) recorded {
	r := recorded{newFilter(func([]byte) bool { return false }), h}
	r.add(pieces...)
	return r
}

func (r recorded) add(pieces ...string) {
	for _, p := range pieces {
		r.write(r.pass([]byte(p)), r.filter.marks)
	}
}

func (r recorded) replayed() string { return string(r.replay(r.filter.modes)) }

func TestModes(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "",
		"\x1b[?1h\x1b=":              "\x1b[?1h\x1b[?66h",
		"\x1b[?1;25l\x1b[?1;2004h":   "\x1b[?2004h\x1b[?1h\x1b[?25l",
		"\x1b[?1000h\x1b[?1003h":     "\x1b[?1003h",
		"\x1b[?1003h\x1b[?1000l":     "",
		"\x1b[?1002h\x1b[?1006h":     "\x1b[?1002h\x1b[?1006h",
		"\x1b[?47h":                  "\x1b[?1049h",
		"\x1b[?1049h\x1b[?1047l":     "",
		"\x1b[4h\x1b[20h\x1b[?3h":    "\x1b[4h",
		"\x1b[?7l\x1b[?6h":           "\x1b[?6h\x1b[?7l",
		"\x1b[5 q":                   "\x1b[5 q",
		"\x1b[?1049;1;1002h\x1b[!p":  "\x1b[?1049h\x1b[?1002h",
		"\x1b[?1049;1;1002h\x1bc":    "",
		"\x1b[?1$h\x1b[1h\x1b[>1h":   "",
		"\x1b[?1\x1b[?25l":           "\x1b[?25l",
		"\x1b[?100001h":              "",
		"\x1b]0;\x1b[?1h\x07":        "\x1b[?1h",
		"\x1b]0;[?1h\x07":            "",
		"\x1b[?001h\x1b[?;;h\x1b[?h": "\x1b[?1h",
		"\x1b[\x07?\x00104\x0a9h":    "\x1b[?1049h",
	} {
		r := record(newHistory(), bytesOf(in)...)
		got := change(modes{}, r.filter.modes)
		if string(got) != want {
			t.Errorf("%q switches %q, want %q", in, got, want)
		}
		if back := change(r.filter.modes, modes{}); want != "" {
			if r.add(string(back)); r.filter.modes != (modes{}) {
				t.Errorf("%q after %q leaves %+v", back, in, r.filter.modes)
			}
		}
	}
}

func TestHistory(t *testing.T) {
	line := strings.Repeat("x", 98) + "\r\n"
	lines, paint := strings.Repeat(line, 2*maxNormal/len(line)), strings.Repeat("\x1b[1;1Hpainted", maxAlternate/10)

	// All of it, while it is short.
	r := record(newHistory(), "one\r\n\x1b[?2004hprompt")
	if got := r.replayed(); got != "one\r\n\x1b[?2004hprompt" {
		t.Errorf("what is short is replayed as %q", got)
	}

	// What is too long begins with a line, and with what was switched.
	r.add("\x1b[?25l")
	r.add(lines)
	r.add("last\x1b[?25h")
	got := r.replayed()
	if want := "\x1b[?2004h\x1b[?25l" + line; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, line+"last\x1b[?25h") || len(got) > maxNormal+20 || len(got) < maxNormal-2*markEvery {
		t.Errorf("%d bytes are replayed, from %.150q", len(got), got)
	}

	// A program that paints for long pushes nothing out.
	r.add("\r\nbefore\x1b[?1049h\x1b[?1h\x1b[?1006h\x1b[?1002h", paint, "end")
	if got = r.replayed(); !strings.Contains(got, line+"last\x1b[?25h\r\nbefore\x1b[?1049h\x1b[?1h\x1b[?1002h\x1b[?1006h\x1b[1;1Hpainted") || !strings.HasSuffix(got, "paintedend") || len(got) > maxNormal+maxAlternate+50 {
		t.Errorf("%d bytes are replayed, to %q", len(got), got[len(got)-100:])
	}

	// And when it leaves, what it has painted is gone, but not what it has switched.
	r.add("\x1b[?1002l\x1b[?1049lafter")
	if got = r.replayed(); !strings.HasSuffix(got, "\r\nbefore\x1b[?1h\x1b[?1006hafter") || strings.Contains(got, "painted") || strings.Contains(got, "1049") {
		t.Errorf("after a program %q is replayed", got[len(got)-100:])
	}

	// What has no beginning is not shown from its middle.
	r = record(newHistory(), "\x1b[?1h\x1b]0;", strings.Repeat("title ", 2*maxNormal/6))
	if got = r.replayed(); got != "\x1b[?1h" {
		t.Errorf("a long title is replayed as %.100q", got)
	}
	r.add("\x07\nafter")
	if got = r.replayed(); got != "\x1b[?1hafter" {
		t.Errorf("a long title is replayed as %.100q", got)
	}
}

// FuzzHistory: a replay switches what the output has switched, whatever was lost, and passes the filter as it is.
func FuzzHistory(f *testing.F) {
	for _, s := range []string{"\x1b[?1049h\x1b[?1;2004h\n\x1b[?1049l", "\x1bP\x1b[?1h\nü\x18\n", "\x1b]0;\n\x1b[?1002h\x1b[!p", "\x1b[?1047;25l\x1bc\x1b[3 q"} {
		f.Add([]byte(s), 5)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if len(b) == 0 {
			return
		}
		cut = max(0, min(cut, len(b)))
		r := record(&history{normal: newRing(3 * markEvery), alternate: newRing(2 * markEvery)})
		for range min(1000, 16*markEvery/len(b)) + 1 {
			r.add(string(b[:cut]), string(b[cut:]))
		}
		replayed := r.replayed()
		again := record(newHistory(), replayed)
		if again.filter.modes != r.filter.modes {
			t.Fatalf("%q has switched %+v, its replay %+v", b, r.filter.modes, again.filter.modes)
		}
		if limit := 5*markEvery + 500; len(replayed) > limit || len(r.normal.marks) > 5 || len(r.alternate.marks) > 5 {
			t.Fatalf("%q is replayed by %d bytes", b, len(replayed))
		}
	})
}

// BenchmarkOutput is what the output costs on its way to who looks at it: lines of text, and a program that paints.
func BenchmarkOutput(b *testing.B) {
	for name, text := range map[string]string{"lines": "drwxr-xr-x 2 root root 4096 Jan  1 00:00 some-name\r\n", "paint": "\x1b[12;40H\x1b[1;32mwords\x1b[0m \x1b[K"} {
		b.Run(name, func(b *testing.B) {
			r, piece := record(newHistory()), []byte(strings.Repeat(text, maxOutput/len(text)))
			b.SetBytes(int64(len(piece)))
			b.ReportAllocs()
			for b.Loop() {
				r.write(r.pass(piece), r.filter.marks)
			}
		})
	}
}
