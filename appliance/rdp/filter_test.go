package rdp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// A table is a filter with what went through it.
type table struct {
	t      *testing.T
	filter *Filter
	shown  int
	inputs int
}

func newTable(t *testing.T, r Rules) *table {
	x := &table{t: t}
	x.filter = NewFilter(r, func() { x.shown++ }, func() { x.inputs++ })
	return x
}

// through passes a PDU on and returns what the other side gets.
func (x *table) through(client bool, pdu []byte) (on, back [][]byte) {
	x.t.Helper()
	on, back, err := x.filter.Through(client, pdu)
	if err != nil {
		x.t.Fatal(err)
	}
	return on, back
}

// connect goes as far as the desktop, and returns the Connect Initial and the client info that the server got.
func (x *table) connect(channels []string, ids ...uint16) (initial, info []byte) {
	x.t.Helper()
	on1, _ := x.through(true, connectInitial(channels...))
	x.through(false, connectResponse(1003, ids...))
	x.through(true, tpkt([]byte{mcsErect, 1, 0, 1, 0}))
	x.through(true, tpkt([]byte{mcsAttach}))
	x.through(false, tpkt([]byte{mcsAttached, 0, 0, 6}))
	x.through(true, tpkt([]byte{mcsJoin, 0, 6, 3, 0xeb}))
	x.through(false, tpkt([]byte{mcsJoined, 0, 0, 6, 3, 0xeb, 3, 0xeb}))
	on2, _ := x.through(true, on(true, 1003, exampleInfo.append(nil)))
	x.through(false, on(false, 1003, unhex("80000000 ff031000 07000000 02000000 04000000")))
	x.through(false, on(false, 1003, demandActive(1024, 768)))
	return on1[0], on2[0]
}

func TestConnectInitial(t *testing.T) {
	x := newTable(t, Rules{Selected: CredSSPEx, Clipboard: Clipboard{In: true}, Width: 1920, Height: 1200})
	initial, _ := x.connect([]string{"rdpdr", "CLIPRDR", "drdynvc", "cliprdr", "rdpsnd"}, 1004, 1005, 1006, 1007, 1008)
	blocks, err := clientBlocks(initial)
	if err != nil {
		t.Fatal(err)
	}
	core := blocks[0].data
	word := func(at int) uint16 { return binary.LittleEndian.Uint16(core[at:]) }
	if word(coreWidth) != 1920 || word(coreHeight) != 1200 || word(coreDepth) != 24 || word(coreDepths) != 15 || word(coreFlags) != 1|want32bpp ||
		core[coreConnection] != lan || word(coreSelected) != CredSSPEx {
		t.Errorf("the core block is %x", core)
	}
	entries, err := channelNames(blocks[2])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, channelName(e))
	}
	if want := []string{"xdeny00", "cliprdr", "xdeny02", "xdeny03", "xdeny04"}; !slices.Equal(names, want) {
		t.Errorf("the channels are %v, want %v", names, want)
	}
	for _, id := range []uint16{1004, 1006, 1007, 1008, 1009} {
		for _, client := range []bool{true, false} {
			if on, back := x.through(client, on(client, id, chunk([]byte("data")))); on != nil || back != nil {
				t.Errorf("data on channel %d passes", id)
			}
		}
	}
}

func TestAsIs(t *testing.T) {
	x := newTable(t, Rules{Selected: TLS, AsIs: true})
	initial, _ := x.connect(nil)
	want := connectInitial()
	blocks, err := clientBlocks(want)
	if err != nil {
		t.Fatal(err)
	}
	copy(blocks[0].data[coreFlags:], u16s(1))
	copy(blocks[0].data[coreSelected:], u16s(1))
	if !bytes.Equal(initial, want) {
		t.Errorf("the settings are %x, want %x", initial, want)
	}
}

func TestClientInfo(t *testing.T) {
	x := newTable(t, Rules{Selected: TLS, Autologon: true, Domain: "CORP", User: "ann", Password: UTF16("pässword")})
	_, pdu := x.connect(nil)
	s, err := parseSendData(pdu)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseClientInfo(s.data)
	if err != nil {
		t.Fatal(err)
	}
	want := exampleInfo
	want.flags = infoUnicode | infoAutologon | 1
	want.texts = [5][]byte{UTF16("CORP"), UTF16("ann"), UTF16("pässword"), nil, nil}
	if !bytes.Equal(got.append(nil), want.append(nil)) {
		t.Errorf("the target is told %x, want %x", got.append(nil), want.append(nil))
	}
}

