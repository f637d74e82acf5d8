package desktop

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport/appliance/rdp"
)

func say(kind byte, body string) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), kind), body...)
}

func TestStart(t *testing.T) {
	s, err := readStart(bytes.NewReader(say(kindStart, `{"user":"CORP\\ann","password":"a\"\\\u00fc\ud83d\ude00ü€😀\n","width":1920,"height":1200}`)))
	if err != nil {
		t.Fatal(err)
	}
	if s.User != "ann" || s.Domain != "CORP" || s.Width != 1920 || s.Height != 1200 {
		t.Errorf("read %+v", s)
	}
	if want := rdp.UTF16("a\"\\ü😀ü€😀\n"); !bytes.Equal(*s.Password, want) {
		t.Errorf("the password is %x, want %x", *s.Password, want)
	}
	if s, err = readStart(bytes.NewReader(say(kindStart, `{}`))); err != nil || s.Password != nil {
		t.Errorf("without a password: %+v, %v", s, err)
	}
	for _, bad := range []string{"", "[]", "{}{}", `{"user":1}`, `{"password":1}`, `{"colour":"red"}`, `{"width":10,"height":10}`, `{"width":800}`, `{"credssp":"off"}`,
		`{"user":"` + strings.Repeat("a", maxName+1) + `"}`, `{"password":"` + strings.Repeat("a", maxPassword) + `"}`, `{"user":"a\u0000b"}`} {
		if s, err := readStart(bytes.NewReader(say(kindStart, bad))); err == nil {
			t.Errorf("%s is read as %+v", bad, s)
		}
	}
	if _, err := readStart(bytes.NewReader(say(kindBytes, `{}`))); err == nil {
		t.Error("bytes of the client are a start")
	}
}

func TestStream(t *testing.T) {
	all := append(append(say(kindBytes, "one"), say(kindBytes, "")...), say(kindBytes, "two")...)
	if got, err := io.ReadAll(&stream{r: iotest.OneByteReader(bytes.NewReader(all))}); string(got) != "onetwo" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if got, err := io.ReadAll(&stream{r: bytes.NewReader(all[:len(all)-1])}); err != io.ErrUnexpectedEOF {
		t.Errorf("of a message that is cut off %q is read, %v", got, err)
	}
	for _, bad := range [][]byte{say(kindStart, "{}"), {0, 0, 0, 0, 1}, {0xff, 0, 0, 0, 1}} {
		if got, err := io.ReadAll(&stream{r: bytes.NewReader(bad)}); err == nil {
			t.Errorf("%x is read as %q", bad, got)
		}
	}
}

func TestVault(t *testing.T) {
	v := new(vault)
	if _, _, _, ok := v.kept(); ok {
		t.Error("something is kept before anything was")
	}
	password := rdp.UTF16("a password")
	v.keep("ann", "CORP", password)
	if bytes.Contains(v.sealed, password) {
		t.Error("the password is kept as it is")
	}
	for range 2 {
		user, domain, got, ok := v.kept()
		if user != "ann" || domain != "CORP" || !bytes.Equal(got, password) || !ok {
			t.Errorf("kept are %s, %s, %x, %v", user, domain, got, ok)
		}
		clear(got)
	}
	sealed, key := v.sealed, v.key
	v.wipe()
	if _, _, _, ok := v.kept(); ok || !bytes.Equal(sealed, make([]byte, len(sealed))) || *key != [32]byte{} {
		t.Error("something is left after it was wiped")
	}
}

func FuzzStart(f *testing.F) {
	f.Add([]byte(`{"user":"ann","domain":"CORP","password":"\u00fc","width":800,"height":600,"credssp":"browser"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var plain struct {
			Password *string `json:"password"`
		}
		json.Unmarshal(b, &plain)
		s, err := parseStart(bytes.Clone(b))
		if err != nil {
			return
		}
		if s.Password != nil && plain.Password != nil && !bytes.Equal(*s.Password, rdp.UTF16(*plain.Password)) && !strings.ContainsRune(*plain.Password, '\ufffd') {
			t.Errorf("the password of %q is %x", b, *s.Password)
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add(say(kindBytes, "\x30\x03\x02\x01\x06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stream{r: bytes.NewReader(b)}
		readCleanPath(s)
		frames := rdp.NewFramer(s, rdp.TLS, false)
		for {
			if _, err := frames.Next(); err != nil {
				return
			}
		}
	})
}
