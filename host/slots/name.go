package slots

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Tries is how often a new version is started before it is given up: once may be a power cut at a bad moment, and somebody
// waits while a bad version is tried.
const Tries = 2

// A Slot is a version of the image on the partition.
type Slot struct {
	Version string
	Left    int   // tries that are left; of no meaning where it is blessed
	Done    int   // tries that have been made
	Blessed bool  // it is started without counting
	Size    int64 // of the file, in bytes

	file string // its name, where it has been seen: it may be written otherwise than Name writes it
}

// nameForm is what a file is called. Names of FAT keep the case that they were made with, and firmware may not.
var nameForm = regexp.MustCompile(`^(?i:sallyport)_([0-9][0-9A-Za-z.~-]{0,63}?)(?:\+([0-9]{1,2})(?:-([0-9]{1,2}))?)?\.(?i:efi)$`)

// ParseName reads the name of a version's file; false if it is none.
func ParseName(name string) (Slot, bool) {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return Slot{}, false
	}
	s := Slot{file: name, Version: strings.ReplaceAll(m[1], "~", "-"), Blessed: m[2] == ""}
	if !s.Blessed {
		s.Left, _ = strconv.Atoi(m[2])
		s.Done, _ = strconv.Atoi(m[3]) // of nothing it is 0
	}
	return s, true
}

// Name is what the slot's file is called.
func (s Slot) Name() string {
	version := strings.Replace(s.Version, "-", "~", 1)
	switch {
	case s.Blessed:
		return fmt.Sprintf("sallyport_%s.efi", version)
	case s.Done > 0:
		return fmt.Sprintf("sallyport_%s+%d-%d.efi", version, s.Left, s.Done)
	}
	return fmt.Sprintf("sallyport_%s+%d.efi", version, s.Left)
}

// Given says whether the loader has given the version up, or somebody has rolled it back.
func (s Slot) Given() bool { return !s.Blessed && s.Left == 0 }
