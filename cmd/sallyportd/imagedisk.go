package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

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
// Where the firmware's variables cannot be read that is not known, and is told as lost.
func (m *image) openDisk(variables error) {
	loader, err := slots.ReadLoader(imageVariables)
	if variables != nil {
		err = variables
	}
	if errors.Is(err, slots.ErrNoLoader) {
		return
	}
	if err != nil {
		m.lost = fmt.Errorf("what the machine was started from is not known: %w", err)
		m.log.Error("there will be no updates", "cause", m.lost)
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

// mountData mounts the data that is wanted, or finds that there is none. Where it cannot be said that there is none the
// machine waits for somebody: with another state it would be another appliance. It returns false if ctx has ended before that.
func (m *image) mountData(ctx context.Context, w disk.Wish) bool {
	for said := ""; ctx.Err() == nil; rest(ctx, anotherLook) {
		m.dog.Well(dataSlow)
		data, err := m.disks.MountData(imageData, w)
		none := errors.Is(err, disk.ErrNoDisk) && m.lost == nil || errors.Is(err, disk.ErrNoRoom)
		switch {
		case err == nil:
			m.data = data
			m.log.Info("data", "device", data.Device, "made", data.Made)
			for _, note := range data.Notes {
				m.log.Warn(note)
			}
			return true
		case errors.Is(err, disk.ErrNotMade), none && w.Make == 0:
			return true
		case none:
			m.log.Warn("what the appliance keeps is in memory, and gone with the next start", "cause", err)
			return true
		case err.Error() != said:
			said = err.Error()
			if errors.Is(err, disk.ErrNoDisk) {
				err = m.lost
			}
			m.log.Error("the machine waits for its data", "cause", err, "hint", dataHint(err))
		}
	}
	return false
}

// dataHint says what somebody may do about data that is waited for.
func dataHint(err error) string {
	switch {
	case errors.Is(err, disk.ErrDamaged):
		return "attach the disk to another machine and run e2fsck -f; see docs/updates.md"
	case errors.Is(err, disk.ErrSeveral):
		return "detach what is one too many"
	case errors.Is(err, disk.ErrAbsent):
		return "attach the disk; if it is lost for good, see docs/updates.md"
	case errors.Is(err, disk.ErrUnreadable):
		return "detach the disk if the data is on another one; see docs/updates.md"
	}
	return "see docs/updates.md"
}

// decideData sees to it that the data lies where a configuration wants it: it is only now known whether a partition is to be
// made, and how large. It returns false if ctx has ended before that.
func (m *image) decideData(ctx context.Context, cfg *config.Config) bool {
	w := dataWish(cfg)
	for m.data.Device != "" {
		m.dog.Well(dataSlow)
		if m.data.Attached || !w.Attached {
			return true
		}
		err := unix.Unmount(imageData, 0)
		if err == nil {
			m.data = disk.Data{}
			break
		}
		m.log.Error("the data partition is not given up for a disk of its own", "cause", err)
		if rest(ctx, anotherLook); ctx.Err() != nil {
			return false
		}
	}
	return m.mountData(ctx, w)
}

// spoolRoom is what a data partition has besides the audit log where a fleet's store has all else: for keys, the document
// and an update.
const spoolRoom = 256 << 20

// dataWish is what a configuration wants of the data partition.
func dataWish(cfg *config.Config) disk.Wish {
	w := disk.Wish{Attached: cfg.Machine.Data == config.DataAttached, Make: disk.MostData}
	if cfg.Store.URL != "" {
		w.Make = min(w.Make, int64(cfg.Audit.KeepMB)<<20+spoolRoom)
	}
	return w
}
