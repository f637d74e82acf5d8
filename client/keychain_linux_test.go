package client_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"sallyport/client"
	"sallyport/client/clienttest"
)

// onBus is set in the processes that TestSecretService starts, for TestOnBus.
const onBus = "SALLYPORT_TEST_ON_BUS"

// The key goes into a real Secret Service, on a session bus of its own, and comes back. While that is locked, or nothing is on the
// bus, it is a file's.
func TestSecretService(t *testing.T) {
	for _, program := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getuid() == 0 { // whose machine has all that is tested with
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	data := t.TempDir()
	for _, run := range []struct{ state, prepare string }{
		{"absent", ""},
		{"unlocked", "printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null;"}, // makes a collection
		{"locked", "gnome-keyring-daemon --start --components=secrets >/dev/null;"},
	} {
		t.Run(run.state, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "dbus-run-session", "--", "sh", "-c", run.prepare+` exec "$0" -test.run '^TestOnBus$'`, os.Args[0])
			cmd.Env = append(os.Environ(), onBus+"="+run.state, "HOME="+data, "XDG_DATA_HOME="+data, "XDG_RUNTIME_DIR="+t.TempDir(), "DISPLAY=", "WAYLAND_DISPLAY=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestOnBus(t *testing.T) {
	state := os.Getenv(onBus)
	if state == "" {
		return // TestSecretService starts it, in surroundings that it prepares
	}
	bus, err := dbus.SessionBus() // the one that the library keeps
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	running := func() (yes bool) {
		if err := bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.secrets").Store(&yes); err != nil {
			t.Fatal(err)
		}
		return yes
	}
	for deadline := time.Now().Add(10 * time.Second); state != "absent" && !running(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the Secret Service does not start")
		}
	}
	a := clienttest.Start(t, clienttest.Config{})
	home, err := client.OpenHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	login := func(store string) *client.Profile {
		p, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile, KeyStore: store})
		if err != nil {
			t.Fatal(err)
		}
		if me, err := client.NewAPI(dialer(t, home, client.Options{})).Me(t.Context()); err != nil || me.Device != p.Device {
			t.Errorf("got %+v, %v", me, err)
		}
		return p
	}
	p := login(client.KeyAuto)
	if inChain := p.KeyStore == client.KeyKeychain; inChain != (state == "unlocked") {
		t.Fatalf("%s: the key is in %q", state, p.KeyStore)
	}
	if state == "absent" && running() {
		t.Error("asking has started a Secret Service")
	}
	if state != "unlocked" {
		_, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile, KeyStore: client.KeyKeychain})
		if f := client.Explain(err); f.Exit() != 10 || f.Hint == "" {
			t.Errorf("got %+v", f)
		}
		return
	}
	login(client.KeyKeychain)
	p = login(client.KeyFile)
	p.KeyStore = client.KeyKeychain
	if _, err := client.NewDirect(home, p, client.Options{}); err == nil {
		t.Error("the entry is still there")
	}
	p = login(client.KeyKeychain)
	if err := home.Forget(p.Name); err != nil {
		t.Error(err)
	}
	if _, err := client.NewDirect(home, p, client.Options{}); client.Explain(err).Exit() != 10 {
		t.Errorf("after the logout: %v", err)
	}
}
