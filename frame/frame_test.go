package frame

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
)

// header encodes a header whatever it says.
func header(t Type, n int) []byte { return Header{t, n}.Append(nil) }

func TestHeaderBounds(t *testing.T) {
	for i := range 256 {
		typ := Type(i)
		least, most, known := bounds[i].least, bounds[i].most, typeNames[i] != ""
		if !known && typ >= Optional {
			most = maxOption
		}
		for _, n := range []int{0, least - 1, least, most, most + 1, 1 << 16, 1<<24 - 1} {
			if n < 0 {
				continue
			}
			h, err := ParseHeader(header(typ, n))
			var want Code
			switch {
			case !known && typ < Optional:
				want = FrameType
			case n > most:
				want = FrameSize
			case n < least, typ == TypeAck && n%NonceSize != 0:
				want = FrameBad
			}
			if got := codeOf(err); want == "" && err != nil || want != "" && got != want {
				t.Errorf("%v of %d bytes: %v, want %q", typ, n, err, want)
			}
			if err == nil && h != (Header{typ, n}) {
				t.Errorf("%v of %d bytes parses as %+v", typ, n, h)
			}
		}
	}
}

// TestAllocationBound: a length costs nothing before it is checked, and no more than its cap after.
func TestAllocationBound(t *testing.T) {
	for _, typ := range []Type{TypeHello, TypeOpen, TypeData, TypeAck, TypeNotice, 0x05, 0x85} {
		limit := bounds[typ].most
		if typ >= Optional {
			limit = maxOption
		}
		for _, n := range []int{0, limit, limit + 1, 1<<24 - 1} {
			got := allocated(func() { ReadFrame(bytes.NewReader(header(typ, n))) })
			if most := uint64(64<<10 + 4096); got > most {
				t.Errorf("%v of %d bytes: %d bytes allocated", typ, n, got)
			}
			if n > limit && got > 4<<10 {
				t.Errorf("%v of %d bytes, over its cap: %d bytes allocated", typ, n, got)
			}
		}
		if typ == TypeHello {
			continue
		}
		if got := allocated(func() { readHello(bytes.NewReader(header(typ, bounds[typ].most))) }); got > 12<<10 {
			t.Errorf("a stranger's %v cost %d bytes", typ, got)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	f() // once, for what is allocated once
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReadFrameSkips(t *testing.T) {
	b := append(header(0x85, 3), "xyz"...)
	b = AppendProbe(b, TypePing, [8]byte{1})
	b = append(b, header(0xff, 0)...)
	r := bytes.NewReader(b)
	if h, p, err := ReadFrame(r); h.Type != TypePing || p[0] != 1 || err != nil {
		t.Errorf("got %v %x %v", h, p, err)
	}
	if _, _, err := ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for cut := 1; cut < len(b); cut++ {
		r := bytes.NewReader(b[:cut])
		var err error
		for err == nil {
			_, _, err = ReadFrame(r)
		}
		if between := cut == 7 || cut == 19; between != (err == io.EOF) || !between && err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	for name, c := range map[string]struct {
		t Type
		p string
	}{
		"long form of a length": {TypeNotice, "\xa1\x01\x78\x01x"},
		"unknown key":           {TypeNotice, "\xa2\x01\x61x\x02\x61y"},
		"zero spelled out":      {TypeDrain, "\xa1\x01\x00"},
		"empty text":            {TypeNotice, "\xa1\x01\x60"},
		"keys out of order":     {TypeDrain, "\xa2\x02\x61x\x01\x01"},
		"key twice":             {TypeNotice, "\xa2\x01\x61x\x01\x61x"},
		"indefinite map":        {TypeNotice, "\xbf\x01\x61x\xff"},
		"tag":                   {TypeNotice, "\xa1\x01\xc0\x61x"},
		"not UTF-8":             {TypeNotice, "\xa1\x01\x61\xff"},
		"bytes for text":        {TypeNotice, "\xa1\x01\x41x"},
		"text for key":          {TypeNotice, "\xa1\x611\x61x"},
		"array for map":         {TypeNotice, "\x81\x61x"},
		"null":                  {TypeNotice, "\xf6"},
		"rest":                  {TypeNotice, "\xa1\x01\x61x\x00"},
		"float":                 {TypeDrain, "\xa1\x01\xf9\x3c\x00"},
		"lower-case code":       {TypeReset, "\xa1\x01\x63E_a"},
		"no code":               {TypeReset, "\xa1\x02\x61x"},
		"no protocol":           {TypeOpen, "\xa1\x01\x61x"},
		"versions descend":      {TypeHello, "\xa1\x01\x42\x02\x01"},
	} {
		m := newMessage(c.t)
		if err := Parse(c.t, []byte(c.p), m); codeOf(err) != FrameBad {
			t.Errorf("%s: %v, %+v", name, err, m)
		}
	}
}

// TestOpenTooLong: what a person types is refused, not a panic.
func TestOpenTooLong(t *testing.T) {
	_, _, err := Open(t.Context(), newScript(nil), OpenRequest{Target: string(make([]byte, 300)), Protocol: "ssh"}, Options{})
	var se *StreamError
	if !errors.As(err, &se) || se.Code != "E_NAME" || se.Remote {
		t.Errorf("got %v", err)
	}
}

// FuzzFrame: whatever parses encodes again to the same bytes.
func FuzzFrame(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.frame)
	}
	f.Add(append(header(0x90, 2), "hi"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, p, err := ReadFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		Describe(h, p)
		again, err := reencode(h, p)
		if err != nil {
			return
		}
		if want := append(h.Append(nil), p...); !bytes.Equal(again, want) {
			t.Errorf("%x parses as %s and encodes to %x", want, Describe(h, p), again)
		}
	})
}
