package message

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzReader: what is read encodes again to the same bytes, however they are cut, and nothing is longer than it may be.
func FuzzReader(f *testing.F) {
	f.Add(Append(Append(nil, 0, []byte("{}")), 1, nil))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		const max = 16
		r, again := NewReader(iotest.OneByteReader(bytes.NewReader(b)), max), []byte(nil)
		for {
			kind, body, err := r.Next()
			if err != nil {
				if err == io.EOF && !bytes.Equal(again, b) {
					t.Errorf("%x is read as %x", b, again)
				}
				return
			}
			if len(body) > max {
				t.Fatalf("a body of %d bytes", len(body))
			}
			again = Append(again, kind, body)
			if !bytes.HasPrefix(b, again) {
				t.Fatalf("%x is read as %x", b, again)
			}
		}
	})
}