func TestOrder(t *testing.T) {
	initial, response := connectInitial("cliprdr"), connectResponse(1003, 1004)
	for _, c := range []struct {
		name string
		pdus []any // whether it is the client's, and the PDU
	}{
		{"a fast-path PDU first", []any{true, []byte{4, 4, 1, 2}}},
		{"data first", []any{true, on(true, 1003, exampleInfo.append(nil)), true, initial, true, initial}},
		{"two first settings", []any{true, initial, true, initial}},
		{"an answer before the question", []any{false, response}},
		{"more channels than were asked for", []any{true, initial, false, connectResponse(1003, 1004, 1005)}},
		{"an id given twice", []any{true, connectInitial("cliprdr", "cliprdr"), false, connectResponse(1003, 1003, 1004)}},
		{"an id that another channel has", []any{true, connectInitial("cliprdr", "rdpdr"), false, connectResponse(1003, 1004, 1004)}},
		{"the server's data from the client", []any{true, on(false, 1003, nil)}},
		{"no user", []any{true, initial, false, response, true, tpkt([]byte{mcsJoin, 0, 6, 3, 0xeb}), true, on(true, 1003, unhex("00000000"))}},
	} {
		f := NewFilter(Rules{Selected: TLS, Clipboard: Clipboard{In: true}}, func() {}, func() {})
		var err error
		for i := 0; i < len(c.pdus) && err == nil; i += 2 {
			_, _, err = f.Through(c.pdus[i].(bool), bytes.Clone(c.pdus[i+1].([]byte)))
		}
		if err == nil {
			t.Errorf("%s passes", c.name)
		}
	}
}

func TestInput(t *testing.T) {
	x := newTable(t, Rules{Selected: TLS})
	x.connect(nil)
	x.through(true, []byte{4, 4, 1, 2})
	x.through(true, on(true, 1003, unhex("1600 1700 ea03 ea030100 00 01 0000 1c 00 0000 00000000")))
	x.through(false, fastPath(4, []byte{1, 2, 3}))
	x.through(true, on(true, 1003, unhex("1600 1700 ea03 ea030100 00 01 0000 38 00 0000 00000000")))
	if x.inputs != 2 {
		t.Errorf("the person has done %d things, not 2", x.inputs)
	}
}

func TestWiden(t *testing.T) {
	x := newTable(t, Rules{Selected: TLS})
	x.connect(nil)
	update := bitmapUpdate([9]uint16{0, 0, 9, 9, 12, 10}, [9]uint16{1014, 0, 1023, 9, 12, 10}, [9]uint16{0, 0, 11, 9, 12, 10})
	want := bitmapUpdate([9]uint16{0, 0, 11, 9, 12, 10}, [9]uint16{1014, 0, 1023, 9, 12, 10}, [9]uint16{0, 0, 11, 9, 12, 10})
	got, _ := x.through(false, fastPath(updateBitmap, bytes.Clone(update)))
	if !bytes.Equal(got[0], fastPath(updateBitmap, want)) {
		t.Errorf("the rectangles are %x, want %x", got[0], fastPath(updateBitmap, want))
	}
	head := unhex("0000 1700 ea03 ea030100 00 01 0000 02 00 0000")
	got, _ = x.through(false, on(false, 1003, head, update))
	if !bytes.Equal(got[0], on(false, 1003, head, want)) {
		t.Errorf("the rectangles are %x, want %x", got[0], on(false, 1003, head, want))
	}
}

// clip is a clipboard between two sides, which both know the long names of formats.
func clip(t *testing.T, rules Clipboard) *table {
	x := newTable(t, Rules{Selected: TLS, Clipboard: rules})
	x.connect([]string{"cliprdr"}, 1004)
	for _, client := range []bool{false, true} {
		x.say(client, clipMessage(clipCapabilities, 0, unhex("01000000 0100 0c00 02000000 3e000000")))
	}
	return x
}

