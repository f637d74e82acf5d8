package portal

import (
	"path/filepath"
	"regexp"
	"testing"
)

// TestPages: every page at the widths of a large screen, a small one and a phone, light and dark: nothing runs out of the
// window or lies over something else, nobody is kept from using it, and no page breaks its policy or complains.
func TestPages(t *testing.T) {
	t.Parallel()
	w := start(t, settings{})
	w.login("ann", w.home)
	bob := filepath.Join(w.Dir, "bob")
	w.login("bob", bob)
	w.session(w.home, "db-1")
	w.session(bob, "db-2")
	w.command(w.home, "", "admin", "accounts", "add", "fay")
	w.command(w.home, "", "admin", "lock", "user", "eve", "--why", "the laptop is lost")
	w.browse("pages.mjs", map[string]any{"link": w.link("ann"), "paths": []string{"/", "/connect/db-1", "/connect/vault", "/connect/nothing", "/sessions", "/approvals", "/account", "/downloads",
		"/admin/sessions", "/admin/access", "/admin/accounts", "/admin/devices", "/admin/codes", "/admin/locks", "/admin/hostkeys", "/admin/audit", "/admin/health", "/admin/settings"}})
}

// TestKeyboard: a person without a mouse, or without seeing, gets everywhere and is told what happens.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	w := start(t, settings{})
	w.login("ann", w.home)
	w.session(w.home, "db-1")
	w.browse("keyboard.mjs", map[string]any{"link": w.link("ann")})
}

// TestHostileNames: what people, targets, labels, devices, rules and errors are called is text, whatever it looks like.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	w := start(t, settings{})
	w.browse("hostile.mjs", map[string]any{"link": w.link("ann")})
}

// TestSignIn: people come in by all ways that an appliance has by itself, and leave without a trace.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := start(t, settings{})
	w.login("ann", w.home)
	setup := regexp.MustCompile(`/setup#\S+`).FindString(w.command(w.home, "", "admin", "accounts", "add", "fay"))
	w.browse("signin.mjs", map[string]any{"link": w.link("ann"), "setup": setup})
}
