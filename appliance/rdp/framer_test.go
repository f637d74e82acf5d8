package rdp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func frames(t *testing.T, f *Framer) (pdus []string, err error) {
	t.Helper()
	for {
		pdu, err := f.Next()
		if err != nil {
			return pdus, err
		}
		kind := "rdp"
		if f.Authenticating() {
			kind = "credssp"
		}
		pdus = append(pdus, kind+" "+hex.EncodeToString(pdu))
	}
}

func TestFramer(t *testing.T) {
	const pdus = "0300000802f08028" + "04040102" + "008005aabb"
	for _, c := range []struct {
		name     string
		stream   string
		selected uint32
		server   bool
		want     string
	}{
		{"TLS", pdus, TLS, true, "rdp 0300000802f08028, rdp 04040102, rdp 008005aabb"},
		{"the client's CredSSP", "3003020106" + pdus, CredSSPEx, false, "credssp 3003020106, rdp 0300000802f08028, rdp 04040102, rdp 008005aabb"},
		{"the server's", "3003020106" + pdus, CredSSP, true, "credssp 3003020106, rdp 0300000802f08028, rdp 04040102, rdp 008005aabb"},
		{"the server's with a verdict", "3003020106" + "00000000" + pdus, CredSSPEx, true, "credssp 3003020106, credssp 00000000, rdp 0300000802f08028, rdp 04040102, rdp 008005aabb"},
	} {
		got, err := frames(t, NewFramer(iotest.OneByteReader(bytes.NewReader(unhex(c.stream))), c.selected, c.server))
		if strings.Join(got, ", ") != c.want || err != io.EOF {
			t.Errorf("%s: %s, %v", c.name, strings.Join(got, ", "), err)
		}
	}
	for _, bad := range []string{"03000006", "0001", "008002", "4003aa", "0103aa", "030100080000", "30"} {
		if got, err := frames(t, NewFramer(bytes.NewReader(unhex(bad)), TLS, true)); err == io.EOF || len(got) > 0 {
			t.Errorf("%s is cut into %v, %v", bad, got, err)
		}
	}
	var no *FrameError
	for _, bad := range []string{"03000006", "4003aa", "008002"} {
		if _, err := frames(t, NewFramer(bytes.NewReader(unhex(bad)), TLS, true)); !errors.As(err, &no) {
			t.Errorf("%s is no PDU: %v", bad, err)
		}
	}
	for _, bad := range []string{"3085", "308200", "30828001", "ff"} {
		if _, err := frames(t, NewFramer(bytes.NewReader(unhex(bad)), CredSSP, true)); (bad != "308200") != errors.As(err, &no) {
			t.Errorf("%s while CredSSP is under way: %v", bad, err)
		}
	}
}

func FuzzFramer(f *testing.F) {
	f.Add(unhex("0300000802f08028"+"04040102"+"008005aabb"), byte(1), true)
	f.Add(unhex("3003020106"+"00000000"+"0300000802f08028"), byte(8), true)
	f.Fuzz(func(t *testing.T, b []byte, selected byte, server bool) {
		framer := NewFramer(bytes.NewReader(b), uint32(selected), server)
		var all []byte
		for {
			pdu, err := framer.Next()
			if err != nil {
				break
			}
			if len(pdu) == 0 {
				t.Fatal("a PDU is empty")
			}
			all = append(all, pdu...)
		}
		if !bytes.HasPrefix(b, all) {
			t.Errorf("%x is cut into %x", b, all)
		}
	})
}
