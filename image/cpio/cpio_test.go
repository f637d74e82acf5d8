package cpio

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

var sample = []Entry{
	{Name: "dev", Mode: Directory | 0o755, Data: []byte{}},
	{Name: "dev/console", Mode: Character | 0o600, Major: 5, Minor: 1, Data: []byte{}},
	{Name: "init", Mode: Regular | 0o755, Data: []byte("#!")},
	{Name: "sbin", Mode: Link | 0o777, Data: []byte("/usr/sbin")},
}

func archive(t testing.TB, entries []Entry) []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(b []byte) (entries []Entry, err error) {
	for r := NewReader(bytes.NewReader(b)); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
}

func TestRoundTrip(t *testing.T) {
	b := archive(t, sample)
	if len(b)%4 != 0 {
		t.Errorf("%d bytes are not a multiple of four", len(b))
	}
	got, err := read(b)
	if err != nil || !reflect.DeepEqual(got, sample) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range len(b) {
		if _, err := read(b[:n]); err == nil && n < len(b)-3 { // the trailer may lack what fills up
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}

// TestForm compares with an entry as GNU cpio writes it, but for the times.
func TestForm(t *testing.T) {
	b := archive(t, []Entry{{Name: "a", Mode: Regular | 0o644, Data: []byte("hi\n")}})
	want := "070701" + "00000001" + "000081A4" + "00000000" + "00000000" + "00000001" + "00000000" + "00000003" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000002" + "00000000" + "a\x00" + "hi\n\x00"
	if !strings.HasPrefix(string(b), want) {
		t.Errorf("got %q", b)
	}
}

func TestWriterRefuses(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("x", maxName)} {
		if err := NewWriter(io.Discard).Write(Entry{Name: name}); err == nil {
			t.Errorf("a name of %d bytes: no error", len(name))
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(archive(f, sample))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := read(b)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Name == "" || strings.Contains(e.Name, trailer) {
				return
			}
		}
		again, err := read(archive(t, entries))
		if err != nil || !reflect.DeepEqual(again, entries) {
			t.Errorf("%+v became %+v, %v", entries, again, err)
		}
	})
}