// say passes a message of the clipboard and returns what the other side hears, and what comes back.
func (x *table) say(client bool, message []byte) (heard, answer string) {
	x.t.Helper()
	pdus, back := x.through(client, on(client, 1004, chunk(message)))
	join := func(pdus [][]byte) string {
		var all []byte
		for _, p := range pdus {
			s, err := parseSendData(p)
			if err != nil {
				x.t.Fatal(err)
			}
			all = append(all, s.data[8:]...)
		}
		return hex.EncodeToString(all)
	}
	return join(pdus), join(back)
}

func TestClipboard(t *testing.T) {
	long := func(id uint32, name string) []byte { return append(append(u32s(id), UTF16(name)...), 0, 0) }
	everything := clipMessage(clipFormats, 0, slices.Concat(long(13, ""), long(1, ""), long(0xc0bc, "FileGroupDescriptorW"), long(0xc00e, "HTML Format")))
	text := append(UTF16("grüße"), 0, 0)
	for _, c := range []struct {
		name    string
		in, out bool
	}{{"both", true, true}, {"in", true, false}, {"out", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			var passed []Clip
			x := clip(t, Clipboard{In: c.in, Out: c.out, Passes: func(c Clip) error { passed = append(passed, c); return nil }})
			for _, client := range []bool{true, false} {
				allowed := client && c.in || !client && c.out
				passed = nil
				heard, answer := x.say(client, everything)
				switch {
				case allowed && (heard != hex.EncodeToString(clipMessage(clipFormats, 0, long(13, ""))) || answer != ""):
					t.Errorf("of the formats the other side hears %s", heard)
				case !allowed && (heard != "" || answer != hex.EncodeToString(clipMessage(clipFormatsTaken, clipOK, nil))):
					t.Errorf("of the formats the other side hears %s, and the answer is %s", heard, answer)
				}
				if heard, _ := x.say(!client, clipMessage(clipFormatsTaken, clipOK, nil)); (heard != "") != allowed {
					t.Errorf("that the formats are taken is heard as %q", heard)
				}
				request := clipMessage(clipRequest, 0, u32s(13))
				heard, answer = x.say(!client, request)
				if refused := hex.EncodeToString(clipMessage(clipResponse, clipFail, nil)); allowed && heard != hex.EncodeToString(request) || !allowed && (heard != "" || answer != refused) {
					t.Errorf("the request is heard as %s and answered with %s", heard, answer)
				}
				response := clipMessage(clipResponse, clipOK, append(slices.Clone(text), "hidden"...))
				heard, _ = x.say(client, response)
				if want := hex.EncodeToString(clipMessage(clipResponse, clipOK, text)); allowed && heard != want || !allowed && heard != "" {
					t.Errorf("the text is heard as %s, want %s", heard, want)
				}
				if allowed && (len(passed) != 1 || passed[0] != Clip{In: client, Size: 7, SHA256: sha256.Sum256([]byte("grüße"))}) || !allowed && passed != nil {
					t.Errorf("it is written down that %v passed", passed)
				}
				if heard, _ := x.say(client, response); heard != "" {
					t.Errorf("a text that nobody asked for is heard as %s", heard)
				}
			}
		})
	}
}

func TestClipboardFiles(t *testing.T) {
	x := clip(t, Clipboard{In: true, Out: true})
	if heard, answer := x.say(true, clipMessage(clipFileRequest, 0, u32s(7, 0, 1, 8, 0, 0, 0))); heard != "" || answer != hex.EncodeToString(clipMessage(clipFileResponse, clipFail, u32s(7))) {
		t.Errorf("a request for a file is heard as %s and answered with %s", heard, answer)
	}
	for _, kind := range []uint16{6, clipFileResponse, 10, 11, 99} {
		if heard, answer := x.say(false, clipMessage(kind, 0, u32s(1))); heard+answer != "" {
			t.Errorf("message %d is heard as %s and answered with %s", kind, heard, answer)
		}
	}
	ready := clipMessage(clipReady, 0, nil)
	for _, client := range []bool{true, false} {
		if heard, answer := x.say(client, ready); (heard == hex.EncodeToString(ready)) == client || answer != "" {
			t.Errorf("that the clipboard is ready is heard as %q, and answered with %q", heard, answer)
		}
	}
	if _, answer := x.say(true, clipMessage(clipRequest, 0, u32s(0xc0bc))); answer != hex.EncodeToString(clipMessage(clipResponse, clipFail, nil)) {
		t.Errorf("a request for something else than text is answered with %s", answer)
	}
}

