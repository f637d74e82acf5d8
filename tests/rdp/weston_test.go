package rdp

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestWeston: a server that has TLS, RemoteFX and nobody who logs on.
func TestWeston(t *testing.T) {
	b := newBastion(t, "{credssp: 'off'}", "")
	typed := filepath.Join(b.folder(), "typed")
	b.Weston(b.VNet.Namespace, lab.WestonOptions{Program: fmt.Sprintf("echo WESTON DESKTOP; while read line; do echo $line > %s; done", typed)})
	b.connect(login{User: "ann"})
	b.sees("WESTON DESKTOP")
	// Its terminal has the keyboard some time after the click: a line is typed until one comes whole.
	for end := time.Now().Add(time.Minute); ; {
		b.browser.Run("desk.click(400, 400)")
		b.browser.Run(`desk.type("wayland\n")`)
		time.Sleep(2 * time.Second)
		if line, _ := os.ReadFile(typed); string(line) == "wayland\n" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the terminal has read %q", line)
		}
	}
	b.sound()
}
