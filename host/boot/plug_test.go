package boot

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const hypervModules = "hv_vmbus\t\tacpi*:VMBUS:*\n" +
	"hv_netvsc\thv_vmbus\tvmbus:635161f83edfc546913ff2d2f965ed0e\n" +
	"hv_storvsc\thv_vmbus\tvmbus:d96361baa104294db60572e2ffb1dc7f\n" +
	"sd_mod\t\tscsi:t-0x00*\n" +
	"pci_hyperv\thv_vmbus\tvmbus:1df6c444444400449d52802e27ede19f\n" +
	"mana\t\tpci:v00001414d000000BAsv*sd*bc*sc*i*\n" +
	"virtio_pci\t\tpci:v00001AF4d*\n" +
	"virtio_net\t\tvirtio:d00000001v*\n" +
	"virtio_blk\t\tvirtio:d00000002v*\n" +
	"xen_netfront\t\txen:vif\n"

// sysfs is a folder that stands for it.
type sysfs string

func (s sysfs) device(bus, name, modalias string) {
	dir := filepath.Join(string(s), "bus", bus, "devices", name)
	if os.MkdirAll(dir, 0o700) != nil || os.WriteFile(filepath.Join(dir, "modalias"), []byte(modalias+"\n"), 0o600) != nil {
		panic("a device cannot be made in " + string(s))
	}
}

// newPlug is a machine whose drivers do something when they are loaded.
func newPlug(t *testing.T, loaded map[string]func(sysfs)) (*plug, sysfs) {
	x, err := parseIndex(strings.NewReader(hypervModules))
	if err != nil {
		t.Fatal(err)
	}
	s := sysfs(t.TempDir())
	insert := func(name string) error {
		if do := loaded[name]; do != nil {
			do(s)
		}
		return nil
	}
	return &plug{loader: &loader{index: x, insert: insert, done: map[string]bool{}}, sys: string(s), log: slog.New(slog.DiscardHandler), seen: map[string]bool{}}, s
}

func (p *plug) run() {
	p.devices()
	p.resident()
	p.settle()
}

// TestLateBus: what the hypervisor offers some time after the bus's driver was loaded gets its driver, and so does what
// lies behind that.
func TestLateBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPlug(t, map[string]func(sysfs){
			"hv_vmbus": func(s sysfs) {
				if err := os.MkdirAll(filepath.Join(string(s), "bus/vmbus/devices"), 0o700); err != nil {
					t.Error(err)
				}
				time.AfterFunc(300*time.Millisecond, func() { s.device("vmbus", "1", "vmbus:1df6c444444400449d52802e27ede19f") })
				time.AfterFunc(700*time.Millisecond, func() { s.device("pci", "7870:00:00.0", "pci:v00001414d000000BAsv00001414sd00000000bc02sc00i00") })
			},
		})
		s.device("acpi", "VMBUS:00", "acpi:VMBUS:VMBUS:")
		begin := time.Now()
		p.run()
		for _, want := range []string{"hv_netvsc", "hv_storvsc", "sd_mod", "pci_hyperv", "mana"} {
			if !p.done[want] {
				t.Errorf("%s is not loaded", want)
			}
		}
		if p.done["xen_netfront"] || p.done["virtio_net"] {
			t.Error("drivers of a bus that is not there are loaded")
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestRestless: devices that go on appearing do not keep the machine from starting.
func TestRestless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPlug(t, nil)
		s.device("vmbus", "0", "vmbus:0")
		stop := make(chan struct{})
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					s.device("vmbus", "0", "vmbus:0"+strings.Repeat("1", i))
				}
			}
		}()
		begin := time.Now()
		p.run()
		close(stop)
		if took := time.Since(begin); took < settling || took > settling+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestHotPlug: where disks and NICs may be plugged in later their drivers are there, and nothing is waited for.
func TestHotPlug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPlug(t, map[string]func(sysfs){"virtio_pci": func(s sysfs) { s.device("virtio", "virtio0", "virtio:d00000001v00001AF4") }})
		s.device("pci", "0000:00:01.0", "pci:v00001AF4d00001041")
		begin := time.Now()
		p.run()
		if !p.done["virtio_net"] || !p.done["virtio_blk"] || p.done["hv_netvsc"] || time.Since(begin) != 0 {
			t.Errorf("loaded %v in %v", p.done, time.Since(begin))
		}
	})
}

// TestXen: a kernel has its bus wherever it runs.
func TestXen(t *testing.T) {
	p, s := newPlug(t, nil)
	for _, dir := range []string{"bus/xen/devices", "hypervisor"} {
		if err := os.MkdirAll(filepath.Join(string(s), dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if late := p.late(); len(late) > 0 {
		t.Errorf("without Xen there are %v", late)
	}
	if err := os.WriteFile(filepath.Join(string(s), "hypervisor/type"), []byte("xen\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if late := p.late(); !slices.EqualFunc(late, []string{"xen"}, func(b lateBus, name string) bool { return b.name == name && b.offers }) {
		t.Errorf("with Xen there are %v", late)
	}
}