// TestClipboardStrange: what passes is what is written down, whatever else is in the message.
func TestClipboardStrange(t *testing.T) {
	var passed []Clip
	x := clip(t, Clipboard{In: true, Passes: func(c Clip) error { passed = append(passed, c); return nil }})
	x.say(false, clipMessage(clipRequest, 0, u32s(13)))
	heard, _ := x.say(true, clipMessage(clipResponse, clipOK, u16s(0xd800, 'a', 0xdc00, 0)))
	text := "\ufffda\ufffd"
	if heard != hex.EncodeToString(clipMessage(clipResponse, clipOK, append(UTF16(text), 0, 0))) {
		t.Errorf("halves of characters are heard as %s", heard)
	}
	if len(passed) != 1 || passed[0] != (Clip{In: true, Size: len(text), SHA256: sha256.Sum256([]byte(text))}) {
		t.Errorf("written down is %+v", passed)
	}
}

func TestClipboardUnwritten(t *testing.T) {
	x := clip(t, Clipboard{In: true, Passes: func(Clip) error { return errors.New("the disk is full") }})
	x.say(false, clipMessage(clipRequest, 0, u32s(13)))
	if heard, _ := x.say(true, clipMessage(clipResponse, clipOK, UTF16("text"))); heard != hex.EncodeToString(clipMessage(clipResponse, clipFail, nil)) {
		t.Errorf("a text that cannot be written down is heard as %s", heard)
	}
}

func TestClipboardLong(t *testing.T) {
	x := clip(t, Clipboard{In: true})
	x.say(false, clipMessage(clipRequest, 0, u32s(13)))
	message := clipMessage(clipResponse, clipOK, UTF16(strings.Repeat("x", maxClipboard)))
	var heard [][]byte
	flags := uint32(chunkFirst)
	for rest := message; len(rest) > 0; flags = 0 {
		part := rest[:min(len(rest), 16000)]
		if rest = rest[len(part):]; len(rest) == 0 {
			flags |= chunkLast
		}
		out, _ := x.through(true, on(true, 1004, u32s(uint32(len(message)), flags), part))
		heard = append(heard, out...)
	}
	if len(heard) != 1 || !bytes.HasSuffix(heard[0], clipMessage(clipResponse, clipFail, nil)) {
		t.Errorf("a text that is too long is heard as %d PDUs", len(heard))
	}
}

func TestDynamic(t *testing.T) {
	x := newTable(t, Rules{Selected: TLS, DisplayControl: true})
	x.connect([]string{"drdynvc"}, 1004)
	create := func(id byte, name string) []byte { return append(append([]byte{0x10, id}, name...), 0) }
	if heard, answer := x.say(false, create(1, "Microsoft::Windows::RDS::Graphics")); heard != "" || answer != "1001010000c0" {
		t.Errorf("the graphics channel is heard as %s and answered with %s", heard, answer)
	}
	if heard, answer := x.say(false, create(2, DisplayControl)); heard != hex.EncodeToString(create(2, DisplayControl)) || answer != "" {
		t.Errorf("the display control channel is heard as %s and answered with %s", heard, answer)
	}
	for _, c := range []struct {
		message string
		passes  bool
	}{{"3001aa", false}, {"3002aa", true}, {"1001 00000000", false}, {"1002 00000000", true}, {"2402 0300 aa", true}, {"5000 0100", true}, {"6402 0300 aa", false}, {"7002 aa", false},
		{"8000", false}, {"9000", false}, {"4002", true}, {"3002aa", false}} {
		if heard, _ := x.say(true, unhex(c.message)); (heard != "") != c.passes {
			t.Errorf("%s is heard as %q", c.message, heard)
		}
	}
	x.say(false, create(3, DisplayControl))
	x.say(true, unhex("1003 010000c0"))
	if heard, _ := x.say(true, unhex("3003aa")); heard != "" {
		t.Errorf("a channel that the client has not opened is heard as %s", heard)
	}
	for _, bad := range []string{"2802 ffffff7f aa", "2402 03", "2c02 0300 aa", "1002 0000", "3302aa"} {
		if heard, _, err := x.filter.Through(true, on(true, 1004, chunk(unhex(bad)))); err == nil {
			t.Errorf("%s is heard as %x", bad, heard)
		}
	}
}

