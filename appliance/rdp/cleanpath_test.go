package rdp

import (
	"bytes"
	"strings"
	"testing"
)

// exampleRequest is a request for 10.0.0.5:3389 with the ticket tok and the X.224 request for TLS and CredSSP.
var exampleRequest = unhex(`30 35  a0 04 02 02 0d3e  a2 0f 0c 0d 31302e302e302e353a33333839  a3 05 0c 03 746f6b
	a6 15 04 13 03000013 0ee00000000000 01000800 0b000000`)

func TestCleanPathRequest(t *testing.T) {
	r, err := ParseCleanPathRequest(exampleRequest)
	if err != nil {
		t.Fatal(err)
	}
	if r.Destination != "10.0.0.5:3389" || r.ProxyAuth != "tok" {
		t.Errorf("read %+v", r)
	}
	if protocols, err := CheckConnectionRequest(r.X224); err != nil || protocols != 0x0b {
		t.Errorf("its X.224 request asks for %#x, %v", protocols, err)
	}
	if again := r.Append(nil); !bytes.Equal(again, exampleRequest) {
		t.Errorf("it encodes to %x", again)
	}
	for n := range exampleRequest {
		if _, err := ParseCleanPathRequest(exampleRequest[:n]); err == nil {
			t.Errorf("its first %d bytes are a request", n)
		}
	}
	r.Destination = strings.Repeat("x", MaxCleanPath)
	if _, err := ParseCleanPathRequest(r.Append(nil)); err == nil {
		t.Error("a request that is too long is read")
	}
}

func TestCleanPathAnswer(t *testing.T) {
	got := AppendCleanPathAnswer(nil, []byte{3}, []byte{7}, "a")
	if want := unhex("30 17 a004 0202 0d3e a603 0401 03 a705 3003 0401 07 a903 0c01 61"); !bytes.Equal(got, want) {
		t.Errorf("the answer is %x, want %x", got, want)
	}
	got = CleanPathError{WSA: 10061}.Append(nil)
	if want := unhex("30 15 a004 0202 0d3e a10d 300b a003 0201 01 a204 0202 274d"); !bytes.Equal(got, want) {
		t.Errorf("the error is %x, want %x", got, want)
	}
	got = CleanPathError{X224: []byte{3}}.Append(nil)
	if want := unhex("30 14 a004 0202 0d3e a107 3005 a003 0201 02 a603 0401 03"); !bytes.Equal(got, want) {
		t.Errorf("the error is %x, want %x", got, want)
	}
}

func FuzzCleanPath(f *testing.F) {
	f.Add(exampleRequest)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseCleanPathRequest(b)
		if err != nil {
			return
		}
		if again := r.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x encodes to %x", b, again)
		}
		CheckConnectionRequest(r.X224)
	})
}
