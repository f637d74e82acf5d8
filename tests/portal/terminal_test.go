package portal

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/tests/lab"
)

const sessionAccess = `
admins: [ann]
targets:
  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2201}}
  - {name: words, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2202}}
  - {name: moved, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2201}, host_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDC1UqnIswGkqzhFTijssa9YUeB2H7R71zAX64MyBSRx]}
  - {name: mute, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2203}}
rules:
  - {name: operators, who: [ann], targets: [db-1, words, moved, mute], protocols: [ssh], principals: [root]}
`

// mutePolicy takes the clipboard and files away from one target.
const mutePolicy = `
forbid (principal, action in [Action::"clipboard_in", Action::"clipboard_out", Action::"upload", Action::"download"], resource == Target::"mute");
`

// linkPort is where the person's computer has the link to the appliance that the scripts cut.
const linkPort = 9443

// sessions is a site with targets for terminals and files: one that knows the appliance's authority and a key, and one that
// asks for a password.
func sessions(t *testing.T) (w *site, told map[string]any) {
	t.Helper()
	w = start(t, settings{access: sessionAccess, policy: mutePolicy})
	w.at = fmt.Sprintf("127.0.0.1:%d", linkPort)
	trusted := filepath.Join(w.Dir, "trusted")
	keys := w.Appliance.Run(w.bin+"/sallyportd", "ca-key", "--config", filepath.Join(w.dir, "sallyport.yaml"))
	if err := os.WriteFile(trusted, []byte(keys), 0o644); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(w.Dir, "target")
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	banner := filepath.Join(w.Dir, "banner")
	if err := os.WriteFile(banner, []byte("Für Befugte.\r\n<b>\x1b[31m"), 0o644); err != nil {
		t.Fatal(err)
	}
	own := []string{"TrustedUserCAKeys " + trusted, "SetEnv HOME=" + home}
	made := ownKeys(t, w)
	w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2201, Config: append(own, "AuthorizedKeysFile "+filepath.Join(w.Dir, "keys", "authorized"))})
	words := w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2202, Config: append(own, "Banner "+banner), Password: true})
	w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2203, Config: own})
	return w, map[string]any{"link": w.link("ann"), "appliance": lab.ApplianceAddr4.String(), "port": linkPort, "home": home,
		"user": words.PasswordUser, "password": words.Password, "keys": made, "passphrase": passphrase}
}

const passphrase = "of four words"

// ownKeys are files of keys: one with a passphrase, one in the form of before, a public one, and one that no target knows.
func ownKeys(t *testing.T, w *site) map[string]string {
	t.Helper()
	dir := filepath.Join(w.Dir, "keys")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"plain": {"-t", "ed25519", "-N", ""}, "ecdsa": {"-t", "ecdsa", "-b", "384", "-N", passphrase},
		"rsa": {"-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"}, "stranger": {"-t", "ed25519", "-N", ""},
	} {
		w.Client.Run("ssh-keygen", append(args, "-q", "-f", filepath.Join(dir, name))...)
	}
	files, known := map[string]string{}, ""
	for _, name := range []string{"plain", "ecdsa", "rsa", "stranger", "plain.pub", "ecdsa.pub", "rsa.pub"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
		if strings.HasSuffix(name, ".pub") {
			known += string(data)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "authorized"), []byte(known), 0o644); err != nil {
		t.Fatal(err)
	}
	return files
}

// TestTerminal: a terminal in a browser does what a terminal does, and nothing is lost where the network is. What a key takes
// to come back is told beside what it takes in the same browser without Sallyport.
func TestTerminal(t *testing.T) {
	t.Parallel()
	w, told := sessions(t)
	told["straight"] = straight(t, w)
	out := w.browse("terminal.mjs", told)
	var page50, page99, straight50, straight99 float64
	line := regexp.MustCompile(`in the page p50 .*`).FindString(out)
	if _, err := fmt.Sscanf(line, "in the page p50 %g ms, p99 %g ms; straight p50 %g ms, p99 %g ms", &page50, &page99, &straight50, &straight99); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	add50, add99 := page50-straight50, page99-straight99
	t.Logf("echo: %s; added p50 %.2f ms, p99 %.2f ms", line, add50, add99)
	// Four times what an idle machine may take, and as much again as a busy one makes of the straight way.
	if add50 > 20+3*straight50 || add99 > 60+3*straight99 {
		t.Errorf("a keystroke's echo takes %.2f ms longer, one in a hundred %.2f ms", add50, add99)
	}
}

// straightPort is where the page without Sallyport is.
const straightPort = 9080

// straightPage sends keys and notes when they come back, and has nothing else to do.
const straightPage = `<!doctype html><title>straight</title><script>
const socket = new WebSocket('ws://' + location.host + '/keys');
socket.onopen = () => (document.title = 'open');
socket.onmessage = () => (window.echoed ||= performance.now());
addEventListener('keydown', (e) => socket.send(e.key));
</script>`

// straight serves a page whose WebSocket is OpenSSH's own client to a target's sshd, beside the appliance: what a key's echo
// takes in a browser and by SSH, and nothing more. It returns its port.
func straight(t *testing.T, w *site) int {
	t.Helper()
	listener, err := w.Appliance.Listen("tcp", fmt.Sprintf(":%d", straightPort))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, straightPage) })
	mux.HandleFunc("GET /keys", func(rw http.ResponseWriter, r *http.Request) {
		socket, err := websocket.Accept(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer socket.CloseNow()
		conn := websocket.NetConn(r.Context(), socket, websocket.MessageText)
		ssh := w.VNet.Command(r.Context(), "ssh", "-tt", "-F", "none", "-p", "2201", "-i", filepath.Join(w.Dir, "keys", "plain"), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IgnoreUnknown=ObscureKeystrokeTiming", "-o", "ObscureKeystrokeTiming=no", "root@10.99.0.10", "cat")
		ssh.Stdin, ssh.Stdout, ssh.WaitDelay = conn, conn, time.Second
		ssh.Run() // ends when the page is closed
	})
	server := httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(server.Close)
	return straightPort
}
