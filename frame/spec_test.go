package frame

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the decoded forms and the codes in PROTOCOL.md")

// An example is a frame block of PROTOCOL.md.
type example struct {
	frame   []byte
	decoded string
	header  Header
}

func (e example) payload() []byte { return e.frame[HeaderSize:] }

var frameBlock = regexp.MustCompile("(?s)```frame\n(.*?)\n\n(.*?)\n```")

// examples reads the frames of PROTOCOL.md.
func examples(t testing.TB) []example {
	t.Helper()
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for _, m := range frameBlock.FindAllStringSubmatch(string(doc), -1) {
		b, err := hex.DecodeString(strings.Join(strings.Fields(m[1]), ""))
		if err != nil {
			t.Fatalf("%v in %s", err, m[1])
		}
		h, err := ParseHeader(b)
		if err != nil || len(b) != HeaderSize+h.Length {
			t.Fatalf("%s: %v, header %+v", m[1], err, h)
		}
		all = append(all, example{b, m[2], h})
	}
	return all
}

func TestSpecExamples(t *testing.T) {
	seen := map[Type]bool{}
	all := examples(t)
	for _, e := range all {
		seen[e.header.Type] = true
		if got := Describe(e.header, e.payload()); got != e.decoded && !*update {
			t.Errorf("%x\n got %s\nwant %s", e.frame, got, e.decoded)
		}
		again, err := reencode(e.header, e.payload())
		if err != nil || !bytes.Equal(again, e.frame) {
			t.Errorf("%s encodes again to %x, %v; want %x", e.decoded, again, err, e.frame)
		}
	}
	for i, name := range typeNames {
		if name != "" && !seen[Type(i)] {
			t.Errorf("PROTOCOL.md has no example of %s", name)
		}
	}
	if *update {
		doc, _ := os.ReadFile("PROTOCOL.md")
		i := 0
		doc = frameBlock.ReplaceAllFunc(doc, func(block []byte) []byte {
			at := bytes.Index(block, []byte("\n\n"))
			i++
			return []byte(string(block[:at]) + "\n\n" + Describe(all[i-1].header, all[i-1].payload()) + "\n```")
		})
		if err := os.WriteFile("PROTOCOL.md", doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// reencode parses a frame and encodes what it says.
func reencode(h Header, p []byte) ([]byte, error) {
	switch h.Type {
	case TypeAck:
		a, err := ParseAck(p)
		if err != nil {
			return nil, err
		}
		return a.Append(nil), nil
	case TypeFin:
		offset, err := parseFin(p)
		if err != nil {
			return nil, err
		}
		return appendFin(nil, offset), nil
	case TypePing, TypePong:
		return AppendProbe(nil, h.Type, [8]byte(p)), nil
	}
	if m := newMessage(h.Type); m != nil {
		if err := Parse(h.Type, p, m); err != nil {
			return nil, err
		}
		return Append(nil, h.Type, m), nil
	}
	return append(h.Append(nil), p...), nil
}

// TestSpecTable compares §1's table with what the code accepts.
func TestSpecTable(t *testing.T) {
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([0-9a-f]{2}) \| ([A-Z]+) \| [^|]* \| (\d+) \| (\d+) \|`)
	found := 0
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		n, _ := strconv.ParseUint(m[1], 16, 8)
		least, _ := strconv.Atoi(m[3])
		most, _ := strconv.Atoi(m[4])
		found++
		if typeNames[n] != m[2] || bounds[n].least != least || bounds[n].most != most {
			t.Errorf("the table says %s, the code %s %+v", m[0], typeNames[n], bounds[n])
		}
	}
	known := 0
	for _, n := range typeNames {
		if n != "" {
			known++
		}
	}
	if found != known {
		t.Errorf("the table has %d types, the code %d", found, known)
	}
}

// TestSpecCodes compares §9's table with Code.Exit.
func TestSpecCodes(t *testing.T) {
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[Code]int{}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]*) \| (E_[^|]*) \|$`)
	if *update {
		doc = row.ReplaceAllFunc(doc, func(line []byte) []byte {
			m := row.FindSubmatch(line)
			n, _ := strconv.Atoi(string(m[1]))
			var codes []string
			for c, exit := range exits {
				if exit == n {
					codes = append(codes, string(c))
				}
			}
			slices.Sort(codes)
			return fmt.Appendf(nil, "| %d | %s | %s |", n, m[2], strings.Join(codes, ", "))
		})
		if err := os.WriteFile("PROTOCOL.md", doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		n, _ := strconv.Atoi(m[1])
		for _, c := range strings.Split(m[3], ", ") {
			got[Code(c)] = n
		}
	}
	for c, n := range exits {
		if got[c] != n {
			t.Errorf("%s exits with %d, the table says %d", c, n, got[c])
		}
	}
	if len(got) != len(exits) {
		t.Errorf("the table has %d codes, the code %d", len(got), len(exits))
	}
}

// TestSpecProofs computes the signatures and proofs of the examples from the text of §3 and §7.
func TestSpecProofs(t *testing.T) {
	rep := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	device := ed25519.NewKeyFromSeed(rep(0x01, 32)).Public().(ed25519.PublicKey)
	identity := ed25519.NewKeyFromSeed(rep(0x02, 32)).Public().(ed25519.PublicKey)
	find := func(prefix string) example {
		all := examples(t)
		i := slices.IndexFunc(all, func(e example) bool {
			return strings.HasPrefix(e.decoded, prefix+" ") && !(prefix == "HELLO" && !strings.Contains(e.decoded, "binding=1"))
		})
		if i < 0 {
			t.Fatalf("no example of %s", prefix)
		}
		return all[i]
	}
	hash := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }

	var h Hello
	e := find("HELLO")
	if err := Parse(TypeHello, e.payload(), &h); err != nil {
		t.Fatal(err)
	}
	unsigned := h
	unsigned.Signature = nil
	m := cat([]byte("sallyport/1 device proof\x00"), hash(rep(0x33, 32)), hash(Append(nil, TypeHello, &unsigned)[4:]))
	if !ed25519.Verify(device, m, h.Signature) {
		t.Error("HELLO's signature is not what §3 says")
	}

	var w Welcome
	if err := Parse(TypeWelcome, find("WELCOME").payload(), &w); err != nil {
		t.Fatal(err)
	}
	bare := w
	bare.Signature = nil
	m = cat([]byte("sallyport/1 appliance proof\x00"), hash(rep(0x33, 32)), hash(e.payload()), hash(Append(nil, TypeWelcome, &bare)[4:]))
	if !bytes.Equal(w.Identity[0], identity) || !ed25519.Verify(identity, m, w.Signature) {
		t.Error("WELCOME's signature is not what §3 says")
	}

	var opened Opened
	if err := Parse(TypeOpened, find("OPENED").payload(), &opened); err != nil {
		t.Fatal(err)
	}
	var resume Resume
	if err := Parse(TypeResume, find("RESUME").payload(), &resume); err != nil {
		t.Fatal(err)
	}
	var resumed Resumed
	if err := Parse(TypeResumed, find("RESUMED").payload(), &resumed); err != nil {
		t.Fatal(err)
	}
	bond := &Bond{User: "ann", Device: sha256.Sum256(device), Binding: sha256.Sum256(rep(0x33, 32)),
		Secret: func([]byte) ([]byte, error) { return rep(0x44, 32), nil }}
	r0, err := firstKey(bond, opened.Flow, opened.Session)
	if err != nil {
		t.Fatal(err)
	}
	r1 := r0.next(bond, rep(0x55, 16), rep(0x66, 16))
	if !bytes.Equal(resume.Proof, r1.clientProof(bond, &resume)) {
		t.Error("RESUME's proof is not what §7 says")
	}
	if !bytes.Equal(resumed.Proof, r1.applianceProof(bond, &resume, &resumed)) {
		t.Error("RESUMED's proof is not what §7 says")
	}
}
