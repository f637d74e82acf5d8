// Package disk finds the disk that the image has booted from, makes the data partition in what is free behind the image,
// and mounts it.
//
//	d := disk.Disks{ESP: loader.Partition}
//	data, err := d.MountData("/data", disk.Wish{})                        // what there is
//	data, err = d.MountData("/data", disk.Wish{Make: disk.MostData})      // at the first start the partition is made
//	esp := func() (string, func() error, error) { return d.MountESP("/run/sallyport/esp") }
//
// # Which disk
//
// The data lies on the one file system whose label is SALLYPORT-DATA: a disk or a partition that somebody has attached and
// made with mkfs.ext4 -L SALLYPORT-DATA goes before the partition on the image's own disk. Two of them are an error, for
// the wrong one would be used half of the time.
//
// The image's own disk is the one whose GPT has the EFI system partition that systemd-boot says it has come from. Once the
// data was on a disk of its own, an attribute of that EFI system partition says so, and nothing else is taken for the data
// from then on.
//
// # Power cuts
//
// The partition is made in steps, each on the disk before the next one begins, and a start goes on where the last one was
// cut:
//
//  1. The GPT gets a partition "sallyport-data-new". The backup GPT, which moves to the end of the disk, is written first.
//  2. The file system is made. The half of its superblock that has its magic number and its label is held back.
//  3. That half, one sector, is written: from now on the file system is there, and whole.
//  4. The partition is called "sallyport-data".
//
// Only what is called "sallyport-data-new" and has no label is ever formatted. A partition "sallyport-data" whose label
// cannot be read is damaged, not new.
//
// # What is wrong
//
// A damaged data partition is not repaired and not replaced: an appliance with an empty state would be another one, without
// locks, with a new identity, and with an audit log that has no past. MountData returns ErrDamaged, and says what to do. A
// full one is mounted: what cannot be written then says so.
//
// A disk that is late, that cannot be read, or whose GPT is gone, is no empty one either: ErrAbsent and ErrUnreadable are for
// the caller to wait and try again. That there is no data is said only of a machine that was started from no disk, and of a
// disk whose GPT was read and has no data partition.
package disk
