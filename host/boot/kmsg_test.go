package boot

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// records takes what is written, one record a write, as /dev/kmsg does.
type records []string

func (r *records) Write(p []byte) (int, error) {
	*r = append(*r, string(p))
	return len(p), nil
}

func TestHandler(t *testing.T) {
	var got records
	log := slog.New(NewHandler(&got, slog.LevelInfo))
	log.Debug("nobody hears it")
	log.Info("it starts", "build", "abc", "msg", 1)
	log.With("vnet", "hub").Warn("half\nof it\x1b[2J", "cause", errors.New("a \"b\""))
	log.WithGroup("g").Error("bad", "n", 2)
	want := []string{
		"<29>sallyport: it starts build=abc\n",
		"<28>sallyport: half\n", "<28>sallyport: of it?[2J vnet=hub cause=\"a \\\"b\\\"\"\n",
		"<27>sallyport: bad g.n=2\n",
	}
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestLongLines: none is more than the kernel takes, and no character is cut.
func TestLongLines(t *testing.T) {
	var got records
	long := strings.Repeat("ä", 2000)
	slog.New(NewHandler(&got, slog.LevelInfo)).Info(long)
	all := ""
	for _, r := range got {
		if len(r) > 960 {
			t.Errorf("a record of %d bytes", len(r))
		}
		all += strings.TrimSuffix(strings.TrimPrefix(r, "<29>sallyport: "), "\n")
	}
	if all != long || len(got) != 5 {
		t.Errorf("%d records, %d bytes of %d", len(got), len(all), len(long))
	}
}

func TestRelay(t *testing.T) {
	said := `time=2026-11-27T04:14:46.031Z level=INFO msg=serving listen=:443
time=2026-11-27T04:14:46.031Z level=WARN+2 msg="a \"b\" c" x=1
time=2026-11-27T04:14:46.031Z level=ERROR msg=bad
panic: runtime error

goroutine 1 [running]:
the end`
	var got records
	if err := Relay(iotest.OneByteReader(strings.NewReader(said)), &got, "worker"); err != io.EOF {
		t.Error(err)
	}
	want := `<29>sallyport worker: serving listen=:443
<28>sallyport worker: a "b" c x=1
<27>sallyport worker: bad
<27>sallyport worker: panic: runtime error
<27>sallyport worker: goroutine 1 [running]:
<27>sallyport worker: the end
`
	if strings.Join(got, "") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ""), want)
	}
}

// TestRelayOfAFlood: who says too much is cut short, and that is said, once.
func TestRelayOfAFlood(t *testing.T) {
	r, w := io.Pipe()
	var got records
	done := make(chan struct{})
	go func() {
		defer close(done)
		Relay(r, &got, "worker")
	}()
	for range 20 * saidAtOnce {
		io.WriteString(w, "level=ERROR msg=no\n")
	}
	time.Sleep(1200 * time.Millisecond) // for some more
	io.WriteString(w, "the end\n")
	w.Close()
	<-done
	told := slices.DeleteFunc(slices.Clone(got), func(r string) bool { return strings.HasPrefix(r, "<27>sallyport worker: ") })
	if len(got) < saidAtOnce || len(got) > 10*saidAtOnce || len(told) == 0 {
		t.Errorf("%d records, told %q", len(got), told)
	}
	for _, r := range told {
		if !strings.HasPrefix(r, "<28>sallyport: the worker has said too much; ") {
			t.Error(r)
		}
	}
	if last := got[len(got)-1]; last != "<27>sallyport worker: the end\n" {
		t.Error(last)
	}
}

// FuzzRelay: whatever another process says, each record is one line that the kernel takes.
func FuzzRelay(f *testing.F) {
	f.Add([]byte("time=x level=INFO msg=\"a"))
	f.Add([]byte("\x00\xff\r\n\n" + strings.Repeat("é", 1000)))
	f.Fuzz(func(t *testing.T, said []byte) {
		var got records
		Relay(strings.NewReader(string(said)), &got, "worker")
		for _, r := range got {
			if len(r) > 960 || strings.Count(r, "\n") != 1 || !strings.HasPrefix(r[3:], ">sallyport worker: ") || strings.ContainsAny(r, "\x00\x1b\r") {
				t.Errorf("record %q", r)
			}
		}
	})
}
