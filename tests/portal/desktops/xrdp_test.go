package desktops

import (
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/tests/chaoslink/chaos"
	"sallyport/tests/lab"
)

// inSession is what the terminal of a session runs: it writes down what is typed. It takes the file "copy" for its
// clipboard, writes its clipboard to "pasted" when there is a file "paste", and its size to "sized" when there is a file "size".
// With "h" in the file "mouse" it takes what the mouse does for typed, until there is "l" in one. It scrolls for the seconds in "scroll", after which it leaves a
// picture of itself.
const inSession = `cd %s
echo XRDP DESKTOP
(while sleep 0.2; do
	if [ -f copy ]; then xclip -i -selection clipboard copy; mv copy copied; fi
	if [ -f paste ]; then rm paste; timeout 5 xclip -o -selection clipboard -t UTF8_STRING >pasted.new 2>/dev/null || echo NOTHING >pasted.new; mv pasted.new pasted; fi
	if [ -f size ]; then rm size; xwininfo -root | sed -n "s/.*-geometry \([0-9x]*\).*/\1/p" >sized.new; mv sized.new sized; fi
	if [ -f mouse ]; then on=$(cat mouse); rm mouse; printf "\033[?1000$on\033[?1006$on"; fi
	if [ -f scroll ]; then
		end=$(($(date +%%s) + $(cat scroll))); n=0
		while [ $(date +%%s) -lt $end ]; do n=$((n + 1)); echo "$n the quick brown fox jumps over the lazy dog $n"; sleep 0.02; done
		echo; echo SOAK DONE; sleep 4; import -window root still.png; mv still.png picture.png; rm scroll
	fi
done) &
while read -r line; do printf "%%s\n" "$line" >typed; done
`

// xrdp starts an xrdp whose session exchanges files with the test.
func (b *bastion) xrdp(port uint16, security string) (*lab.XRDP, func(name string) string) {
	b.t.Helper()
	dir := b.folder()
	script := filepath.Join(dir, "session.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, inSession, dir), 0o755); err != nil {
		b.t.Fatal(err)
	}
	x := b.XRDP(b.VNet.Namespace, lab.XRDPOptions{Port: port, Security: security, Program: "exec sh " + script})
	return x, func(name string) string { return filepath.Join(dir, name) }
}

// leave leaves a file for the session, whole at once.
func (b *bastion) leave(path, text string) {
	b.t.Helper()
	next := path + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(text), 0o666), os.Chmod(next, 0o666), os.Rename(next, path)); err != nil {
		b.t.Fatal(err)
	}
}

// screen waits until the session's own screen has the size of the picture: then it is there, and hears keys.
func (b *bastion) screen(at func(name string) string) {
	b.t.Helper()
	b.until("screen of the picture's size", time.Minute, func() error {
		want := b.browser.Run("(c => c.width + 'x' + c.height)(document.querySelector('canvas'))")
		b.leave(at("size"), "")
		time.Sleep(500 * time.Millisecond)
		if got, _ := os.ReadFile(at("sized")); strings.TrimSpace(string(got)) != want {
			return fmt.Errorf("it is %s, not %s", got, want)
		}
		return nil
	})
}

// clipboard is what this computer's is.
func (b *bastion) clipboard(want string) {
	b.t.Helper()
	b.until("clipboard", time.Minute, func() error {
		if got := b.reads("navigator.clipboard.readText()"); got != want {
			return fmt.Errorf("it has %q, not %q", got, want)
		}
		return nil
	})
}

// flows is how many flows there have been.
func (b *bastion) flows() int { return strings.Count(b.daemon.Output(), `msg="flow opened"`) }

