package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// smallLog is a log of some segments, closed, in memory.
func smallLog(t testing.TB, segment int64, headLines, events int) fstest.MapFS {
	l := open(t, Config{SegmentBytes: segment, HeadLines: headLines, HeadEvery: time.Hour})
	write(t, l, 0, events)
	closeLog(t, l)
	return load(t, l.cfg.Dir)
}

var mutationSeed = flag.Uint64("seed", rand.Uint64(), "of TestMutations, as a run of before has printed it")

// TestMutations changes a copy of a log in 10,000 ways at random: each is found. What changes nothing does not count.
func TestMutations(t *testing.T) {
	whole := smallLog(t, 8000, 1000, 50) // few heads: under the race detector a signature takes most of the time
	r, err := Verify(whole, testPublic)
	if err != nil || r.Segments < 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	t.Logf("-seed %d", *mutationSeed)
	const workers, each = 4, 2500
	var mu sync.Mutex
	found, same := map[string]int{}, 0
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			m := mutator{rand.New(rand.NewPCG(*mutationSeed, uint64(w))), whole, slices.Sorted(maps.Keys(whole))}
			for i := range each {
				what, changed := m.mutate()
				for equalFiles(whole, changed) {
					mu.Lock()
					same++
					mu.Unlock()
					what, changed = m.mutate()
				}
				_, err := Verify(changed, testPublic)
				var broken *Broken
				if !errors.As(err, &broken) {
					t.Errorf("worker %d, %d: %s is not found: %v", w, i, what, err)
				}
				mu.Lock()
				found[what]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d lines, %d of them heads, in %d segments; found: %v; %d more changed nothing", r.Last, r.Heads, r.Segments, found, same)
	if len(found) != len(mutations) {
		t.Errorf("found were %v", found)
	}
}

func equalFiles(a, b fstest.MapFS) bool {
	return maps.EqualFunc(a, b, func(x, y *fstest.MapFile) bool { return bytes.Equal(x.Data, y.Data) })
}

// A mutator changes copies of a log.
type mutator struct {
	*rand.Rand
	whole fstest.MapFS
	names []string
}

var mutations = []string{"bit flip", "cut", "cut of lines", "swap of lines", "splice", "splice of lines", "overwriting", "removed file", "swapped files"}

// mutate returns what it did, and the changed copy.
func (m mutator) mutate() (string, fstest.MapFS) {
	files := maps.Clone(m.whole)
	name := m.names[m.IntN(len(m.names))]
	b := bytes.Clone(files[name].Data)
	what := mutations[m.IntN(len(mutations))]
	switch what {
	case "bit flip":
		i := m.IntN(len(b))
		b[i] ^= 1 << m.IntN(8)
	case "cut":
		from, to := m.span(len(b))
		b = slices.Delete(b, from, to)
	case "cut of lines":
		lines := splitLines(b)
		from, to := m.span(len(lines))
		b = bytes.Join(slices.Delete(lines, from, to), nil)
	case "swap of lines":
		name = m.names[m.IntN(len(m.names)-1)] // a segment
		lines := splitLines(bytes.Clone(files[name].Data))
		i, j := m.IntN(len(lines)), m.IntN(len(lines))
		lines[i], lines[j] = lines[j], lines[i]
		b = bytes.Join(lines, nil)
	case "splice":
		from := files[m.names[m.IntN(len(m.names))]].Data
		i, j := m.span(len(from))
		b = slices.Insert(b, m.IntN(len(b)+1), from[i:j]...)
	case "splice of lines":
		from := splitLines(files[m.names[m.IntN(len(m.names))]].Data)
		lines := splitLines(b)
		i, j := m.span(len(from))
		b = bytes.Join(slices.Insert(lines, m.IntN(len(lines)+1), from[i:j]...), nil)
	case "overwriting":
		from := files[m.names[m.IntN(len(m.names))]].Data
		n := 1 + m.IntN(min(len(from), len(b)))
		copy(b[m.IntN(len(b)-n+1):], from[m.IntN(len(from)-n+1):][:n])
	case "removed file":
		delete(files, name)
		return what, files
	case "swapped files":
		other := m.names[m.IntN(len(m.names))]
		files[name], files[other] = files[other], files[name]
		return what, files
	}
	files[name] = &fstest.MapFile{Data: b}
	return what, files
}

// span is at least one of n.
func (m mutator) span(n int) (from, to int) {
	from = m.IntN(n)
	return from, from + 1 + m.IntN(n-from)
}

func splitLines(b []byte) [][]byte {
	return bytes.SplitAfter(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// TestNamesTheLine changes each line of a log in turn: in what it says, in the hash that it holds, and by taking it out.
func TestNamesTheLine(t *testing.T) {
	whole := smallLog(t, 2500, 6, 40)
	seq := uint64(0)
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		if name == headFile {
			continue
		}
		lines := splitLines(whole[name].Data)
		for i := range lines {
			seq++
			for what, change := range map[string]func([]byte) []byte{
				"its text": func(b []byte) []byte { return bytes.Replace(b, []byte("bastion-1"), []byte("bastion-2"), 1) },
				"its hash": func(b []byte) []byte {
					at := bytes.Index(b, []byte(`"prev":"`)) + 20
					b[at] ^= 1 // a hexadecimal digit becomes another, or what it is not
					return b
				},
				"all of it": func([]byte) []byte { return []byte("\n") },
				"its place": func([]byte) []byte { return nil },
			} {
				changed := slices.Clone(lines)
				changed[i] = change(bytes.Clone(lines[i]))
				files := maps.Clone(whole)
				files[name] = &fstest.MapFile{Data: bytes.Join(append(changed, []byte("\n")), nil)}
				if i == len(lines)-1 && what == "its place" {
					files[name] = &fstest.MapFile{Data: bytes.Join(changed, nil)}
				}
				_, err := Verify(files, testPublic)
				var broken *Broken
				if !errors.As(err, &broken) {
					t.Fatalf("line %d without %s: %v", seq, what, err)
				}
				// A line that is gone may show where the next one should be, in the next file.
				if broken.Seq != seq || broken.File != name && what != "its place" || broken.Line != i+1 && what != "its place" {
					t.Errorf("line %d (%s, %d) without %s: %v", seq, name, i+1, what, broken)
				}
			}
		}
	}
}

// TestUnsigned: lines after the last head are counted, and the report says so.
func TestUnsigned(t *testing.T) {
	l := open(t, Config{})
	write(t, l, 0, 5)
	r := verify(t, l.cfg.Dir)
	if r.Unsigned != 5 || r.Head.Seq != 1 || r.Last != 6 {
		t.Errorf("got %+v", r)
	}
	// What cannot be shown without a witness, as the package says: the end of them may be cut off.
	files := load(t, l.cfg.Dir)
	lines := splitLines(files[segmentName(1)].Data)
	files[segmentName(1)].Data = bytes.Join(lines[:4], nil)
	if r, err := Verify(files, testPublic); err != nil || r.Unsigned != 3 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestWitness: taking back everything to an earlier head is found by a head that was kept elsewhere.
func TestWitness(t *testing.T) {
	l := open(t, Config{HeadLines: 5})
	write(t, l, 0, 7)
	early := crash(t, l)
	write(t, l, 7, 20)
	closeLog(t, l)
	kept, err := ParseHead(load(t, l.cfg.Dir)[headFile].Data, testPublic)
	if err != nil || kept != l.Head() {
		t.Fatalf("%+v, %v", kept, err)
	}

	verify(t, early)
	v := Verifier{Keys: l.keys, Witness: []Head{kept}}
	var broken *Broken
	if _, err := v.Verify(os.DirFS(early)); !errors.As(err, &broken) || !strings.Contains(broken.Why, "the end is missing") {
		t.Errorf("got %v", err)
	}
	if _, err := v.Verify(os.DirFS(l.cfg.Dir)); err != nil {
		t.Error(err)
	}

	// Another log of the same key, as long.
	other := open(t, Config{HeadLines: 5})
	write(t, other, 100, 40)
	closeLog(t, other)
	if _, err := v.Verify(os.DirFS(other.cfg.Dir)); !errors.As(err, &broken) || broken.Seq != kept.Seq {
		t.Errorf("got %v", err)
	}
	for _, text := range []string{"", "{}", string(load(t, l.cfg.Dir)[headFile].Data[:100]), `{"seq":1,"event":"flow.open"}`} {
		if _, err := ParseHead([]byte(text), testPublic); err == nil {
			t.Errorf("%q was taken for a head", text)
		}
	}
	if _, err := ParseHead([]byte(kept.Line)); err == nil {
		t.Error("a head was taken without a key")
	}
}

// TestForgedRetention: lines that say that retention removed others count once a head has signed them.
func TestForgedRetention(t *testing.T) {
	l := open(t, Config{SegmentBytes: 3 << 10})
	write(t, l, 0, 25)
	dir := crash(t, l)
	segments, err := listSegments(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, segments[0].name())); err != nil {
		t.Fatal(err)
	}
	var broken *Broken
	if _, err := Verify(os.DirFS(dir), testPublic); !errors.As(err, &broken) || broken.Seq != 1 {
		t.Errorf("got %v", err)
	}
	forged, err := line(Event{Seq: l.seq + 1, Kind: Retention, Prev: l.hash, Detail: map[string]string{"through": fmt.Sprint(segments[1].first - 1)}})
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, dir, segments[len(segments)-1].name(), string(forged))
	if _, err := Verify(os.DirFS(dir), testPublic); !errors.As(err, &broken) || broken.Seq != 1 {
		t.Errorf("got %v", err)
	}
}

// TestRemovedThrough: an event cannot remove itself, nor say nonsense.
func TestRemovedThrough(t *testing.T) {
	for through, want := range map[string]uint64{"9": 9, "10": 0, "18446744073709551615": 0, "-1": 0, "": 0, "x": 0} {
		if got := removedThrough(Event{Seq: 10, Detail: map[string]string{"through": through}}); got != want {
			t.Errorf("%q: %d", through, got)
		}
	}
}

// TestWhileWritten verifies a log again and again while it is written and rotated, and old segments go.
func TestWhileWritten(t *testing.T) {
	l := open(t, Config{SegmentBytes: 4 << 10, HeadLines: 5, KeepBytes: 16 << 10, retainEvery: time.Millisecond})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			writeMore(t, l, i, 1)
		}
	})
	removed := uint64(0)
	for i := 0; i < 100 || removed == 0; i++ {
		r, err := Verify(os.DirFS(l.cfg.Dir), testPublic)
		var broken *Broken
		if errors.As(err, &broken) && !strings.Contains(broken.Why, errTorn.Error()) {
			t.Error(err)
		}
		removed = max(removed, r.Removed)
	}
	close(stop)
	wg.Wait()
	closeLog(t, l)
	verify(t, l.cfg.Dir)
}

