package client

import (
	"errors"
	"os"
	"slices"

	"github.com/godbus/dbus/v5"
)

const (
	secretService = "org.freedesktop.secrets"
	secretPath    = dbus.ObjectPath("/org/freedesktop/secrets")
)

// keychainReachable makes sure that asking for a secret starts no bus.
func keychainReachable() error {
	switch os.Getenv("DBUS_SESSION_BUS_ADDRESS") {
	case "", "autolaunch:":
		return errors.New("there is no session bus: DBUS_SESSION_BUS_ADDRESS is not set")
	}
	return nil
}

// keychainUnlocked says whether a Secret Service is on the bus already, with its collection open.
func keychainUnlocked() bool {
	if keychainReachable() != nil {
		return false
	}
	bus, err := dbus.Connect(os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
	if err != nil {
		return false
	}
	defer bus.Close()
	var runs bool
	if bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, secretService).Store(&runs) != nil || !runs {
		return false
	}
	var all []dbus.ObjectPath
	if bus.Object(secretService, secretPath).StoreProperty("org.freedesktop.Secret.Service.Collections", &all) != nil {
		return false
	}
	collection := secretPath + "/collection/login" // as go-keyring has it
	if !slices.Contains(all, collection) {
		collection = secretPath + "/aliases/default"
	}
	locked := true
	err = bus.Object(secretService, collection).StoreProperty("org.freedesktop.Secret.Collection.Locked", &locked)
	return err == nil && !locked
}
