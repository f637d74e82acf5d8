package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"sallyport/appliance/config"
	"sallyport/appliance/store"
	"sallyport/host/boot"
	"sallyport/host/disk"
	"sallyport/host/slots"
	"sallyport/image/update"
)

const (
	imageESP       = imageRun + "/esp" // the EFI system partition, while it is written to
	imageVariables = "/sys/firmware/efi/efivars"
)

// openDisk finds out what the machine was started from. Without a boot loader there is no disk, and there are no updates.
func (m *image) openDisk() {
	loader, err := slots.ReadLoader(imageVariables)
	if err != nil {
		if !errors.Is(err, slots.ErrNoLoader) {
			m.log.Error("what the machine was started from is not known", "cause", err)
		}
		return
	}
	m.disks = disk.Disks{ESP: loader.Partition}
	m.updater = &updater{
		store: &slots.Store{Mount: func() (string, func() error, error) {
			unmount, err := m.disks.MountESP(imageESP)
			return imageESP, unmount, err
		}},
		loader: loader, version: version, flavour: imageFlavour(), keys: imageKeys, forget: forgetBefore, restart: func() { m.end(boot.Restart) }, log: m.log,
		check: func(name string, h update.Header) error { return checkImage(name, h, imageVariables) },
	}
}

// forgetBefore removes the database as it was before this version. The folder is the worker's: what is removed in it is
// named through an os.Root.
func forgetBefore() error {
	root, err := os.OpenRoot(imageState())
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(store.BeforeFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// imageKeys are the keys whose updates are taken by the configuration that now holds.
func imageKeys() ([]ed25519.PublicKey, error) {
	cfg, err := config.Load(imageConfig)
	if err != nil {
		return nil, err
	}
	return trustedKeys(cfg)
}

// imageFlavour is what os-release(5) says of the image that this is.
func imageFlavour() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "VARIANT_ID="); ok {
			if plain, err := strconv.Unquote(v); err == nil {
				return plain
			}
			return v
		}
	}
	return ""
}

// mountData mounts the data partition, which is made at the first start, or says that there is none. Where there is one and
// it cannot be used the machine waits for somebody: with another state it would be another appliance. It returns false if
// ctx has ended before that.
func (m *image) mountData(ctx context.Context) bool {
	for said := ""; ctx.Err() == nil; rest(ctx, anotherLook) {
		data, err := m.disks.MountData(imageData)
		switch {
		case err == nil:
			m.log.Info("data", "device", data.Device, "made", data.Made)
			for _, note := range data.Notes {
				m.log.Warn(note)
			}
			return true
		case errors.Is(err, disk.ErrNoDisk), errors.Is(err, disk.ErrNoRoom):
			m.log.Warn("what the appliance keeps is in memory, and gone with the next start", "cause", err)
			return true
		case err.Error() != said:
			said = err.Error()
			hint := "detach what is one too many"
			if errors.Is(err, disk.ErrDamaged) {
				hint = "attach the disk to another machine and run e2fsck -f; see docs/updates.md"
			}
			m.log.Error("the data partition cannot be used; the machine waits", "cause", err, "hint", hint)
		}
	}
	return false
}