// TestHeadAsDocumented verifies a head as docs/audit.md says that another program can.
func TestHeadAsDocumented(t *testing.T) {
	head := open(t, Config{}).Head().Line
	cut := len(head) - 138
	var e struct{ Sig, Key string }
	if err := json.Unmarshal([]byte(head), &e); err != nil {
		t.Fatal(err)
	}
	sig, err := hex.DecodeString(e.Sig)
	if err != nil || !ed25519.Verify(testPublic, []byte("sallyport-audit-head-v1\n"+head[:cut]), sig) {
		t.Errorf("%s does not verify: %v", head, err)
	}
	if sum := sha256.Sum256(testPublic); e.Key != hex.EncodeToString(sum[:8]) {
		t.Errorf("the key is %s", e.Key)
	}
}

// TestFormat: a log of a later format is refused, not taken for a forged one.
func TestFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := signHead(Event{Seq: 1, Time: time.Now(), Kind: HeadKind, Format: 2, Key: KeyID(testPublic), Prev: noLine}, testKey)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(fstest.MapFS{segmentName(1): {Data: b}, headFile: {Data: b}}, testPublic)
		if err == nil || !strings.Contains(err.Error(), "format 2") {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzVerify: whatever stands in the files, Verify says what is wrong with it and does not panic; what it finds whole
// begins and ends as the original.
func FuzzVerify(f *testing.F) {
	whole := smallLog(f, 2500, 6, 14)
	segment, head := whole[segmentName(1)].Data, whole[headFile].Data
	f.Add(segment, head)
	f.Add(segment[:100], head)
	f.Add([]byte("{}\n"), []byte("{}\n"))
	f.Add(bytes.Repeat([]byte("x"), 2*maxLine), head)
	f.Fuzz(func(t *testing.T, segment, head []byte) {
		r, err := Verify(fstest.MapFS{segmentName(1): {Data: segment}, headFile: {Data: head}}, testPublic)
		if err == nil && (r.First != 1 || r.Last < r.Head.Seq || r.Head.Seq == 0) {
			t.Errorf("got %+v", r)
		}
		var broken *Broken
		if err != nil && (!errors.As(err, &broken) || broken.Why == "" || broken.File == "") {
			t.Errorf("got %v", err)
		}
	})
}