// TestXRDP: a desktop that is made at log-on, in one session after another.
func TestXRDP(t *testing.T) {
	b := start(t)
	x, at := b.xrdp(xrdpTLS, "tls")
	b.sign("xrdp", login{user: x.User, password: x.Password})
	b.sees("XRDP DESKTOP")
	b.click(300, 300)
	b.types("first line\n")
	b.file(at("typed"), "first line")

	t.Run("clipboard", func(t *testing.T) {
		b := b.on(t)
		const attack = `"><img src=x onerror=window.broken.push("attacked")>` // which sound finds
		b.browser.Run(fmt.Sprintf("navigator.clipboard.writeText(%q)", "grüße from the browser"+attack))
		b.chord("ControlLeft", control, "KeyV")
		time.Sleep(500 * time.Millisecond)
		b.leave(at("paste"), "")
		b.file(at("pasted"), "grüße from the browser"+attack)
		b.leave(at("copy"), "grüße from the desktop"+attack)
		b.clipboard("grüße from the desktop" + attack)
		b.types("\n")
	})
	t.Run("another size", func(t *testing.T) {
		b := b.on(t)
		b.press("All right") // what was told of the certificate takes room
		b.window(1280, 900)
		b.press("Match size")
		b.size("1280x8")
		b.sees("first line")
		b.types("second line\n")
		b.file(at("typed"), "second line")
		b.screenshot("matched")
		b.browser.Run("(s => { s.value = '2560x1440'; s.dispatchEvent(new Event('change', { bubbles: true })); })(document.querySelector('[name=size]'))")
		b.press("Match size")
		b.size("2560x1440")
		b.screen(at)
		b.types("large\n")
		b.file(at("typed"), "large")
		b.screenshot("large")
		b.browser.Run("(s => { s.value = 'window'; s.dispatchEvent(new Event('change', { bubbles: true })); })(document.querySelector('[name=size]'))")
	})
	t.Run("follows the window", func(t *testing.T) {
		b := b.on(t)
		b.browser.Run("document.querySelector('[name=follow]').click()")
		b.window(1100, 800)
		b.size("1100x7")
		b.sees("first line")
		b.browser.Run("document.querySelector('[name=follow]').click()")
		b.browser.Run("(k => { const lock = k.lock.bind(k); k.lock = (...keys) => lock(...keys).then(() => { window.keys = 'all of ' + keys.length }); })(navigator.keyboard)")
		b.point("Full screen")
		b.until("full screen", time.Minute, func() error {
			if b.reads("document.fullscreenElement?.className.includes('desk')") != "true" {
				return errors.New("it is not")
			}
			return nil
		})
		b.until("keyboard that is the desktop's alone", time.Minute, func() error {
			if keys := b.reads("window.keys"); keys != "all of 0" { // none named are all
				return errors.New(keys)
			}
			return nil
		})
		b.click(300, 300)
		b.screenshot("full screen")
		b.types("in full screen\n")
		b.file(at("typed"), "in full screen")
		b.browser.Run("document.exitFullscreen()")
	})
	t.Run("the way out", func(t *testing.T) {
		b := b.on(t)
		b.click(300, 300)
		held := 0
		for code, modifier := range map[string]int{"ControlLeft": control, "AltLeft": alt, "ShiftLeft": shift} {
			held |= modifier
			b.browser.Call("Input.dispatchKeyEvent", event("rawKeyDown", code, held))
		}
		goes := func() string { return b.browser.Run("dispatchEvent(new Event('beforeunload', { cancelable: true }))") }
		if goes() != "false" {
			t.Error("the browser does not ask before a key closes a session")
		}
		b.browser.Call("Input.dispatchKeyEvent", event("keyUp", "ShiftLeft", control|alt))
		if at := b.browser.Run("document.activeElement.closest('.bar')?.getAttribute('role')"); at != "toolbar" {
			t.Errorf("Ctrl+Alt+Shift leads to %q", at)
		}
		b.key("Escape", 0)
		if says := b.browser.Run("document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent"); !strings.Contains(says, "Ctrl+Alt+Shift") {
			t.Errorf("the desktop is described by %q", says)
		}
		b.types("nothing is held\n")
		b.file(at("typed"), "nothing is held")
		if goes() != "true" {
			t.Error("the browser asks whatever the page is left by")
		}
	})
	t.Run("keys", func(t *testing.T) {
		b := b.on(t)
		b.press("Ctrl+Alt+Del")
		b.types("\n")
		b.file(at("typed"), "\x1b[3;7~") // as terminals have that key
		b.types("gone")
		b.press("Ctrl+W") // takes the word away
		b.types("stays\n")
		b.file(at("typed"), "stays")
		b.locked("KeyA", true)
		b.locked("KeyB", false)
		b.types("c\n")
		b.file(at("typed"), "Abc")
		b.swiss()
		b.types("\n")
		b.file(at("typed"), "y") // the desktop's own layout counts
	})
	t.Run("fingers", func(t *testing.T) {
		b := b.on(t)
		b.browser.Call("Emulation.setTouchEmulationEnabled", map[string]any{"enabled": true, "maxTouchPoints": 2})
		mouse := func(on string) {
			t.Helper()
			b.leave(at("mouse"), on)
			b.until("mouse", time.Minute, func() error {
				if _, err := os.Stat(at("mouse")); err == nil {
					return errors.New("the terminal has not heard of it")
				}
				return nil
			})
		}
		mouse("h")
		said := func(want string) {
			t.Helper()
			b.types("\n")
			b.until("of the mouse "+want, time.Minute, func() error {
				line, _ := os.ReadFile(at("typed"))
				if got := regexp.MustCompile(`\x1b\[<(\d+);\d+;\d+([Mm])`).ReplaceAllString(strings.TrimSpace(string(line)), "$1$2 "); strings.TrimSpace(got) != want {
					return fmt.Errorf("%q", got)
				}
				return nil
			})
		}
		b.touch(0, []map[string]any{finger(1, 300, 300)})
		said("0M 0m")
		b.touch(time.Second, []map[string]any{finger(1, 300, 300)})
		said("2M 2m")
		b.touch(0, []map[string]any{finger(1, 300, 300)}, []map[string]any{finger(1, 300, 340)}, []map[string]any{finger(1, 400, 400)})
		said("0M 0m")
		b.touch(0, []map[string]any{finger(1, 300, 300)}, []map[string]any{finger(1, 300, 300), finger(2, 400, 300)}, []map[string]any{finger(1, 300, 260), finger(2, 400, 260)})
		said("65M")
		b.browser.Call("Emulation.setTouchEmulationEnabled", map[string]any{"enabled": false})
		mouse("l")
	})
	t.Run("scroll", func(t *testing.T) {
		b := b.on(t)
		seconds := "5"
		if os.Getenv("SALLYPORT_SOAK") != "" {
			seconds = "60"
		}
		b.leave(at("scroll"), seconds)
		b.until("picture", 2*time.Minute, func() error {
			_, err := os.Stat(at("picture.png"))
			return err
		})
		b.until("whole desktop", time.Minute, func() error { // what was drawn last may be on its way
			if wrong := differ(t, at("picture.png"), b.picture()); wrong > 0.002 {
				return fmt.Errorf("%.2f%% of it is not as it should be", 100*wrong)
			}
			return nil
		})
		still := b.picture()
		end := filepath.Join(b.Dir, "end.png")
		if err := os.Rename(still, end); err != nil {
			t.Fatal(err)
		}
		b.wheel(500) // there is nothing below
		time.Sleep(time.Second)
		if wrong := differ(t, end, b.picture()); wrong > 0.002 {
			t.Errorf("the wheel, turned down, changes %.2f%%", 100*wrong)
		}
		b.wheel(-500)
		b.until("what was before", time.Minute, func() error {
			if differ(t, end, b.picture()) < 0.01 {
				return errors.New("the wheel, turned up, changes nothing")
			}
			return nil
		})
	})
	t.Run("the network breaks", func(t *testing.T) {
		b := b.on(t)
		before := b.flows()
		for i := range 20 {
			b.link.Do(chaos.Fault{Kind: chaos.Cut})
			if i%2 == 0 {
				b.types("a") // while there is no network
				time.Sleep(50 * time.Millisecond)
			}
			b.link.Do(chaos.Fault{Kind: chaos.Pass})
			b.types("b\n")
			b.file(at("typed"), map[bool]string{true: "ab", false: "b"}[i%2 == 0])
		}
		b.link.Do(chaos.Fault{Kind: chaos.Cut})
		b.says("Resuming …")
		b.screenshot("resuming")
		b.types("c")
		b.link.Do(chaos.Fault{Kind: chaos.Pass})
		b.says("Connected")
		b.types("d\n")
		b.file(at("typed"), "cd")
		b.browser.Call("Page.setWebLifecycleState", map[string]any{"state": "frozen"})
		b.link.Do(chaos.Fault{Kind: chaos.Cut})
		time.Sleep(3 * time.Second)
		b.link.Do(chaos.Fault{Kind: chaos.Pass})
		b.browser.Call("Page.setWebLifecycleState", map[string]any{"state": "active"})
		b.types("after a sleep\n")
		b.file(at("typed"), "after a sleep")
		if after := b.flows(); after != before {
			t.Errorf("%d flows were opened", after-before)
		}
		b.sound()
	})
	t.Run("characters", func(t *testing.T) {
		b := b.on(t)
		b.browser.Run("document.querySelector('[name=unicode]').click(), document.querySelector('canvas').focus()")
		b.types("as unicode 1 ")
		b.swiss() // the layout here counts
		b.types("\n")
		b.file(at("typed"), "as unicode 1 z")
		b.browser.Run("document.querySelector('[name=unicode]').click(), document.querySelector('canvas').focus()")
		b.browser.Run("document.querySelector('details').open = true")
		b.screenshot("menu")
		b.browser.Run("document.querySelector('details').open = false")
	})
	t.Run("the client breaks", func(t *testing.T) {
		b := b.on(t)
		// Its constants begin at 1 MiB, after its stack, and with them the addresses of its functions.
		b.browser.Run("new Uint8Array(window.memory.buffer, 1 << 20, 2 << 20).fill(0), 0")
		b.types("x") // so that there is something to do
		b.says("The desktop's program in this page has failed.")
		b.screenshot("broken")
		b.press("Reconnect")
		b.sees("unicode")
		b.types("third line\n")
		b.file(at("typed"), "third line")
		b.sound()
	})
	t.Run("reload", func(t *testing.T) {
		b := b.on(t)
		b.browser.Call("Page.reload", nil)
		b.sees("third")
	})
	t.Run("away and back", func(t *testing.T) {
		b := b.on(t)
		b.follow("/")
		b.says("My sessions")
		b.browser.Run("history.back()")
		b.sees("third")
		b.click(300, 300)
		b.types("fourth line\n")
		b.file(at("typed"), "fourth line")
	})
	t.Run("another tab", func(t *testing.T) {
		b := b.on(t)
		b.browser.Run("window.other = open(location.href), 0") // it has what this tab knows
		b.says("The desktop has been opened elsewhere.")
		b.otherConnects()
		b.screenshot("elsewhere")
		b.press("Have it here")
		b.browser.Run("other.close()")
		b.sees("fourth")
		b.sound()
	})
	t.Run("a tab that was closed", func(t *testing.T) {
		b := b.on(t)
		b.follow("/sessions")
		b.browser.Run("(open => { window.open = (to) => (window.other = open.call(window, to)) })(window.open), 0")
		b.press("Open")
		b.otherConnects()
		b.browser.Run("other.close()")
	})
	t.Run("no clipboard", func(t *testing.T) {
		b := b.on(t)
		b.sign("sealed", login{user: x.User, password: x.Password})
		b.sees("third")
		if page := b.browser.Run("document.querySelector('.bar').textContent"); !strings.Contains(page, "Policy does not allow to paste from here into the desktop.") || !strings.Contains(page, "Policy does not allow to copy from the desktop to here.") {
			t.Errorf("the bar says %q", page)
		}
		b.browser.Run("navigator.clipboard.writeText('a secret from here')")
		b.chord("ControlLeft", control, "KeyV")
		b.says("Policy does not allow to paste from here into this desktop.")
		b.leave(at("copy"), "a secret from there")
		b.until("copy", time.Minute, func() error {
			if _, err := os.Stat(at("copy")); err == nil {
				return errors.New("it is still there")
			}
			return nil
		})
		os.Remove(at("pasted"))
		b.leave(at("paste"), "")
		b.file(at("pasted"), "a secret from there") // the desktop's own
		b.clipboard("a secret from here")
		b.sound()
	})
}

