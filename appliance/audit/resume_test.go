package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTornLine: whatever is left of a last line is cut off, and an event says how much and what it was.
func TestTornLine(t *testing.T) {
	for what, rest := range map[string]string{
		"half a line":      `{"seq":5,"time":"2026-11`,
		"no JSON":          "{\"seq\":5,\"time\"}\n",
		"zeros":            strings.Repeat("\x00", 100),
		"a page of zeros":  strings.Repeat("\x00", 3*maxLine),
		"a whole line but": `{"seq":5,"time":"2026-11-26T19:53:25.120000Z","event":"flow.end","prev":"00"}`,
	} {
		l := open(t, Config{})
		write(t, l, 0, 3)
		dir := crash(t, l)
		appendTo(t, dir, segmentName(1), rest)
		l = open(t, Config{Dir: dir})
		write(t, l, 3, 1)
		closeLog(t, l)
		verify(t, dir)
		list := events(t, dir)
		torn := ofKind(list, Torn)
		if len(torn) != 1 || torn[0].Object != segmentName(1) || torn[0].Detail["bytes"] != fmt.Sprint(len(rest)) ||
			torn[0].Detail["sha256"] != fmt.Sprintf("%x", sha256.Sum256([]byte(rest))) {
			t.Errorf("%s: got %+v", what, torn)
		}
		if got := ofKind(list, FlowOpen); len(got) != 4 {
			t.Errorf("%s: %d events", what, len(got))
		}
	}
}

// crash returns a copy of the folder as a kill at this moment would leave it.
func crash(t *testing.T, l *Log) string {
	t.Helper()
	dir := t.TempDir()
	for name, f := range load(t, l.cfg.Dir) {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func appendTo(t *testing.T, dir, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestTornBeginning: a process that died before the log had begun leaves nothing that matters.
func TestTornBeginning(t *testing.T) {
	whole := load(t, open(t, Config{}).cfg.Dir)
	first := string(whole[segmentName(1)].Data)
	for name, text := range map[string]string{segmentName(1) + ".tmp": first[:100], segmentName(1): first} {
		dir := t.TempDir()
		appendTo(t, dir, name, text)
		l := open(t, Config{Dir: dir})
		write(t, l, 0, 1)
		closeLog(t, l)
		verify(t, dir)
		if _, err := os.Stat(filepath.Join(dir, segmentName(1)+".tmp")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnpublished: a process may die between a head and its publication.
func TestUnpublished(t *testing.T) {
	l := open(t, Config{SegmentBytes: 3 << 10, HeadLines: 5})
	published := load(t, l.cfg.Dir)[headFile].Data
	write(t, l, 0, 30)
	dir := crash(t, l)
	if err := os.WriteFile(filepath.Join(dir, headFile), published, 0o600); err != nil {
		t.Fatal(err)
	}
	verify(t, dir)
	closeLog(t, open(t, Config{Dir: dir}))
	verify(t, dir)
}

// TestRefusesToGoOn: Open wants the last segment whole, the one before it in its place, and the end that head.json promises.
func TestRefusesToGoOn(t *testing.T) {
	l := open(t, Config{SegmentBytes: 3 << 10})
	write(t, l, 0, 25)
	closeLog(t, l)
	files := load(t, l.cfg.Dir)
	segments, err := listSegments(files)
	if err != nil || len(segments) < 3 {
		t.Fatal(segments, err)
	}
	last, before := segments[len(segments)-1].name(), segments[len(segments)-2].name()
	edit := func(name string, change func([]byte) []byte) func(string) error {
		return func(dir string) error {
			return os.WriteFile(filepath.Join(dir, name), change(bytes.Clone(files[name].Data)), 0o600)
		}
	}
	withoutLast := func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }
	for _, c := range []struct {
		what   string
		change func(dir string) error
		want   string
	}{
		{"a changed event", edit(last, func(b []byte) []byte { return bytes.Replace(b, []byte("ann"), []byte("bob"), 1) }), last + ", line"},
		{"a missing line", edit(last, func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(append(lines[:1:1], lines[2:]...), nil)
		}), last + ", line 2"},
		{"an end cut off at a line", edit(last, withoutLast), "the end is missing"},
		{"an end cut off in a line", edit(last, func(b []byte) []byte { return b[:len(b)-5] }), "the end is missing"},
		{"a line after the end", edit(last, func(b []byte) []byte {
			e := Event{Seq: l.seq + 1, Kind: FlowOpen, Prev: l.hash}
			forged, err := line(e)
			if err != nil {
				t.Fatal(err)
			}
			return append(b, forged...)
		}), "while the log was closed"},
		{"a long line", edit(last, func(b []byte) []byte { return append(b, strings.Repeat("x", maxLine)+"\n{}\n"...) }), "longer than"},
		{"a broken line before another", edit(last, func(b []byte) []byte { return append(b, "{\n{}\n"...) }), "not an event"},
		{"an empty last segment", edit(last, func([]byte) []byte { return nil }), "is empty"},
		{"a last segment of half a line", edit(last, func(b []byte) []byte { return b[:50] }), last + ", line 1"},
		{"a last segment that is no JSON", edit(last, func(b []byte) []byte { return []byte("{\n") }), last + ", line 1"},
		{"an empty segment before it", edit(before, func([]byte) []byte { return nil }), before + ", line 1"},
		{"a segment before it that ends too early", edit(before, withoutLast), before},
		{"no last segment", func(dir string) error { return os.Remove(filepath.Join(dir, last)) }, "the end is missing"},
		{"no segment before it", func(dir string) error { return os.Remove(filepath.Join(dir, before)) }, "its last line is not the one"},
		{"another name", func(dir string) error {
			return os.Rename(filepath.Join(dir, last), filepath.Join(dir, segmentName(segments[len(segments)-1].first+1)))
		}, "begins with line"},
		{"no head.json", func(dir string) error { return os.Remove(filepath.Join(dir, headFile)) }, headFile + ": it is missing"},
		{"a changed head.json", edit(headFile, func(b []byte) []byte { return bytes.Replace(b, []byte(`"count":`), []byte(`"count":1`), 1) }), headFile},
		{"half a head.json", edit(headFile, func(b []byte) []byte { return b[:len(b)-1] }), headFile},
		{"an empty head.json", edit(headFile, func([]byte) []byte { return nil }), headFile},
		{"no segments", func(dir string) error {
			for _, s := range segments {
				if err := os.Remove(filepath.Join(dir, s.name())); err != nil {
					return err
				}
			}
			return nil
		}, "the end is missing"},
	} {
		dir := crash(t, l)
		if err := c.change(dir); err != nil {
			t.Fatal(err)
		}
		before := load(t, dir)
		again, err := Open(Config{Dir: dir, Key: testKey})
		if err == nil {
			again.Close()
			t.Errorf("%s: the log goes on", c.what)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: got %q, which does not say %q", c.what, err, c.want)
		}
		after := load(t, dir)
		for name, f := range before {
			if after[name] == nil || !bytes.Equal(f.Data, after[name].Data) {
				t.Errorf("%s: %s was changed, which is evidence", c.what, name)
			}
		}
		if _, err := Verify(os.DirFS(dir), testPublic); err == nil {
			t.Errorf("%s: Verify found nothing", c.what)
		}
	}
}
