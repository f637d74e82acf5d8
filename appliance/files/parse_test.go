package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"sallyport/frame"
)

// TestMessages: what is no message ends the flow before anything is allocated for it, and says so.
func TestMessages(t *testing.T) {
	for name, in := range map[string]string{
		"no kind":          "\x00\x00\x00\x00\x10",
		"unknown kind":     "\x00\x00\x00\x01\x15",
		"a request of 4 G": "\xff\xff\xff\xff\x10",
		"a long request":   "\x00\x01\x00\x01\x10",
		"long data":        "\x00\x04\x00\x01\x11",
		"short data":       "\x00\x00\x00\x0c\x11" + strings.Repeat("\x00", 11),
		"long credit":      "\x00\x00\x00\x0e\x12" + strings.Repeat("\x00", 13),
		"far credit":       "\x00\x00\x00\x0d\x12\x00\x00\x00\x01\x80" + strings.Repeat("\x00", 7),
		"odd cancel":       "\x00\x00\x00\x06\x13\x00\x00\x00\x01\x02",
		"cut":              "\x00\x00\x00\x06\x13\x00\x00",
		"cut head":         "\x00\x00",
		"no JSON":          "\x00\x00\x00\x02\x10{",
		"two of JSON":      "\x00\x00\x00\x05\x10{}{}",
		"unknown field":    "\x00\x00\x00\x08\x10" + `{"x":1}`,
		"negative id":      "\x00\x00\x00\x0a\x10" + `{"id":-1}`,
		"no base64":        "\x00\x00\x00\x0d\x10" + `{"path":"*"}`,
	} {
		_, err := readMessage(strings.NewReader(in))
		if r, ok := frame.ReasonOf(err); !ok || r.Code != frame.FrameBad || r.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readMessage(strings.NewReader("")); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}

// FuzzMessage: whatever the parser takes encodes back to the same bytes, or to the same request.
func FuzzMessage(f *testing.F) {
	request, err := appendJSON(nil, kindRequest, request{ID: 7, Op: "rename", Path: []byte("/a\xff"), To: []byte("/b")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add(appendData(nil, 1, 1<<40, []byte("hello")))
	f.Add(appendCredit(nil, 1, 1<<20))
	f.Add([]byte("\x00\x00\x00\x06\x13\x00\x00\x00\x01\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		m, err := readMessage(r)
		if err != nil {
			return
		}
		var out []byte
		switch m.kind {
		case kindData:
			out = appendData(nil, m.id, m.offset, m.bytes)
		case kindCredit:
			out = appendCredit(nil, m.id, m.offset)
		case kindCancel:
			out = append(binary.BigEndian.AppendUint32([]byte("\x00\x00\x00\x06\x13"), m.id), 0)
			if m.keep {
				out[len(out)-1] = 1
			}
		case kindRequest:
			again, err := appendJSON(nil, kindRequest, m.request)
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseMessage(kindRequest, again[5:])
			if err != nil {
				t.Fatalf("%s is not taken back: %v", again, err)
			}
			if third, _ := appendJSON(nil, kindRequest, back.request); !bytes.Equal(again, third) {
				t.Errorf("%s became %s", again, third)
			}
			return
		}
		if taken := in[:len(in)-r.Len()]; !bytes.Equal(out, taken) {
			t.Errorf("%x became %x", taken, out)
		}
	})
}

// FuzzNames: whatever a server sends, in whatever pieces, the meter keeps its count and its memory.
func FuzzNames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x09\x68\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x09\x68\x00\x00\x00\x01\x00\x00\x00\x03"), 3)
	f.Add([]byte("\x00\x00\x00\x05\x65\x00\x00\x00\x01"), 1)
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		whole, pieces := &nameMeter{}, &nameMeter{}
		whole.see(in)
		for rest, n := in, 1+(piece&0xff); len(rest) > 0; {
			n = min(n, len(rest))
			pieces.see(rest[:n])
			rest = rest[n:]
		}
		if whole.names != pieces.names || whole.bytes != pieces.bytes || whole.left != pieces.left || len(whole.head) > 13 {
			t.Errorf("%d names of %d bytes at once, %d of %d in pieces", whole.names, whole.bytes, pieces.names, pieces.bytes)
		}
	})
}

