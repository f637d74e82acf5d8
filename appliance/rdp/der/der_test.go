package der

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestUint(t *testing.T) {
	for n, want := range map[uint32]string{0: "020100", 127: "02017f", 128: "02020080", 3390: "02020d3e", 0xffffffff: "020500ffffffff"} {
		b := AppendUint(nil, n)
		if hex.EncodeToString(b) != want {
			t.Errorf("%d is %x, want %s", n, b, want)
		}
		if got, err := Uint(b); err != nil || got != n {
			t.Errorf("%x is %d, %v", b, got, err)
		}
	}
	for _, bad := range []string{"", "0200", "020180", "0202007f", "0205ffffffffff", "0206000000000001", "02010000", "0401ff"} {
		b, _ := hex.DecodeString(bad)
		if n, err := Uint(b); err == nil {
			t.Errorf("%s is %d", bad, n)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 255, 256, 65535} {
		b := Append(nil, OctetString, make([]byte, n))
		if value, err := Whole(b, OctetString); err != nil || len(value) != n {
			t.Errorf("%d bytes are read as %d, %v", n, len(value), err)
		}
		if _, err := Whole(append(b, 0), OctetString); err == nil {
			t.Errorf("%d bytes may have something after them", n)
		}
		if n > 0 {
			if _, err := Whole(b[:len(b)-1], OctetString); err != ErrShort {
				t.Errorf("%d bytes that are cut off: %v", n, err)
			}
		}
	}
	for _, bad := range []string{"048100", "04820001", "0480", "0483000000"} {
		b, _ := hex.DecodeString(bad)
		if _, _, err := Read(append(b, make([]byte, 300)...), OctetString); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(AppendUint(nil, 3390))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := Uint(b); err == nil && !bytes.Equal(AppendUint(nil, n), b) {
			t.Errorf("%x has another spelling", b)
		}
		if value, err := Whole(b, OctetString); err == nil && !bytes.Equal(Append(nil, OctetString, value), b) {
			t.Errorf("%x has another spelling", b)
		}
	})
}
