package rdp

import (
	"bytes"
	"testing"
)

func TestConnectionRequest(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		protocols   uint32
		ok          bool
	}{
		{"ours", "03000013 0ee00000000000 01000800 0b000000", 11, true},
		{"with a cookie", "0300002c 27e00000000000 436f6f6b69653a206d737473686173683d657374650d0a 01000800 03000000", 0, false},
		{"with a cookie of the right length", "0300002a 25e00000000000 436f6f6b69653a206d737473686173683d657374650d0a 01000800 03000000", 3, true},
		{"none negotiated", "0300000b 06e00000000000", 0, true},
		{"a confirm", "03000013 0ed00000123400 02000800 01000000", 0, false},
		{"cut off", "03000012 0de00000000000 01000800 0b0000", 0, false},
	} {
		b := unhex(c.bytes)
		protocols, err := CheckConnectionRequest(b)
		if (err == nil) != c.ok || protocols != c.protocols {
			t.Errorf("%s (%d bytes): %d, %v", c.name, len(b), protocols, err)
		}
	}
	if got, want := AppendConnectionRequest(nil, 11), unhex("03000013 0ee00000000000 01000800 0b000000"); !bytes.Equal(got, want) {
		t.Errorf("the request is %x, want %x", got, want)
	}
}

func TestConfirm(t *testing.T) {
	c, err := ParseConfirm(unhex("03000013 0ed00000123400 02010800 02000000"))
	if err != nil || c.Selected != CredSSP || c.Failure != 0 {
		t.Errorf("read %+v, %v", c, err)
	}
	if got, want := c.Saying(TLS), unhex("03000013 0ed00000123400 02010800 01000000"); !bytes.Equal(got, want) {
		t.Errorf("with TLS it is %x", got)
	}
	if c, err = ParseConfirm(unhex("03000013 0ed00000123400 03000800 05000000")); err != nil || c.Failure != 5 {
		t.Errorf("read %+v, %v", c, err)
	}
	if c, err = ParseConfirm(unhex("0300000b 06d00000123400")); err != nil || c.Selected != Standard {
		t.Errorf("read %+v, %v", c, err)
	}
	for _, bad := range []string{"", "0300000b 06e00000123400", "03000013 0ed00000123400 04000800 01000000", "03000012 0dd00000123400 02000800 010000"} {
		if _, err := ParseConfirm(unhex(bad)); err == nil {
			t.Errorf("%s is a confirm", bad)
		}
	}
}

func FuzzX224(f *testing.F) {
	f.Add(unhex("03000013 0ee00000000000 01000800 0b000000"))
	f.Add(unhex("03000013 0ed00000123400 02000800 01000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		CheckConnectionRequest(b)
		if c, err := ParseConfirm(b); err == nil && c.Selected != 0 && !bytes.Equal(c.Saying(c.Selected), b) {
			t.Errorf("%x is not what it says", b)
		}
	})
}
