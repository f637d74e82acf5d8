package portal

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
// to come back is told beside what it takes by ssh alone.
func TestTerminal(t *testing.T) {
	t.Parallel()
	w, told := sessions(t)
	alone := echoes(t, w)
	out := w.browse("terminal.mjs", told)
	alone = append(alone, echoes(t, w)...)
	slices.Sort(alone)
	p50, p99 := alone[len(alone)/2], alone[len(alone)*99/100]
	var page50, page99 float64
	line := regexp.MustCompile(`p50 (\S+) ms, p99 (\S+) ms from the key to the echo`).FindString(out)
	if _, err := fmt.Sscanf(line, "p50 %g ms, p99 %g ms", &page50, &page99); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	add50, add99 := page50-p50, page99-p99
	t.Logf("echo: by ssh alone p50 %.2f ms, p99 %.2f ms; in the page p50 %.2f ms, p99 %.2f ms; added p50 %.2f ms, p99 %.2f ms", p50, p99, page50, page99, add50, add99)
	// Four times what an idle machine may take, and as much again as a busy one makes of ssh alone.
	if add50 > 20+10*p50 || add99 > 60+10*p99 {
		t.Errorf("a keystroke's echo takes %.2f ms longer, one in a hundred %.2f ms", add50, add99)
	}
}

// echoes are how long keys take to come back by OpenSSH's own client, beside the target, in milliseconds.
func echoes(t *testing.T, w *site) (took []float64) {
	t.Helper()
	dir := filepath.Join(w.Dir, "keys")
	cmd := w.VNet.Command(t.Context(), "ssh", "-tt", "-F", "none", "-p", "2201", "-i", filepath.Join(dir, "plain"), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IgnoreUnknown=ObscureKeystrokeTiming", "-o", "ObscureKeystrokeTiming=no", "root@10.99.0.10", "echo ready; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); !strings.HasPrefix(line, "ready") {
		t.Fatalf("%q, %v", line, err)
	}
	for range 200 {
		time.Sleep(10 * time.Millisecond) // as keys have pauses
		began := time.Now()
		if _, err := in.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if b, err := r.ReadByte(); b != 'x' {
			t.Fatalf("%q, %v", b, err)
		}
		took = append(took, float64(time.Since(began).Microseconds())/1000)
	}
	return took
}
