package portal

import (
	"net"
	"os/exec"
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
	w := start(t, settings{})
	w.login("ann", w.home)
	bob := filepath.Join(w.Dir, "bob")
	w.login("bob", bob)
	w.session(w.home, "db-1")
	theirs := w.session(bob, "db-2")
	w.command(w.home, "", "admin", "accounts", "add", "fay")
	w.command(w.home, "", "admin", "lock", "user", "eve", "--why", "the laptop is lost")
	sum := w.release(t.TempDir())
	const message = "restart at noon, please save"
	w.browse("pages.mjs", map[string]any{"link": w.link("ann"), "sum": sum, "message": message, "paths": []string{"/", "/connect/db-1", "/connect/vault", "/connect/nothing", "/sessions", "/approvals", "/account", "/downloads",
		"/admin/sessions", "/admin/access", "/admin/accounts", "/admin/devices", "/admin/codes", "/admin/locks", "/admin/hostkeys", "/admin/audit", "/admin/health", "/admin/settings"}})
	if heard := theirs.Output(); !strings.Contains(heard, "sallyport: message from ann: "+message) {
		t.Errorf("who has a session by the command is told %q", heard)
	}
}

// release has an administrator bring a release: an archive with the real command for the system that the browser says it is
// on, whose hash it returns, and others that are small.
func (w *site) release(dir string) string {
	w.t.Helper()
	for name, from := range map[string]string{"linux-amd64": w.bin, "darwin-arm64": w.dir, "windows-amd64": w.dir} {
		what := map[string]string{w.bin: "sallyport", w.dir: "sallyport.yaml"}[from]
		pack := exec.Command("tar", "-czf", filepath.Join(dir, "sallyport-1.2.3-"+name+".tar.gz"), "-C", from, what)
		if out, err := pack.CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %s", err, out)
		}
	}
	sums := exec.Command("sh", "-c", "sha256sum *.tar.gz | tee SHA256SUMS")
	sums.Dir = dir
	out, err := sums.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	w.command(w.home, "", "admin", "clients", "put", dir)
	return regexp.MustCompile(`(\w+)  sallyport-1.2.3-linux-amd64`).FindStringSubmatch(string(out))[1]
}

// TestStates: the same of pages that have nothing to show, that ask, and that tell what did not work.
func TestStates(t *testing.T) {
	t.Parallel()
	w := start(t, settings{})
	bob := filepath.Join(w.Dir, "bob")
	w.login("bob", bob)
	w.command(bob, "", "request", "vault", "--why", "the backup of tonight")
	w.browse("states.mjs", map[string]any{"link": w.link("ann"), "zoe": w.link("zoe")})
}

// TestDesktop: the same of a desktop's page, from the form to its end.
func TestDesktop(t *testing.T) {
	t.Parallel()
	const office = "address: 10.99.0.12, protocols: {rdp: 3389}"
	w := start(t, settings{access: strings.Replace(usualAccess, office, "address: 10.99.0.10, protocols: {rdp: 3390}", 1)})
	desk := w.Shadow(w.VNet.Namespace, lab.ShadowOptions{Port: 3390})
	w.silent("10.99.0.10:3389")
	w.browse("desktop.mjs", map[string]any{"link": w.link("ann"), "user": desk.User, "password": desk.Password})
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

// TestSignIn: people come in by all ways that an appliance has by itself, and leave without a trace.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := start(t, settings{})
	w.login("ann", w.home)
	setup := regexp.MustCompile(`/setup#\S+`).FindString(w.command(w.home, "", "admin", "accounts", "add", "fay"))
	w.browse("signin.mjs", map[string]any{"link": w.link("ann"), "setup": setup})
}
