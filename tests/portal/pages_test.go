package portal

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/tests/lab"
)

// TestPages: every page at the widths of a large screen, a small one and a phone, light and dark: nothing runs out of the
// window or lies over something else, nobody is kept from using it, and no page breaks its policy or complains.
func TestPages(t *testing.T) {
	t.Parallel()
	const office = "address: 10.99.0.12, protocols: {rdp: 3389}"
	w := start(t, settings{access: strings.Replace(usualAccess, office, "address: 10.99.0.10, protocols: {rdp: 3390}", 1)})
	desk := w.Shadow(w.VNet.Namespace, lab.ShadowOptions{Port: 3390})
	w.silent("10.99.0.10:3389")
	w.login("ann", w.home)
	bob := filepath.Join(w.Dir, "bob")
	w.login("bob", bob)
	w.session(w.home, "db-1")
	w.session(bob, "db-2")
	w.command(w.home, "", "admin", "accounts", "add", "fay")
	w.command(w.home, "", "admin", "lock", "user", "eve", "--why", "the laptop is lost")
	w.browse("pages.mjs", map[string]any{"link": w.link("ann"), "desk": "office-pc", "user": desk.User, "password": desk.Password, "silent": "db-1", "paths": []string{"/", "/connect/db-1", "/connect/vault", "/connect/nothing", "/sessions", "/approvals", "/account", "/downloads",
		"/admin/sessions", "/admin/access", "/admin/accounts", "/admin/devices", "/admin/codes", "/admin/locks", "/admin/hostkeys", "/admin/audit", "/admin/health", "/admin/settings"}})
}

// silent is a server in the VNet that ends its first connection, and says nothing to the others.
func (w *site) silent(address string) {
	w.t.Helper()
	l, err := w.VNet.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	var conns []net.Conn
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if conns = append(conns, c); len(conns) == 1 {
				c.Close()
			}
		}
	}()
	w.t.Cleanup(func() {
		l.Close()
		<-served
		for _, c := range conns {
			c.Close()
		}
	})
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
