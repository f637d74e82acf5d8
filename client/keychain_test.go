package client_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/client"
	"sallyport/client/clienttest"
)

// keeper is a home with a keychain, an appliance to log in to, and what was told on the way.
type keeper struct {
	*testing.T
	home  client.Home
	a     *clienttest.Appliance
	chain *client.FakeKeychain
	told  []string
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{T: t, a: clienttest.Start(t, clienttest.Config{}), chain: &client.FakeKeychain{}}
	k.home = k.another()
	return k
}

func (k *keeper) another() client.Home {
	home, err := client.OpenHome(filepath.Join(k.TempDir(), "home"))
	if err != nil {
		k.Fatal(err)
	}
	return client.WithKeychain(home, k.chain)
}

func (k *keeper) login(store, code string) (*client.Profile, error) {
	return client.Login(k.Context(), k.home, client.LoginOptions{URL: k.a.Address, Code: code, CAFile: k.a.CAFile, Profile: "work", KeyStore: store,
		Options: client.Options{Notice: func(line string) { k.told = append(k.told, line) }}})
}

// kept logs in with one store and makes sure that the key is there, and nowhere else, and is good for something.
func (k *keeper) kept(store, want string) {
	k.Helper()
	p, err := k.login(store, clienttest.Code)
	if err != nil {
		k.Fatal(err)
	}
	k.in(want, p.Device)
}

func (k *keeper) in(want, device string) {
	k.Helper()
	accounts, file := k.chain.Accounts(), filepath.Join(k.home.Dir(), "work.key")
	_, err := os.Stat(file)
	if inFile := err == nil; inFile != (want == client.KeyFile) {
		k.Errorf("%s: %v", file, err)
	}
	if inChain := len(accounts) == 1; inChain != (want == client.KeyKeychain) || len(accounts) > 1 {
		k.Errorf("in the keychain: %q", accounts)
	}
	if left, _ := filepath.Glob(filepath.Join(k.home.Dir(), "*.new*")); len(left) > 0 {
		k.Errorf("left: %q", left)
	}
	if me, err := client.NewAPI(dialer(k.T, k.home, client.Options{})).Me(k.Context()); err != nil || me.Device != device {
		k.Errorf("got %+v, %v, not %s", me, err, device)
	}
}

// The key moves with each login, and the one before it stays until then.
func TestKeyStores(t *testing.T) {
	k := newKeeper(t)
	k.kept(client.KeyAuto, client.KeyKeychain)
	k.kept(client.KeyAuto, client.KeyKeychain)
	k.kept(client.KeyFile, client.KeyFile)
	k.kept("", client.KeyFile)
	k.kept(client.KeyKeychain, client.KeyKeychain)
	before, _ := k.home.Profile("")
	for _, store := range []string{client.KeyKeychain, client.KeyFile} {
		if _, err := k.login(store, "wrong"); err == nil {
			t.Error("a wrong code is taken")
		}
		k.in(client.KeyKeychain, before.Device)
	}
	k.chain.Locked = true // no reason to ask anybody
	k.kept(client.KeyAuto, client.KeyFile)
	k.kept(client.KeyKeychain, client.KeyKeychain)
	if _, err := k.login("drawer", clienttest.Code); client.Explain(err).Exit() != 2 {
		t.Errorf("got %v", err)
	}
	if len(k.told) > 0 {
		t.Errorf("told %q", k.told)
	}

	first := k.home
	k.home = k.another()
	if _, err := k.login(client.KeyKeychain, clienttest.Code); err != nil || len(k.chain.Accounts()) != 2 {
		t.Errorf("another home: %v, %q", err, k.chain.Accounts())
	}
	for _, home := range []client.Home{k.home, first} {
		if err := home.Forget("work"); err != nil {
			t.Error(err)
		}
	}
	if left := k.chain.Accounts(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestKeychainFails(t *testing.T) {
	k := newKeeper(t)
	k.kept(client.KeyKeychain, client.KeyKeychain)
	p, _ := k.home.Profile("")
	account := k.chain.Accounts()[0]
	refused := func(want, hint string) {
		t.Helper()
		_, err := client.NewDirect(k.home, p, client.Options{})
		if f := client.Explain(err); f.Exit() != 10 || !strings.Contains(f.Sentence, want) || !strings.Contains(f.Hint, hint) {
			t.Errorf("got %+v", f)
		}
	}
	gone := errors.New("it is locked")
	k.chain.Fail(gone)
	refused("the keychain does not give or take the device key: it is locked", "or log in again with --key-store file")
	if _, err := k.login(client.KeyKeychain, clienttest.Code); client.Explain(err).Exit() != 10 || !strings.Contains(err.Error(), "it is locked") {
		t.Errorf("got %v", err)
	}

	// Another store takes its place, and the person hears what stays.
	if p, err := k.login(client.KeyAuto, clienttest.Code); err != nil || p.KeyStore != "" {
		t.Errorf("got %+v, %v", p, err)
	}
	if want := []string{"of the sign-in before: the device key stays in the keychain: it is locked; remove the entry " + account + " of sallyport there"}; !slices.Equal(k.told, want) {
		t.Errorf("told %q", k.told)
	}
	k.chain.Fail(nil)
	k.kept(client.KeyKeychain, client.KeyKeychain)

	k.chain.Spoil("nonsense")
	refused("the device key "+account+" in the keychain is not a PEM private key", "log in again")

	k.chain.Fail(gone)
	err := k.home.Forget("work")
	if f := client.Explain(err); f.Exit() != 10 || !strings.Contains(f.Sentence, "stays in the keychain") || !strings.Contains(f.Hint, account) {
		t.Errorf("got %+v", f)
	}
	if all, err := k.home.Profiles(); err != nil || len(all.Appliances) != 0 {
		t.Errorf("got %+v, %v", all, err)
	}
	k.chain.Fail(nil)
	if err := k.home.Forget("work"); err != nil { // which cannot know where the key was
		t.Error(err)
	}
	k.kept(client.KeyKeychain, client.KeyKeychain)
	p, _ = k.home.Profile("")
	k.home = client.WithKeychain(k.home, &client.FakeKeychain{})
	refused("is missing in the keychain", "log in again")
}
