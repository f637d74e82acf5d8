package portal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	own := []string{"TrustedUserCAKeys " + trusted, "SetEnv HOME=" + home}
	s := w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2201, Config: own})
	words := w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2202, Config: own, Password: true})
	w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2203, Config: own})
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return w, map[string]any{"link": w.link("ann"), "appliance": lab.ApplianceAddr4.String(), "port": linkPort, "home": home,
		"user": words.PasswordUser, "password": words.Password, "key": string(key), "locked": locked(t, w)}
}

// locked is a key with a passphrase.
func locked(t *testing.T, w *site) string {
	t.Helper()
	path := filepath.Join(w.Dir, "locked")
	w.Client.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// TestTerminal: a terminal in a browser does what a terminal does, and nothing is lost where the network is.
func TestTerminal(t *testing.T) {
	t.Parallel()
	w, told := sessions(t)
	w.browse("terminal.mjs", told)
}
