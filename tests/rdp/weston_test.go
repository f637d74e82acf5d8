package rdp

import (
	"fmt"
	"path/filepath"
	"testing"

	"sallyport/tests/lab"
)

// TestWeston: a server that has TLS, RemoteFX and nobody who logs on.
func TestWeston(t *testing.T) {
	b := newBastion(t, "{credssp: 'off'}", "")
	typed := filepath.Join(b.folder(), "typed")
	b.Weston(b.VNet.Namespace, lab.WestonOptions{Program: fmt.Sprintf("echo WESTON DESKTOP; while read line; do echo $line > %s; done", typed)})
	b.connect(login{User: "ann"})
	b.sees("WESTON DESKTOP")
	b.browser.Run("desk.click(400, 400)")
	b.browser.Run(`desk.type("wayland\n")`)
	b.file(typed, "wayland")
	b.sound()
}
