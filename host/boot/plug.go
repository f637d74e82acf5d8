package boot

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A late bus is one whose devices may come when no module can be loaded any more: hot-plugged, or offered by the hypervisor
// some time after the bus's driver was loaded.
type lateBus struct {
	name string // below /sys/bus

	// These drivers are loaded with the bus, wanted or not, and wait for their devices. Of VMBus and Xen they are all that a
	// flavour may have; of virtio those of disks and NICs, which the machine may be waiting for; who has SCSI has it for the first disk.
	drivers []string

	// The driver does not wait for what the hypervisor offers: its devices appear by themselves.
	offers bool
}

var lateBuses = []lateBus{
	{"vmbus", []string{"hv_storvsc", "hv_netvsc", "hv_utils", "hv_balloon", "hyperv_keyboard", "pci_hyperv", "sd_mod", "sr_mod"}, true},
	{"xen", []string{"xen_blkfront", "xen_netfront"}, true},
	{"virtio", []string{"virtio_blk", "virtio_net"}, false},
}

const (
	settled  = 500 * time.Millisecond // without a new device
	settling = 10 * time.Second       // at most
	lookAt   = 20 * time.Millisecond  // again, while it settles
)

// A plug loads the drivers of a machine's devices.
type plug struct {
	*loader
	sys  string // where sysfs is
	log  *slog.Logger
	seen map[string]bool // what devices have said of themselves
}

// all loads those of the modules that the image has.
func (p *plug) all(names []string) {
	for _, name := range names {
		if _, there := p.needs[name]; !there {
			continue
		}
		if err := p.load(name); err != nil {
			p.log.Warn("a module is not loaded", "cause", err)
		}
	}
}

// devices loads the drivers of the devices that are there and of those that they bring, and says whether one was new.
func (p *plug) devices() (some bool) {
	for range maxRounds {
		fresh := p.fresh()
		if len(fresh) == 0 {
			break
		}
		some = true
		for _, d := range fresh {
			for _, name := range p.drivers(d) {
				if err := p.load(name); err != nil {
					p.log.Warn("a driver is not loaded", "device", d, "cause", err)
				}
			}
		}
	}
	return some
}

// fresh are what the devices say of themselves that have not been seen.
func (p *plug) fresh() (list []string) {
	paths, _ := filepath.Glob(filepath.Join(p.sys, "bus/*/devices/*/modalias")) // the pattern is sound
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if d := strings.TrimSpace(string(data)); d != "" && !p.seen[d] {
			p.seen[d] = true
			list = append(list, d)
		}
	}
	return list
}

// late are the late buses that the machine has.
func (p *plug) late() []lateBus {
	return slices.DeleteFunc(slices.Clone(lateBuses), func(b lateBus) bool {
		if b.name == "xen" { // every kernel has the bus
			kind, err := os.ReadFile(filepath.Join(p.sys, "hypervisor/type"))
			return err != nil || strings.TrimSpace(string(kind)) != "xen"
		}
		_, err := os.Stat(filepath.Join(p.sys, "bus", b.name))
		return err != nil
	})
}

// resident loads the drivers of late buses.
func (p *plug) resident() {
	for _, b := range p.late() {
		p.all(b.drivers)
	}
}

// settle waits until the hypervisor has offered what it has, if it does that late: other drivers may be wanted for what
// lies behind it, such as a NIC's that is passed through.
func (p *plug) settle() {
	if !slices.ContainsFunc(p.late(), func(b lateBus) bool { return b.offers }) {
		return
	}
	begin := time.Now()
	for last := begin; time.Since(last) < settled; time.Sleep(lookAt) {
		if p.devices() {
			last = time.Now()
			p.resident() // a bus may have come with it
		}
		if time.Since(begin) > settling {
			p.log.Warn("devices go on appearing; later ones may have no driver", "after", settling)
			return
		}
	}
}
