package desktops

import (
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestShadow: a desktop that wants network level authentication, and one that does not.
func TestShadow(t *testing.T) {
	b := start(t)
	program, typed := b.writes("SHADOW DESKTOP", "shadow")
	s := b.Shadow(b.VNet.Namespace, lab.ShadowOptions{Port: shadowNLA, Program: []string{"sh", "-c", program}})

	t.Run("wrong password, and the right one", func(t *testing.T) {
		b := b.on(t)
		b.open("nla")
		b.window(390, 800)
		b.screenshot("phone")
		if wide := b.browser.Run("document.documentElement.scrollWidth"); wide != "390" {
			t.Errorf("on a phone the form is %s wide", wide)
		}
		b.window(1024, 768)
		b.fill(login{user: s.User, password: "something else"})
		b.says("nla refused the log-on: the target does not accept this user and password.")
		b.says("Check user, domain and password.")
		b.says("This desktop was never seen before")
		b.says("sha256:")
		b.screenshot("refused")
		b.fill(login{user: s.User, password: s.Password}) // without loading anything
		b.sees("SHADOW DESKTOP")
		b.screenshot("open")
		b.click(200, 200)
		b.types("hello 4711\n")
		b.file(typed, "hello 4711")
		if text := b.browser.Run("document.documentElement.outerHTML + JSON.stringify({...localStorage, ...sessionStorage})"); strings.Contains(text, s.Password) {
			t.Error("the page keeps the password")
		}
		b.sound()
	})
	t.Run("reload", func(t *testing.T) {
		b := b.on(t)
		b.browser.Call("Page.reload", nil)
		b.sees("SHADOW DESKTOP")
		b.types("after a reload\n")
		b.file(typed, "after a reload")
		b.sound()
	})
	t.Run("the browser proves the password", func(t *testing.T) {
		b := b.on(t)
		b.sign("nla", login{user: s.User, password: s.Password, browser: true})
		b.sees("SHADOW DESKTOP")
		b.types("proved here\n")
		b.file(typed, "proved here")
		b.sign("nla", login{user: s.User, password: "something else", browser: true})
		b.says("The desktop does not take this user name and password.")
	})
	t.Run("without network level authentication", func(t *testing.T) {
		b := b.on(t)
		program, typed := b.writes("TLS DESKTOP", "tls")
		other := b.Shadow(b.VNet.Namespace, lab.ShadowOptions{Port: shadowTLS, TLS: true, Program: []string{"sh", "-c", program}})
		b.sign("tls", login{})
		b.sees("TLS DESKTOP")
		b.click(200, 200)
		b.types("over tls\n")
		b.file(typed, "over tls")
		b.sign("tls", login{user: "ann", password: "x", browser: true})
		b.says("tls does no network level authentication, so the browser cannot keep the password from the appliance.")
		other.Process.Stop()
		b.Weston(b.VNet.Namespace, lab.WestonOptions{Port: shadowTLS})
		b.sign("tls", login{})
		b.says("tls shows another certificate than it is known by: ")
		b.says("Nothing was sent to it; ")
		b.screenshot("another")
	})
	t.Run("weston", func(t *testing.T) {
		b := b.on(t)
		program, typed := b.writes("WESTON DESKTOP", "weston")
		b.Weston(b.VNet.Namespace, lab.WestonOptions{Port: westonTLS, Program: program})
		b.sign("weston", login{})
		b.sees("W") // of the terminal: of its title, or, where that is dim, of what it shows
		// Its terminal has the keyboard some time after the click: a line is typed until one comes whole.
		for end := time.Now().Add(time.Minute); ; {
			b.click(300, 300)
			b.types("a wayland desktop\n")
			time.Sleep(2 * time.Second)
			if line, _ := os.ReadFile(typed); strings.TrimSpace(string(line)) == "a wayland desktop" {
				break
			} else if time.Now().After(end) {
				t.Fatalf("the terminal has read %q", line)
			}
		}
		b.sound()
	})
}
