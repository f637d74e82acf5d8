package flow_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/frame"
	"sallyport/tests/npm"
)

// A vector is a frame, and what becomes of it: the code of its fault, or none.
type vector struct {
	Frame   string `json:"frame"`
	Code    string `json:"code"`
	Example bool   `json:"example"` // of PROTOCOL.md
}

var frameBlock = regexp.MustCompile("(?s)```frame\n(.*?)\n\n")

// examples are the frames of PROTOCOL.md.
func examples(t *testing.T) (all [][]byte) {
	doc, err := os.ReadFile("../../frame/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range frameBlock.FindAllStringSubmatch(string(doc), -1) {
		b, err := hex.DecodeString(strings.Join(strings.Fields(m[1]), ""))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// messages are those of the types that have one.
var messages = map[frame.Type]func() any{
	frame.TypeHello: func() any { return new(frame.Hello) }, frame.TypeChallenge: func() any { return new(frame.Challenge) },
	frame.TypeWelcome: func() any { return new(frame.Welcome) }, frame.TypeOpen: func() any { return new(frame.OpenRequest) },
	frame.TypeOpened: func() any { return new(frame.Opened) }, frame.TypeRefused: func() any { return new(frame.Reason) },
	frame.TypeReset: func() any { return new(frame.Reason) }, frame.TypeResume: func() any { return new(frame.Resume) },
	frame.TypeResumed: func() any { return new(frame.Resumed) }, frame.TypeNotice: func() any { return new(frame.Notice) },
	frame.TypeDrain: func() any { return new(frame.Drain) },
}

// judge is what the appliance's own parser says.
func judge(b []byte) error {
	h, err := frame.ParseHeader(b)
	if err != nil {
		return err
	}
	p := b[frame.HeaderSize:]
	switch made := messages[h.Type]; {
	case made != nil:
		return frame.Parse(h.Type, p, made())
	case h.Type == frame.TypeAck:
		_, err = frame.ParseAck(p)
	}
	return err
}

// mutated is b with a change or a few in it, of the length that its header then states.
func mutated(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	if r.IntN(16) == 0 {
		b[0] = byte(r.IntN(256))
	}
	p := b[frame.HeaderSize:]
	for range 1 + r.IntN(2) {
		if len(p) == 0 {
			break
		}
		at := r.IntN(min(len(p), 1+r.IntN(len(p)))) // heads and keys are at the front
		switch r.IntN(6) {
		case 0:
			p[at] ^= 1 << r.IntN(8)
		case 1:
			p[at] = byte(r.IntN(256))
		case 2:
			p = append(p[:at], p[at+1:]...)
		case 3:
			p = append(p[:at], append([]byte{byte(r.IntN(256))}, p[at:]...)...)
		case 4:
			p = p[:at]
		case 5:
			p[at] += byte(1 + 2*r.IntN(2)*127) // the next, or the one before
		}
	}
	return append([]byte{b[0], byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p))}, p...)
}

// TestTypes: the scripts of these tests keep to the types of the portal's own, as strictly as those do.
func TestTypes(t *testing.T) {
	dir := filepath.Join(npm.Install(t, "flow", files), "node_modules")
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "typescript", "bin", "tsc"), "--project", "tsconfig.json", "--typeRoots", filepath.Join(dir, "@types"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestVectors: what the portal's client parses and makes are the bytes that the appliance's own parser takes, to the bit: the
// examples of PROTOCOL.md, many that differ a little from them, its keys and proofs.
func TestVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	var all []vector
	note := func(b []byte) {
		reason, bad := frame.ReasonOf(judge(b))
		v := vector{Frame: hex.EncodeToString(b)}
		if bad {
			v.Code = string(reason.Code)
		}
		all = append(all, v)
	}
	for _, e := range examples(t) {
		note(e)
		if v := &all[len(all)-1]; v.Code == "" {
			v.Example = true
		} else {
			t.Fatalf("PROTOCOL.md has %+v", v)
		}
		for range 1000 {
			if m := mutated(r, e); frame.Type(m[0]) != frame.TypeFin { // whose payload's parser is nobody else's
				note(m)
			}
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "vectors.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", script(t, "vectors.ts"))
	cmd.Env = append(os.Environ(), "VECTORS="+file)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("fail 0")) {
		t.Errorf("%v\n%s", err, out)
	}
	good := 0
	for _, v := range all {
		if v.Code == "" {
			good++
		}
	}
	t.Logf("%d vectors, %d of them good", len(all), good)
}
