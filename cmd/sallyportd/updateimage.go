package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"sallyport/host/slots"
	"sallyport/image/uki"
	"sallyport/image/update"
)

// errFirmware means that the firmware is not going to start an image. It then does not try it and go on to the version
// before: it stops, and somebody has to switch the machine off and on again.
var errFirmware = errors.New("none of the keys in the firmware's db has signed this image, and Secure Boot is on")

// checkImage says whether the image in the file name, whose bytes are those that were signed for updates, is what its header
// says, and one that the firmware starts. variables is where the EFI variables are.
func checkImage(name string, h update.Header, variables string) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// Not read into memory, of which a small machine has no more than it needs.
	b, err := unix.Mmap(int(f.Fd()), 0, int(h.Size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	// A disk that cannot read what was written to it is a fault of memory then, of which process 1 must not die.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("look at the image: %v", fault)
		}
	}()
	release, err := uki.Release(b)
	if err != nil {
		return errors.Join(update.ErrOther, err)
	}
	if err := h.Matches(release); err != nil {
		return err
	}
	trust, err := slots.ReadTrust(variables)
	if err != nil || trust == nil {
		return err
	}
	digest, err := uki.Digest(b)
	if err != nil {
		return errors.Join(update.ErrOther, err)
	}
	signatures, err := uki.Signers(b)
	if err != nil {
		return errors.Join(errFirmware, err)
	}
	var signers []*x509.Certificate
	for _, s := range signatures {
		if s.Holds {
			signers = append(signers, s.Cert)
		}
	}
	if !trust.Starts(digest, signers) {
		return errFirmware
	}
	return nil
}
