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

// watchdogs are the drivers of the machines' own, which find out by themselves whether there is one.
var watchdogs = []string{"wdat_wdt"}

// byHand are modules that no device asks for: the power button's events, the firmware's variables, and the file system
// of the partition that the firmware starts from.
var byHand = []string{"evdev", "efivarfs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "qemu_fw_cfg"}

// Coldplug loads the drivers of the devices that are there, until no new device appears, and then removes the modules'
// files, whose memory is worth more. The watchdog's comes first, and then watch is called: any other may get stuck. Lines in
// the log say what did not go well; without /lib/modules only watch is called.
func Coldplug(log *slog.Logger, watch func()) {
	p := openPlug(log)
	if p == nil {
		watch()
		return
	}
	p.all(watchdogs)
	if _, err := os.Stat(Watchdog); err != nil { // the machine has none; the kernel's own still sees process 1 hang
		if err := p.load("softdog"); err != nil {
			log.Warn("there is no watchdog", "cause", err)
		}
	}
	watch()
	p.all(byHand)
	p.devices()
	p.resident()
	p.settle()
	log.Info("drivers are loaded", "modules", slices.Sorted(maps.Keys(p.done)))
	if err := os.RemoveAll(modulesDir); err != nil {
		log.Warn("the modules' files keep their memory", "cause", err)
	}
}

// openPlug reads the index of the modules.
func openPlug(log *slog.Logger) *plug {
	f, err := os.Open(filepath.Join(modulesDir, "index"))
	if err != nil {
		log.Warn("there are no modules", "cause", err)
		return nil
	}
	x, err := parseIndex(f)
	f.Close()
	if err != nil {
		log.Error("no module is loaded", "cause", err)
		return nil
	}
	return &plug{loader: &loader{index: x, insert: insert, done: map[string]bool{}}, sys: "/sys", log: log, seen: map[string]bool{}}
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