// TestXRDPNegotiate: the security that Debian's xrdp has by itself, without a password: the desktop asks.
func TestXRDPNegotiate(t *testing.T) {
	b := start(t)
	x, at := b.xrdp(xrdpNegotiate, "negotiate")
	b.sign("negotiate", login{user: x.User, password: x.Password})
	b.sees("XRDP DESKTOP")
	b.click(300, 300)
	b.types("negotiated\n")
	b.file(at("typed"), "negotiated")
	b.press("Disconnect")
	b.says("Let the browser do the password exchange")
	b.sound()
}

// TestXRDPClassic: RDP's own security is none.
func TestXRDPClassic(t *testing.T) {
	b := start(t)
	x, _ := b.xrdp(xrdpClassic, "rdp")
	b.sign("classic", login{user: x.User, password: x.Password})
	b.says("classic only has RDP's own encryption, which anybody in between can read.")
	b.says("Turn on TLS in its RDP service")
	b.screenshot("refused")
	b.press("Reconnect")
	b.says("Let the browser do the password exchange")
	b.sound()
}

// differ is which part of two pictures is not nearly the same: the codec is not exact.
func differ(t *testing.T, a, b string) float64 {
	t.Helper()
	read := func(path string) image.Image {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		picture, err := png.Decode(f)
		if err != nil {
			t.Fatal(err)
		}
		return picture
	}
	one, two := read(a), read(b)
	if one.Bounds() != two.Bounds() {
		t.Fatalf("the pictures are %v and %v", one.Bounds(), two.Bounds())
	}
	const near = 0x5000 // of a channel's 16 bits
	apart := func(x, y uint32) bool { return max(x, y)-min(x, y) > near }
	wrong, box := 0, one.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			r, g, b, _ := one.At(x, y).RGBA()
			r2, g2, b2, _ := two.At(x, y).RGBA()
			if apart(r, r2) || apart(g, g2) || apart(b, b2) {
				wrong++
			}
		}
	}
	return float64(wrong) / float64(box.Dx()*box.Dy())
}