// TestStrange: what a server says of the desktop that no client has asked for ends the connection.
func TestStrange(t *testing.T) {
	head := unhex("0000 1700 ea03 ea030100 00 01 0000 02 20 0000")
	large := demandActive(8196, 768)
	for name, pdu := range map[string][]byte{
		"a redirection":                on(false, 1003, unhex("0a00 1a00 ea03 0000 0000")),
		"a PDU of another kind":        on(false, 1003, unhex("0a00 1400 ea03 0000 0000")),
		"a PDU that is cut off":        on(false, 1003, unhex("0a00")),
		"a desktop without an end":     on(false, 1003, large),
		"a compressed update":          on(false, 1003, head, bitmapUpdate([9]uint16{0, 0, 9, 9, 12, 10})),
		"a compressed picture":         fastPath(0x80|updateBitmap, []byte{1, 2, 3}),
		"an update that is cut off":    fastPath(4, []byte{1, 2, 3})[:7],
		"bitmaps that are cut off":     fastPath(updateBitmap, bitmapUpdate([9]uint16{0, 0, 9, 9, 12, 10})[:20]),
		"more bitmaps than there are":  fastPath(updateBitmap, u16s(updateBitmap, 2)),
		"another bitmap than it holds": on(false, 1003, unhex("0000 1700 ea03 ea030100 00 01 0000 02 00 0000"), u16s(updateBitmap, 1), make([]byte, 17)),
	} {
		x := newTable(t, Rules{Selected: TLS})
		x.connect(nil)
		if got, _, err := x.filter.Through(false, pdu); err == nil {
			t.Errorf("%s passes as %x", name, got)
		}
	}
	x := newTable(t, Rules{Selected: TLS})
	x.connect(nil)
	if got, _, err := x.filter.Through(true, on(true, 1003, demandActive(1024, 768))); err == nil {
		t.Errorf("the server's PDU from the client passes as %x", got)
	}
}

// TestShown: there is a desktop once, when the licence is over.
func TestShown(t *testing.T) {
	x := newTable(t, Rules{Selected: TLS})
	if x.connect(nil); x.shown != 1 {
		t.Errorf("there were %d desktops", x.shown)
	}
	x.through(false, on(false, 1003, unhex("0600 1600 ea03")))
	x.through(false, on(false, 1003, demandActive(1280, 1024)))
	if x.shown != 1 || x.filter.width != 1280 {
		t.Errorf("in another size there are %d desktops, %d wide", x.shown, x.filter.width)
	}
}

// pdus cuts fuzzed bytes into PDUs: each begins with a length of two bytes.
func pdus(b []byte, each func(p []byte)) {
	for len(b) >= 2 {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		if n > 0 {
			each(bytes.Clone(b[2 : 2+n]))
		}
		b = b[2+n:]
	}
}

func fuzzed(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

func FuzzGCC(f *testing.F) {
	f.Add(connectInitial("cliprdr", "rdpdr"), connectResponse(1003, 1004, 1005))
	f.Fuzz(func(t *testing.T, initial, response []byte) {
		if len(initial) == 0 || initial[0] != 3 || len(response) == 0 || response[0] != 3 {
			return
		}
		length := len(initial)
		x := NewFilter(Rules{Selected: TLS, Clipboard: Clipboard{In: true}, DisplayControl: true}, func() {}, func() {})
		on, _, err := x.Through(true, initial)
		if err != nil || x.step == stepConnect {
			return
		}
		if len(on) != 1 || len(on[0]) != length {
			t.Fatal("the settings have changed their length")
		}
		blocks, err := clientBlocks(on[0])
		if err != nil {
			t.Fatalf("the settings do not parse any more: %v", err)
		}
		for _, b := range blocks {
			if b.kind != blockClientNetwork {
				continue
			}
			entries, err := channelNames(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if name := channelName(e); name != "cliprdr" && name != "drdynvc" && !strings.HasPrefix(name, "xdeny") {
					t.Fatalf("channel %q passes", name)
				}
			}
		}
		x.Through(false, response)
	})
}

func FuzzClientInfo(f *testing.F) {
	f.Add(exampleInfo.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClientInfo(b)
		if err == nil && !bytes.Equal(c.append(nil), b) {
			t.Errorf("%x encodes to %x", b, c.append(nil))
		}
	})
}