// TestNameMeter: a server that lists without end is stopped.
func TestNameMeter(t *testing.T) {
	packet := []byte("\x00\x00\x00\x09\x68\x00\x00\x00\x01\x00\x00\xff\xff")
	m := &nameMeter{r: bytes.NewReader(bytes.Repeat(packet, 3))}
	stopped := 0
	m.begin(func() { stopped++ })
	if _, err := io.ReadAll(m); err != nil {
		t.Fatal(err)
	}
	if m.names != 3*0xffff || stopped == 0 {
		t.Errorf("%d names, stopped %d times", m.names, stopped)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain.txt":         "plain.txt",
		"Grüße 日本 👩\u200d💻": "Grüße 日本 👩\u200d💻",
		"a\nb\x1b[31m":      `a\x0ab\x1b[31m`,
		"a\u202egpj.exe":    `a\u202egpj.exe`,
		"caf\xe9":           `caf\xe9`,
		"x\u2028y":          `x\u2028y`,
		"\U000e0041":        `\U000e0041`,
	} {
		if got := textOf(in); got != want {
			t.Errorf("%q: %q, and not %q", in, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, good := range []string{"/", "/a", "/a/b\xff", "/ ", "/...", "/-rf", "/" + strings.Repeat("n", 255), "/a\nb"} {
		if err := checkPath([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a", "/a/", "//", "/a//b", "/.", "/..", "/a/../b", "/a\x00", "/" + strings.Repeat("n", 256), strings.Repeat("/nnnnnnn", 513)} {
		if err := checkPath([]byte(bad)); err == nil {
			t.Errorf("%q is a path", bad)
		}
	}
	for _, bad := range []string{"/", "/a\nb", "/a\u202eb", "/\xff", "/\u2066"} {
		if err := checkNew([]byte(bad)); err == nil {
			t.Errorf("%q can be made", bad)
		}
	}
}

// TestBeside: names that are made up fit, end as they should, and are not those of others.
func TestBeside(t *testing.T) {
	long := "/d/" + strings.Repeat("é", 127) + "x"
	for _, name := range []string{"/d/a.txt", "/d/.profile", long, "/d/" + strings.Repeat("x", 250) + ".gz"} {
		for _, made := range []string{partOf("ann", name, 1, 2), another(name, 2), another(name, 1000)} {
			if err := checkPath([]byte(made)); err != nil {
				t.Errorf("%q: %v", made, err)
			}
			if checkNew([]byte(made)) != nil || made == name {
				t.Errorf("%q of %q", made, name)
			}
		}
	}
	if got := another("/d/a.txt", 2); got != "/d/a (2).txt" {
		t.Error(got)
	}
	if got := another("/d/.profile", 3); got != "/d/.profile (3)" {
		t.Error(got)
	}
	a := partOf("ann", "/d/a", 1, 2)
	for _, b := range []string{partOf("bob", "/d/a", 1, 2), partOf("ann", "/d/b", 1, 2), partOf("ann", "/d/a", 2, 2), partOf("ann", "/d/a", 1, 3)} {
		if a == b {
			t.Errorf("%s is of two uploads", a)
		}
	}
}

// FuzzArchived: whatever a file is called, it has a name in an archive that leads nowhere and stands for nothing else.
func FuzzArchived(f *testing.F) {
	for _, name := range []string{"a", "..", ". .", "con", "Com1.tar.gz", "lpt¹ .x", "nul.", "a\\b", "\xff", "\u202e", strings.Repeat("\x01", 255), strings.Repeat("é", 127) + ".", "com1." + strings.Repeat("x", 250)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName([]byte(name)) != nil && name != ".." {
			return
		}
		made := archived(name)
		if checkNew([]byte("/"+made)) != nil || checkName([]byte(made)) != nil || strings.ContainsAny(made, `\/:*?"<>|`) || strings.HasSuffix(made, ".") || strings.HasSuffix(made, " ") ||
			device.MatchString(made) || strings.ContainsFunc(made, hidden) {
			t.Errorf("%q became %q", name, made)
		}
		if archived(made) != made {
			t.Errorf("%q became %q, and that another", name, made)
		}
	})
}

// TestInbox: bytes come out as they went in, and no more are held than the window.
func TestInbox(t *testing.T) {
	const size = 3*window + 5
	b := newInbox(size)
	if err := b.put(0, nil); code(err) != frame.Credit {
		t.Errorf("before the answer: %v", err)
	}
	b.offer(7)
	if err := b.put(3, nil); code(err) != frame.FrameBad {
		t.Errorf("a beginning that was not offered: %v", err)
	}
	put := int64(7)
	fill := func() {
		for {
			p := bytes.Repeat([]byte{byte(put / 1000)}, 1000)
			if err := b.put(put, p); err != nil {
				if code(err) != frame.Credit {
					t.Fatal(err)
				}
				return
			}
			put += 1000
		}
	}
	fill()
	if put > 7+window || len(b.ring) > window {
		t.Fatalf("%d bytes are held in %d", put-7, len(b.ring))
	}
	taken, buf := int64(7), make([]byte, 33_333)
	for range 60 {
		n, limit, err := b.take(t.Context(), buf)
		if err != nil || n == 0 || limit != taken+int64(n)+window {
			t.Fatal(n, limit, err)
		}
		for _, c := range buf[:n] {
			if want := byte((7 + (taken-7)/1000*1000) / 1000); c != want {
				t.Fatalf("%d at %d, and not %d", c, taken, want)
			}
			taken++
		}
		fill()
		if put >= size-2000 {
			break
		}
	}
	if err := b.put(put, make([]byte, size)); code(err) != frame.FrameBad {
		t.Errorf("more than the file has: %v", err)
	}
	if err := b.put(put+1, nil); code(err) != frame.FrameBad {
		t.Errorf("a gap: %v", err)
	}
}

func code(err error) frame.Code {
	var known *frame.StreamError
	if errors.As(err, &known) {
		return known.Code
	}
	return ""
}
