package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testReading is the child. how says what becomes of it.
func testReading(how string) int {
	in, out, err := JoinReading()
	if err != nil {
		return 1
	}
	switch how {
	case "text":
		b, err := io.ReadAll(in)
		status, _ := os.ReadFile("/proc/self/status")
		fmt.Fprintf(out, "%s %v\n%s", b, err, status)
	case "memory":
		b := make([]byte, 1<<46)
		out.Write(b[:1])
	case "loop":
		for n := uint(0); n != 1; n += 2 { // it gets hot, and no system call could end it
		}
	case "much":
		for {
			if _, err := out.Write(make([]byte, 1<<10)); err != nil {
				return 1
			}
		}
	}
	return 0
}

// TestReading: whatever becomes of the child, there is a text or an error here.
func TestReading(t *testing.T) {
	name := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(name, []byte("what somebody has written"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(how string, timeout time.Duration) ([]byte, error) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer nowhere.Close()
		return Reading{Args: []string{"test", "reading", how}, Input: f, Timeout: timeout, Limit: 4 << 10, Output: nowhere}.Run(t.Context())
	}
	text, err := read("text", time.Minute)
	if err != nil || !strings.HasPrefix(string(text), "what somebody has written <nil>\n") {
		t.Errorf("%s, %v", text, err)
	}
	confined := []string{"CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"}
	if os.Geteuid() == 0 {
		confined = append(confined, "Uid:\t65533\t65533\t65533\t65533\n", "Groups:\t \n")
	}
	for _, want := range confined {
		if !strings.Contains(string(text), want) {
			t.Errorf("the child is not confined by %q: %s", want, text)
		}
	}
	var exit *ExitError
	if text, err := read("memory", time.Minute); !errors.As(err, &exit) || text != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := read("loop", time.Second); err == nil || err.Error() != "not done in 1s" || text != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := read("much", time.Minute); err == nil || err.Error() != "its text has more than 4096 bytes" || text != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
