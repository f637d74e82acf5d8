package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"
)

// Disks are those of the machine. The zero value is one whose image lies on none of them.
type Disks struct {
	ESP      string        // the GUID of the partition that the loader has come from; empty: it came from no disk
	Patience time.Duration // for the disk with that to appear; default 5 seconds
	Sys      string        // where sysfs is; default /sys
	Dev      string        // where the devices' nodes are; default /dev
}

func (d Disks) withDefaults() Disks {
	d.Patience = cmp.Or(d.Patience, 5*time.Second)
	d.Sys, d.Dev = cmp.Or(d.Sys, "/sys"), cmp.Or(d.Dev, "/dev")
	return d
}

// disks are the names of whole disks: virtio, SCSI and SATA, Xen, NVMe.
var disks = regexp.MustCompile(`^(vd[a-z]{1,3}|sd[a-z]{1,3}|xvd[a-z]{1,3}|nvme[0-9]{1,3}n[0-9]{1,3})$`)

// A Data is the data partition, mounted.
type Data struct {
	Device   string   // such as /dev/vda2; empty: none
	Attached bool     // by somebody: it is not the one that was made on the image's disk
	Made     bool     // now: there was none
	Notes    []string // what is not as it should be, for the console
}

// A Wish says which data is wanted. The zero value is what there is.
type Wish struct {
	Attached bool  // what somebody attaches, and nothing else
	Make     int64 // bytes at most of the partition that is made where there is none; 0: none is made
}

// MountData finds the data's file system, or makes it, and mounts it, without set-user-ID programs, devices and programs at
// all. The error wraps one of this package's where it is one of them. Only after ErrNoDisk, ErrNoRoom and ErrNotMade is it
// known that there is no data; after every other one another try may find it.
func (d Disks) MountData(folder string, w Wish) (Data, error) {
	d = d.withDefaults()
	at, made, err := d.data(w)
	if err != nil {
		return Data{}, err
	}
	data := Data{Device: filepath.Join(d.Dev, at.name), Attached: at.attached, Made: made}
	if at.note != "" {
		data.Notes = append(data.Notes, at.note)
	}
	if at.fs.flawed || at.fs.errors > 0 {
		data.Notes = append(data.Notes, fmt.Sprintf("the kernel has noted %d errors in %s; stop the appliance and run e2fsck -f on it", at.fs.errors, data.Device))
	}
	err = unix.Mount(data.Device, folder, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "errors=remount-ro")
	if errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO) {
		return Data{}, fmt.Errorf("%w: mount %s: %w", ErrDamaged, data.Device, err)
	}
	if err != nil {
		return Data{}, fmt.Errorf("mount %s: %w", data.Device, err)
	}
	return data, nil
}

// MountESP mounts the EFI system partition that the loader has come from at a folder, which is made if need be, until
// unmount is called. That writes all that was written to the disk.
func (d Disks) MountESP(folder string) (unmount func() error, err error) {
	d = d.withDefaults()
	own, _, err := d.own()
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, fmt.Errorf("%w: the image has not been started from one", ErrNoDisk)
	}
	name, err := d.partition(*own, byGUID(own.table, d.ESP))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	device := filepath.Join(d.Dev, name)
	if err := unix.Mount(device, folder, "vfat", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "umask=0077,errors=remount-ro"); err != nil {
		return nil, fmt.Errorf("mount %s: %w", device, err)
	}
	return func() error {
		if err := unix.Unmount(folder, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", device, err)
		}
		return nil
	}, nil
}

// A whole is a disk.
type whole struct {
	name  string
	size  int64
	table *gpt.Table // nil: it has none
	fs    fileSystem // of the whole disk
}

// A place is where a file system lies.
type place struct {
	name     string // of the device
	fs       fileSystem
	attached bool   // by somebody
	note     string // what is not as it should be; may be empty
}

// data finds or makes the data's file system.
func (d Disks) data(w Wish) (at place, made bool, err error) {
	own, all, err := d.own() // waits for the image's disk
	if err != nil {
		return place{}, false, err
	}
	var found []place
	for _, disk := range all {
		more, err := d.labelled(disk, own != nil && disk.name == own.name)
		if err != nil {
			return place{}, false, err
		}
		found = append(found, more...)
	}
	switch {
	case len(found) > 1:
		return place{}, false, fmt.Errorf("%w: %s and %s both have a file system %s; detach one", ErrSeveral, found[0].name, found[1].name, Label)
	case len(found) == 1:
		at = found[0]
		if own != nil {
			if err := d.remember(*own); err != nil { // a disk that cannot be written: it serves all the same
				at.note = err.Error()
			}
		}
		return at, false, nil
	case w.Attached:
		return place{}, false, fmt.Errorf("%w: the configuration wants it on one with the label %s", ErrAbsent, Label)
	case own == nil:
		return place{}, false, ErrNoDisk
	case byGUID(own.table, d.ESP).Attributes&elsewhere != 0:
		return place{}, false, fmt.Errorf("%w: it was on one with the label %s before", ErrAbsent, Label)
	}
	return d.ownData(*own, w.Make)
}

