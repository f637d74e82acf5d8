package boot

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	modulesDir = "/lib/modules"

	// maxRounds bounds the search for devices that a driver has brought: a bus on a bus on a bus.
	maxRounds = 8
)

// Watchdog is the device of the machine's watchdog.
const Watchdog = "/dev/watchdog"

// byHand are modules that no device asks for: the power button's events, the firmware's variables, and the file system
// of the partition that the firmware starts from.
var byHand = []string{"evdev", "efivarfs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "qemu_fw_cfg"}

// Coldplug loads the drivers of the devices that are there, until no new device appears, and then removes the modules'
// files, whose memory is worth more. Lines in the log say what did not go well; without /lib/modules it does nothing.
func Coldplug(log *slog.Logger) {
	f, err := os.Open(filepath.Join(modulesDir, "index"))
	if err != nil {
		log.Warn("there are no modules", "cause", err)
		return
	}
	x, err := parseIndex(f)
	f.Close()
	if err != nil {
		log.Error("no module is loaded", "cause", err)
		return
	}
	p := plug{loader: &loader{index: x, insert: insert, done: map[string]bool{}}, sys: "/sys", log: log, seen: map[string]bool{}}
	p.all(byHand)
	p.devices()
	p.resident()
	p.settle()
	if _, err := os.Stat(Watchdog); err != nil { // the machine has none; the kernel's own still sees process 1 hang
		if err := p.load("softdog"); err != nil {
			log.Warn("there is no watchdog", "cause", err)
		}
	}
	log.Info("drivers are loaded", "modules", slices.Sorted(maps.Keys(p.done)))
	if err := os.RemoveAll(modulesDir); err != nil {
		log.Warn("the modules' files keep their memory", "cause", err)
	}
}

// insert loads one module, signature and all.
func insert(name string) error {
	f, err := os.Open(filepath.Join(modulesDir, name+".ko"))
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENODEV) { // it is there; or there is no such hardware, which only it could know
		return nil
	}
	return err
}
