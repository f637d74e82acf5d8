// Package slots keeps two versions of the image on an EFI system partition, as systemd-boot wants them: one that has proved
// itself, and one that has yet to.
//
//	s := slots.Store{Mount: esp.Mount}
//	err := s.Install(running, slots.Install{Version: "1.4.0", Size: n, Image: image, Floor: "1.4.0"}) // beside what runs; the next start tries it
//	err = s.Bless(loader)                                                                            // it works: from now on it is the one, and its floor holds
//	version, err := s.Rollback(running)                                                              // it does not: the next start takes the other
//
// # Names
//
// A version is the file EFI/Linux/sallyport_VERSION+LEFT-DONE.efi. systemd-boot takes the newest that has tries left, and
// counts one down before it starts it (systemd.io/AUTOMATIC_BOOT_ASSESSMENT). A name without +LEFT-DONE is blessed: it is
// started for good. One with +0 is only started where there is nothing else. So a version that dies before it is blessed
// makes way for the other one after Tries starts, and nobody has to do anything.
//
// In a name the hyphen before a pre-release is a tilde, as systemd's order of versions (UAPI Group Version Format
// Specification) has 1.4.0~rc.1 before 1.4.0, and 1.4.0-rc.1 after it.
//
// # Power cuts
//
// FAT has no journal. What is new is written under a temporary name, which systemd-boot does not look at, made safe on the
// disk, and renamed. The file of the version that runs is not touched by that. What a cut has left behind is removed by the
// next Install.
package slots
