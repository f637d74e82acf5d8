package rdp

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/tests/lab"
)

// TestWeston: a server that has TLS, RemoteFX and nobody who logs on, by a certificate of its own and by an authority's.
func TestWeston(t *testing.T) {
	b := newBastion(t, "{credssp: 'off'}", "")
	typed := filepath.Join(b.folder(), "typed")
	w := b.Weston(b.VNet.Namespace, lab.WestonOptions{Program: fmt.Sprintf("echo WESTON DESKTOP; while read line; do echo $line > %s; done", typed)})
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

	b.policy(fmt.Sprintf("{credssp: 'off', ca: %q}", w.Authority), "")
	b.connect(login{User: "ann"})
	b.until("desktop", time.Minute, func() bool { return b.browser.Run("desk.state") == "open" })
	other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(t)})
	b.policy(fmt.Sprintf("{credssp: 'off', ca: %q}", other), "")
	b.connect(login{User: "ann"})
	if m := b.notice(); m.Code != "E_TARGET_IDENTITY" || !strings.HasPrefix(m.Sentence, "the certificate of desk-1 does not count: ") {
		t.Errorf("a certificate of another authority: %+v", m)
	}
	if events := b.book.of(audit.TargetIdentity); len(events) != 1 || events[0].Detail["known"] != "a certificate by rdp.ca" {
		t.Errorf("written down are %+v", events)
	}
}
