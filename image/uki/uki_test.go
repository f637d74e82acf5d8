package uki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/image/uki/ukitest"
)

var parts = []Section{{".osrel", []byte("ID=sallyport\n")}, {".linux", bytes.Repeat([]byte("kernel"), 1000)}}

func TestBuild(t *testing.T) {
	stub := append(ukitest.Program("code"), "debugging symbols"...)
	got, err := Build(stub, parts)
	if err != nil {
		t.Fatal(err)
	}
	sections, err := Sections(got)
	if err != nil || len(sections) != 3 || string(sections[0].Data) != "code" {
		t.Fatalf("got %v, %v", sections, err)
	}
	for i, s := range sections[1:] {
		if s.Name != parts[i].Name || !bytes.Equal(s.Data, parts[i].Data) {
			t.Errorf("got %q", s.Name)
		}
	}
	h, err := parse(got)
	if err != nil {
		t.Fatal(err)
	}
	end := uint32(0)
	for i := range h.sections {
		e, err := h.entry(got, i)
		if err != nil || i > 0 && e.address%pageAlignment != 0 || e.address < end {
			t.Errorf("%s lies at %x, %v", e.name, e.address, err)
		}
		end = e.address + e.size
	}
	if size := binary.LittleEndian.Uint32(got[h.optional+56:]); size < end || size%pageAlignment != 0 {
		t.Errorf("the image's size is %x, its last section ends at %x", size, end)
	}
	if bytes.Contains(got, []byte("debugging")) || bytes.Contains(got, []byte{0x78, 0x56, 0x34, 0x12}) {
		t.Error("what is behind the stub's sections, or its time, is still there")
	}
	other := bytes.Clone(stub)
	binary.LittleEndian.PutUint32(other[h.coff+4:], 0x87654321)
	if again, err := Build(other, parts); err != nil || !bytes.Equal(got, again) {
		t.Errorf("another time of building makes another image, %v", err)
	}
}

func TestRelease(t *testing.T) {
	b, err := Build(ukitest.Program("code"), []Section{{".osrel", []byte("ID=sallyport\nPRETTY_NAME=\"Sallyport 1.2.3\"\nVERSION_ID=1.2.3\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Release(b); err != nil || len(got) != 3 || got["ID"] != "sallyport" || got["PRETTY_NAME"] != "Sallyport 1.2.3" || got["VERSION_ID"] != "1.2.3" {
		t.Errorf("%q, %v", got, err)
	}
	for _, b := range [][]byte{nil, ukitest.Program("code")} {
		if got, err := Release(b); err == nil {
			t.Errorf("no image, and it says %q", got)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	many := make([]Section, 20)
	for i := range many {
		many[i] = Section{".x", []byte("x")}
	}
	key, cert := newKey(t)
	signed, err := Sign(ukitest.Program("code"), key, cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stub     []byte
		sections []Section
	}{
		"too many":  {ukitest.Program("code"), many},
		"long name": {ukitest.Program("code"), []Section{{".toolongname", []byte("x")}}},
		"empty":     {ukitest.Program("code"), []Section{{".osrel", nil}}},
		"signed":    {signed, parts},
		"no stub":   {[]byte("#!/bin/sh"), parts},
		"cut":       {ukitest.Program("code")[:0x400], parts},
		"no table":  {ukitest.Program("code")[:0x180], parts},
	} {
		if _, err := Build(c.stub, c.sections); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func newKey(t testing.TB) (*rsa.PrivateKey, *x509.Certificate) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func TestSign(t *testing.T) {
	key, cert := newKey(t)
	for _, behind := range []string{"", "odd"} { // a length that has to be filled up, too
		b := append(ukitest.Program("code"), behind...)
		signed, err := Sign(b, key, cert)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Sign(b, key, cert); err != nil || !bytes.Equal(signed, again) {
			t.Errorf("the second signature differs, %v", err)
		}
		twice, err := Sign(signed, key, cert)
		if err != nil {
			t.Fatal(err)
		}
		for n, b := range [][]byte{b, signed, twice} {
			got, err := Signers(b)
			if err != nil || len(got) != n {
				t.Fatalf("%d signatures: got %v, %v", n, got, err)
			}
			for _, s := range got {
				if !s.Holds || !s.Cert.Equal(cert) {
					t.Errorf("got %+v", s)
				}
			}
			stripped, err := Strip(b)
			if want, _ := Strip(ukitest.Program("code")); err != nil || behind == "" && !bytes.Equal(stripped, want) {
				t.Errorf("%d signatures: stripped it is another program, %v", n, err)
			}
		}
	}
}

// TestAlteredProgram changes each byte of a signed program but those that a signature is not about.
func TestAlteredProgram(t *testing.T) {
	key, cert := newKey(t)
	signed, err := Sign(ukitest.Program("code"), key, cert)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	checksum := h.optional + 64
	for i := range signed[:0x600] {
		b := bytes.Clone(signed)
		b[i] ^= 1
		got, err := Signers(b)
		if i >= checksum && i < checksum+4 {
			if err != nil || len(got) != 1 || !got[0].Holds {
				t.Errorf("byte %d, of the checksum: got %v, %v", i, got, err)
			}
			continue
		}
		for _, s := range got {
			if s.Holds {
				t.Errorf("byte %d is altered and the signature holds", i)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	_, cert := newKey(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(ukitest.Program("code"), key, cert); err == nil || !strings.Contains(err.Error(), "RSA") {
		t.Errorf("an ECDSA key: %v", err)
	}
}

// TestOthersSignatures has sbverify accept ours, and reads sbsign's.
func TestOthersSignatures(t *testing.T) {
	for _, program := range []string{"sbsign", "sbverify"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getuid() == 0 { // whose machine has all that is tested with
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	key, cert := newKey(t)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := write("key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	certFile := write("cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	verify := func(name string) ([]byte, error) {
		return exec.Command("sbverify", "--cert", certFile, name).CombinedOutput()
	}
	unsigned := ukitest.Program("code")
	signed, err := Sign(unsigned, key, cert)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := verify(write("ours", signed)); err != nil {
		t.Errorf("sbverify: %v: %s", err, said)
	}
	signed[0x400] ^= 1
	if said, err := verify(write("altered", signed)); err == nil {
		t.Errorf("sbverify takes an altered program: %s", said)
	}
	theirs := filepath.Join(dir, "theirs")
	said, err := exec.Command("sbsign", "--key", keyFile, "--cert", certFile, "--output", theirs, write("unsigned", unsigned)).CombinedOutput()
	if err != nil {
		t.Fatalf("sbsign: %v: %s", err, said)
	}
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Signers(b); err != nil || len(got) != 1 || !got[0].Holds {
		t.Errorf("sbsign's: got %v, %v", got, err)
	}
}

func FuzzProgram(f *testing.F) {
	key, cert := newKey(f)
	signed, err := Sign(ukitest.Program("code"), key, cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ukitest.Program("code"))
	f.Add(signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		Signers(b)
		Strip(b)
		sections, err := Sections(b)
		built, failed := Build(b, parts)
		if failed != nil {
			return
		}
		if err != nil {
			t.Fatalf("a stub that can be built with cannot be read: %v", err)
		}
		again, err := Sections(built)
		if err != nil || len(again) != len(sections)+len(parts) {
			t.Fatalf("%d sections became %d, %v", len(sections), len(again), err)
		}
		if last := again[len(again)-1]; last.Name != ".linux" || !bytes.Equal(last.Data, parts[1].Data) {
			t.Errorf("the last section is %q", last.Name)
		}
	})
}