// labelled are the places on a disk whose label is ours. The partition that was made on the image's own is not one of them.
func (d Disks) labelled(w whole, own bool) (list []place, err error) {
	if w.fs.ours() {
		list = append(list, place{name: w.name, fs: w.fs, attached: true})
	}
	if w.table == nil {
		return list, nil
	}
	f, err := os.Open(filepath.Join(d.Dev, w.name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, p := range w.table.Partitions {
		if p.Type == gpt.Unused || !inside(p, w.size) || own && (p.Name == dataName || p.Name == newName) {
			continue
		}
		fs, err := probe(f, offset(p))
		if err != nil {
			return nil, fmt.Errorf("partition %d of %s: %w", p.Index, w.name, err)
		}
		if fs.ours() {
			name, err := d.partition(w, p)
			if err != nil {
				return nil, err
			}
			list = append(list, place{name: name, fs: fs, attached: true})
		}
	}
	return list, nil
}

// remember notes on the image's disk that the data lies on another one.
func (d Disks) remember(own whole) error {
	esp := byGUID(own.table, d.ESP)
	if esp.Attributes&elsewhere != 0 {
		return nil
	}
	wrap := func(err error) error {
		return fmt.Errorf("the next start will not know that the data is on a disk of its own: %s: %w", own.name, err)
	}
	f, err := os.OpenFile(filepath.Join(d.Dev, own.name), os.O_RDWR, 0)
	if err != nil {
		return wrap(err)
	}
	defer f.Close()
	esp.Attributes |= elsewhere
	own.table.Resize(uint64(own.size)) // the disk may have grown since the image was written to it
	if err := own.table.Write(f, own.size); err != nil {
		return wrap(err)
	}
	return nil
}

// ownData is the data partition on the image's disk, which is made if it may be.
func (d Disks) ownData(own whole, most int64) (place, bool, error) {
	f, err := os.OpenFile(filepath.Join(d.Dev, own.name), os.O_RDWR, 0)
	if err != nil {
		return place{}, false, err
	}
	defer f.Close()
	p, made, err := settle(f, own.table, most)
	if err != nil {
		return place{}, false, fmt.Errorf("%s: %w", own.name, err)
	}
	name, err := d.partition(own, p)
	if err != nil {
		return place{}, false, err
	}
	fs, err := probe(f, offset(p))
	return place{name: name, fs: fs}, made, err
}

// own is the disk that the image has booted from, nil if there is none; and all disks with it.
func (d Disks) own() (own *whole, all []whole, err error) {
	for end := time.Now().Add(d.Patience); ; time.Sleep(50 * time.Millisecond) {
		if all, err = d.wholes(); err != nil || d.ESP == "" {
			return nil, all, err
		}
		var images []*whole
		for i, w := range all {
			if w.table != nil && byGUID(w.table, d.ESP) != nil {
				images = append(images, &all[i])
			}
		}
		switch {
		case len(images) == 1:
			return images[0], all, nil
		case len(images) > 1: // copies of one image have the same GUIDs
			return nil, nil, fmt.Errorf("%w: the image is on %s and on %s; detach one", ErrSeveral, images[0].name, images[1].name)
		case time.Now().After(end):
			return nil, nil, fmt.Errorf("%w: no disk has the partition %s that the machine was started from, or its partition table is damaged", ErrAbsent, d.ESP)
		}
	}
}

// wholes are the disks, in the order of their names. A drive without a medium is none; a disk that cannot be read is an
// error, for it may be the one that is looked for.
func (d Disks) wholes() ([]whole, error) {
	entries, err := os.ReadDir(filepath.Join(d.Sys, "class/block"))
	if err != nil {
		return nil, err
	}
	var list []whole
	for _, e := range entries {
		if !disks.MatchString(e.Name()) {
			continue
		}
		w, err := d.read(e.Name())
		if errors.Is(err, unix.ENOMEDIUM) || errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) { // the last two: it has just gone
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if w.size > 0 {
			list = append(list, w)
		}
	}
	return list, nil
}

func (d Disks) read(name string) (whole, error) {
	f, err := os.Open(filepath.Join(d.Dev, name))
	if err != nil {
		return whole{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	defer f.Close()
	w := whole{name: name}
	if w.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return whole{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if w.fs, err = probe(f, 0); err != nil {
		return whole{}, err
	}
	if w.table, err = readTable(f, w.size); err != nil && !errors.Is(err, errNoTable) { // a disk may have none
		return whole{}, err
	}
	return w, nil
}

// partition is the name of a partition's device. Where the kernel does not know the partition, which is new or whose GPT it
// could not read, it is told.
func (d Disks) partition(w whole, p *gpt.Partition) (string, error) {
	name, err := d.known(w, p)
	if name != "" || err != nil {
		return name, err
	}
	if err := addPartition(filepath.Join(d.Dev, w.name), p); err != nil {
		return "", fmt.Errorf("tell the kernel of partition %d of %s: %w", p.Index, w.name, err)
	}
	if name, err = d.known(w, p); name == "" && err == nil {
		err = fmt.Errorf("partition %d of %s has not appeared", p.Index, w.name)
	}
	return name, err
}

// known is the name of the partition's device, if the kernel has it.
func (d Disks) known(w whole, p *gpt.Partition) (string, error) {
	name := w.name + strconv.Itoa(p.Index)
	if c := w.name[len(w.name)-1]; c >= '0' && c <= '9' {
		name = w.name + "p" + strconv.Itoa(p.Index)
	}
	dir := filepath.Join(d.Sys, "class/block", name)
	if _, err := os.Stat(dir); err != nil {
		return "", nil
	}
	for file, want := range map[string]int64{"start": offset(p) / sector, "size": length(p) / sector} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		if got, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err != nil || got != want {
			return "", fmt.Errorf("the kernel has another %s of %s than its GPT says", file, name)
		}
	}
	return name, nil
}

// addPartition tells the kernel of a partition (ioctl BLKPG), which works while others of the disk are in use.
func addPartition(disk string, p *gpt.Partition) error {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	part := unix.BlkpgPartition{Start: offset(p), Length: length(p), Pno: int32(p.Index)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_ADD_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}
