package boot

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
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
	if err := Relay(iotest.OneByteReader(strings.NewReader(said)), &got); err != io.EOF {
		t.Error(err)
	}
	want := `<29>sallyport: serving listen=:443
<28>sallyport: a "b" c x=1
<27>sallyport: bad
<27>sallyport: panic: runtime error
<27>sallyport: goroutine 1 [running]:
<27>sallyport: the end
`
	if strings.Join(got, "") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ""), want)
	}
}

// FuzzRelay: whatever another process says, each record is one line that the kernel takes.
func FuzzRelay(f *testing.F) {
	f.Add([]byte("time=x level=INFO msg=\"a"))
	f.Add([]byte("\x00\xff\r\n\n" + strings.Repeat("é", 1000)))
	f.Fuzz(func(t *testing.T, said []byte) {
		var got records
		Relay(strings.NewReader(string(said)), &got)
		for _, r := range got {
			if len(r) > 960 || strings.Count(r, "\n") != 1 || !strings.HasPrefix(r, "<2") || strings.ContainsAny(r, "\x00\x1b\r") {
				t.Errorf("record %q", r)
			}
		}
	})
}
