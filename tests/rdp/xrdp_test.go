package rdp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/audit"
	"sallyport/tests/lab"
)

// inSession is what the desktop's terminal runs: it writes down what is typed, takes the file "copy" for its clipboard,
// and writes its clipboard to "pasted" when there is a file "paste".
const inSession = `cd %s
echo XRDP DESKTOP
(while sleep 0.2; do
	if [ -f copy ]; then xclip -i -selection clipboard copy; mv copy copied; fi
	if [ -f paste ]; then rm paste; timeout 5 xclip -o -selection clipboard -t UTF8_STRING >pasted.new 2>/dev/null || echo NOTHING >pasted.new; mv pasted.new pasted; fi
done) &
while read line; do echo "$line" >typed; done
`

// xrdp starts an xrdp whose session exchanges files with the test.
func (b *bastion) xrdp(security string) (*lab.XRDP, string) {
	b.t.Helper()
	dir := b.folder()
	script := filepath.Join(dir, "session.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, inSession, dir), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return b.XRDP(b.VNet.Namespace, lab.XRDPOptions{Security: security, Program: "exec sh " + script}), dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(next, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// TestXRDP: a desktop that is made at log-on, whose clipboard goes both ways, and which is the same when a page comes back
// to it with another size and without the password.
func TestXRDP(t *testing.T) {
	b := newBastion(t, "{}", "")
	x, dir := b.xrdp("tls")
	at := func(name string) string { return filepath.Join(dir, name) }
	b.connect(login{User: x.User, Password: x.Password, Width: 1002, Height: 700})
	b.sees("XRDP DESKTOP")
	b.browser.Run("desk.click(300, 300)")
	b.browser.Run(`desk.type("first line\n")`)
	b.file(at("typed"), "first line")

	b.browser.Run("desk.copy('grüße from the browser')")
	time.Sleep(500 * time.Millisecond)
	write(t, at("paste"), "")
	b.file(at("pasted"), "grüße from the browser")
	write(t, at("copy"), "grüße from the target")
	b.until("the target's clipboard in the browser", time.Minute, func() bool { return b.browser.Run("desk.remote") == "grüße from the target" })
	var clips []string
	for _, e := range append(b.book.of(audit.ClipboardIn), b.book.of(audit.ClipboardOut)...) {
		if e.User != "ann" || e.Target != "desk-1" {
			t.Errorf("written down as %+v", e)
		}
		clips = append(clips, e.Kind+" "+e.Detail["size"]+" "+e.Detail["sha256"])
	}
	for kind, text := range map[string]string{audit.ClipboardIn: "grüße from the browser", audit.ClipboardOut: "grüße from the target"} {
		sum := sha256.Sum256([]byte(text))
		if want := kind + " " + strconv.Itoa(len(text)) + " " + hex.EncodeToString(sum[:]); !slices.Contains(clips, want) {
			t.Errorf("%s is not among what is written down: %v", want, clips)
		}
	}

	b.mu.Lock()
	b.vanish = true
	b.mu.Unlock()
	b.connect(login{Again: true, Width: 1400, Height: 1050})
	b.sees("first line")
	if size := b.browser.Run("desk.width + ' ' + desk.height"); size != "1400 1050" {
		t.Errorf("the desktop is %s, not 1400 1050", size)
	}
	b.browser.Run("desk.click(300, 300)")
	b.browser.Run(`desk.type("second line\n")`)
	b.file(at("typed"), "second line")
	b.until("the end of the first flow", 5*time.Second, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.reset.Code == "E_SUPERSEDED"
	})
	b.sound()
}

// TestXRDPClipboardRefused: what policy does not allow does not pass, in either direction.
func TestXRDPClipboardRefused(t *testing.T) {
	b := newBastion(t, "{}", `forbid (principal, action == Action::"clipboard_in", resource);`)
	x, dir := b.xrdp("negotiate")
	at := func(name string) string { return filepath.Join(dir, name) }
	b.connect(login{User: x.User, Password: x.Password})
	b.sees("XRDP DESKTOP")
	b.browser.Run("desk.copy('from the browser')")
	write(t, at("copy"), "from the target")
	b.until("the target's clipboard in the browser", time.Minute, func() bool { return b.browser.Run("desk.remote") == "from the target" })
	write(t, at("paste"), "")
	b.file(at("pasted"), "from the target")

	b.policy("{}", `forbid (principal, action == Action::"clipboard_out", resource);`)
	b.connect(login{User: x.User, Password: x.Password})
	b.sees("XRDP DESKTOP")
	write(t, at("copy"), "from the target again")
	b.until("the copy", time.Minute, func() bool { _, err := os.Stat(at("copy")); return err != nil })
	time.Sleep(2 * time.Second)
	if got := b.browser.Run("desk.remote"); got != "" {
		t.Errorf("the browser has the target's clipboard: %q", got)
	}
	b.browser.Run("desk.copy('from the browser')")
	time.Sleep(time.Second)
	write(t, at("paste"), "")
	b.file(at("pasted"), "from the browser")
	for _, e := range b.book.of(audit.ClipboardOut) {
		if e.Detail["size"] == strconv.Itoa(len("from the target again")) {
			t.Errorf("it is written down that the target's clipboard passed: %+v", e)
		}
	}
}

// TestRDPSecurity: a server without TLS is refused, and the person is told why.
func TestRDPSecurity(t *testing.T) {
	b := newBastion(t, "{}", "")
	x, _ := b.xrdp("rdp")
	b.connect(login{User: x.User, Password: x.Password})
	if m := b.notice(); m.Code != "E_RDP_SECURITY" || !strings.Contains(m.Sentence, "only has RDP's own encryption") {
		t.Errorf("a server without TLS: %+v", m)
	}
	b.until("the client's error", time.Minute, func() bool { return strings.HasPrefix(b.browser.Run("desk.state"), "failed: 4 ") })
}
