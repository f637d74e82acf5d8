package image

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport/image/deb"
)

// What goes in, pinned. Debian signs the kernel and its modules; they are taken as they are.
var (
	kernel = deb.Package{
		Name: "linux-image-6.1.0-56-cloud-amd64", Version: "6.1.192-2", Arch: "amd64",
		Archive: "debian-security", Path: "pool/updates/main/l/linux-signed-amd64",
		SHA256: "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee", Size: 26713492,
	}
	loader = deb.Package{
		Name: "systemd-boot-efi", Version: "252.39-1~deb12u2", Arch: "amd64",
		Archive: "debian", Path: "pool/main/s/systemd",
		SHA256: "8f2b81bdcfafc466882a0cae460272dbf10d8d97c6a3c1c6ea33038c155a2f5e", Size: 113136,
	}
)

// Release is the kernel's release, as uname -r says it.
const Release = "6.1.0-56-cloud-amd64"

// CommandLine is the kernel's. It is signed with the rest: what differs from machine to machine comes in the configuration.
var CommandLine = strings.Join([]string{
	"console=tty0", "console=ttyS0,115200", // the screen, and the serial port that clouds show; the last is /dev/console
	"panic=5",                         // whatever is broken, start again; after its tries the boot loader takes the older version
	"panic_on_oops=1",                 // a kernel in which something went wrong is not trusted any further
	"printk.devkmsg=on", "loglevel=5", // PID 1's log is the kernel's, is not thinned out, and notices are shown
	"ipv6.disable_ipv6=1",        // no address by itself, from the first NIC on
	"lockdown=integrity",         // nobody changes the running kernel, not even root, also without Secure Boot
	"module.sig_enforce=1",       // Debian's modules and no others, also without Secure Boot
	"slab_nomerge",               // kinds of objects do not share pages: who overruns one does not reach another
	"randomize_kstack_offset=on", // each system call finds its stack elsewhere
	"vsyscall=none",              // no page at an address that everybody knows
	"debugfs=off",                // what is for those who debug kernels
}, " ")

// common is what each flavour has: volumes of the formats that EFI and CIDATA have, the power button, a watchdog.
var common = []string{
	"button", "efivarfs", "evdev", "isofs", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8", "softdog", "vfat",
}

// flavours name the modules for the machines that an image is for. NVMe, ext4 and TPMs are built into the kernel.
var flavours = map[string][]string{
	"kvm": {
		"ptp_kvm", "qemu_fw_cfg", "sd_mod", "sr_mod", "virtio_balloon", "virtio_blk", "virtio_console", "virtio_mmio",
		"virtio_net", "virtio_pci", "virtio_rng", "virtio_scsi", "wdat_wdt",
	},
	"azure": {
		"ata_piix", "hv_balloon", "hv_netvsc", "hv_storvsc", "hv_utils", "hyperv_keyboard", "mana", "mlx4_en", "mlx5_core",
		"pci_hyperv", "sd_mod", "sr_mod", "udf",
	},
	"aws": {"ena", "ixgbevf", "xen_blkfront", "xen_netfront"},
	"gcp": {"gve", "sd_mod", "virtio_balloon", "virtio_net", "virtio_pci", "virtio_rng", "virtio_scsi"},
}

// formats are the endings of the disks' forms that a flavour's machines take, besides the raw one, which each has.
var formats = map[string][]string{
	"all": {".qcow2", ".vhd", ".tar.gz"}, "kvm": {".qcow2"}, "azure": {".vhd"}, "gcp": {".tar.gz"},
}

// vmware is what "all" has besides the others.
var vmware = []string{"ptp_vmw", "vmw_pvscsi", "vmxnet3"}

// Flavours returns the names of all flavours, sorted: one for each kind of machine, and "all".
func Flavours() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(flavours)), "all")))
}

// modules returns the modules that a flavour wants, without those that they need.
func modules(flavour string) ([]string, error) {
	if flavour == "all" {
		return slices.Concat(append(slices.Collect(maps.Values(flavours)), common, vmware)...), nil
	}
	own, ok := flavours[flavour]
	if !ok {
		return nil, fmt.Errorf("there is no flavour %q; there are %s", flavour, strings.Join(Flavours(), ", "))
	}
	return slices.Concat(own, common), nil
}
