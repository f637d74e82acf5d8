package main

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/config"
	"sallyport/appliance/store"
)

// anAppliance is a registry on a database of its state folder.
func anAppliance(t *testing.T, dir string) *auth.Registry {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := auth.Open(t.Context(), t.TempDir(), deviceStore{s}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(reg.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return reg
}

func publicKey(n byte) ed25519.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

// TestDevicesOfTwoAppliances enrols on one appliance, and revokes on the other, by one database.
func TestDevicesOfTwoAppliances(t *testing.T) {
	dir := t.TempDir()
	one, two := anAppliance(t, dir), anAppliance(t, dir)
	code, err := one.NewCode("ann", time.Minute, auth.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	home := netip.MustParseAddr("192.0.2.7")
	device, err := two.Enrol(auth.Enrolment{Code: code, Key: publicKey(1), Name: "laptop", Platform: "linux/amd64", Source: home})
	if err != nil {
		t.Fatal(err)
	}
	for what, r := range map[string]*auth.Registry{"one": one, "two": two} {
		if _, err := r.Enrol(auth.Enrolment{Code: code, Key: publicKey(2), Source: home}); !errors.Is(err, auth.ErrCodeUsed) {
			t.Errorf("on %s: %v", what, err)
		}
		if _, err := r.Enrol(auth.Enrolment{Code: "0000-0000-0000-0000", Key: publicKey(2), Source: home}); !errors.Is(err, auth.ErrCodeUnknown) {
			t.Errorf("on %s: %v", what, err)
		}
	}
	knows := func(want error) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			d, err := one.Device(publicKey(1))
			if errors.Is(err, want) {
				if err == nil && (d.ID != device.ID || d.User != "ann" || d.Name != "laptop" || !d.Enrolled.Equal(device.Enrolled)) {
					t.Errorf("%+v, want %+v", d, device)
				}
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the other appliance says %v, want %v", err, want)
			}
		}
	}
	knows(nil)
	two.Touch(device.ID, home, "1.0")
	ended := make(chan string, 1)
	one.OnChange(func(d auth.Device, _ error) { ended <- d.ID })
	if err := two.Revoke(device.ID); err != nil {
		t.Fatal(err)
	}
	knows(auth.ErrRevoked)
	if id := <-ended; id != device.ID {
		t.Errorf("%s has ended", id)
	}
	if list := anAppliance(t, dir).List(); len(list) != 1 || list[0].Revoked.IsZero() {
		t.Errorf("%+v", list)
	}
}

func TestThePasswordFileIsOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("with space \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := databaseOf(&config.Config{Store: config.Store{URL: "postgres://db/x", PasswordFile: path}}, os.ReadFile)
	if got, err := c.Password(); got != "with space " || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if c := databaseOf(&config.Config{}, os.ReadFile); c.Password != nil {
		t.Error("a password for no database")
	}
}