func FuzzClipboard(f *testing.F) {
	f.Add(true, false, fuzzed(chunk(clipMessage(clipRequest, 0, u32s(13))), chunk(clipMessage(clipFormats, 0, make([]byte, 36)))))
	f.Add(false, true, fuzzed(chunk(clipMessage(clipCapabilities, 0, unhex("01000000 0100 0c00 02000000 02000000"))), chunk(clipMessage(clipResponse, 1, UTF16("a")))))
	f.Fuzz(func(t *testing.T, in, out bool, b []byte) {
		c := newClipboard(Clipboard{In: in, Out: out})
		client := false
		pdus(b, func(p []byte) {
			client = !client
			on, _, err := c.add(client, p)
			for _, m := range on {
				if kind := binary.LittleEndian.Uint16(m); err == nil && kind == clipFormats && (client && !in || !client && !out) {
					t.Fatalf("formats pass where they may not: %x", m)
				} else if kind == clipResponse && m[2] == clipOK && (client && !in || !client && !out) {
					t.Fatalf("text passes where it may not: %x", m)
				}
			}
		})
	})
}

func FuzzDynamic(f *testing.F) {
	f.Add(fuzzed(chunk([]byte{0x50, 0, 1, 0}), chunk(append([]byte{0x10, 1}, "Microsoft::Windows::RDS::Graphics\x00"...)), chunk([]byte{0x30, 1, 2})))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDynamics(func(string) bool { return false })
		client := true
		pdus(b, func(p []byte) {
			client = !client
			on, _, _ := d.add(client, p)
			for _, m := range on {
				if command := m[0] >> 4; command != dynCapabilities && !(client && command == dynCreate) {
					t.Fatalf("%x passes", m)
				}
			}
		})
	})
}

// FuzzFilter has both sides say what they like after the connection stands, in turns: whatever is heard of it is on a channel
// that there is, and nothing is of what ends the connection.
func FuzzFilter(f *testing.F) {
	f.Add(true, fuzzed(on(true, 1004, chunk(clipMessage(clipRequest, 0, u32s(13)))), fastPath(1, bitmapUpdate([9]uint16{0, 0, 9, 9, 12, 10}))))
	f.Add(false, fuzzed(on(false, 1003, demandActive(800, 600)), on(false, 1003, unhex("0000 1700 ea03 ea030100 00 01 0000 02 00 0000"), bitmapUpdate([9]uint16{0, 0, 9, 9, 12, 10}))))
	f.Fuzz(func(t *testing.T, client bool, b []byte) {
		x := newTable(t, Rules{Selected: TLS, Clipboard: Clipboard{In: true, Out: true}, DisplayControl: true})
		x.connect([]string{"cliprdr", "drdynvc"}, 1004, 1005)
		pdus(b, func(p []byte) {
			from := client
			client = !client
			pdu, err := NewFramer(bytes.NewReader(p), TLS, false).Next()
			if err != nil {
				return
			}
			on, back, err := x.filter.Through(from, pdu)
			if err != nil && (on != nil || back != nil) {
				t.Fatalf("%x and %x pass with %v", on, back, err)
			}
			for _, p := range append(on, back...) {
				if p[0] != 3 || p[7] != mcsSend && p[7] != mcsIndication {
					continue
				}
				if s, err := parseSendData(p); err != nil || s.channel < 1003 || s.channel > 1005 {
					t.Fatalf("%x passes: %v", p, err)
				}
			}
		})
	})
}
