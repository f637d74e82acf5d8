package slots

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/semver"
)

const (
	folder    = "EFI/Linux"
	temporary = "sallyport.tmp" // in the folder; not *.efi, so that the loader does not see it
	floorFile = "EFI/sallyport/floor"
	nextFloor = "EFI/sallyport/floor.next" // VERSION FLOOR: the floor once that version has proved itself

	// spare is left free for what the loader and the firmware write, and for directories that grow.
	spare = 1 << 20

	maxFiles = 256 // in the folder
	maxFloor = 128 // bytes
)

var (
	// ErrSpace means that the partition has no room for another version.
	ErrSpace = errors.New("the EFI system partition has no room")

	// ErrTrial means that what runs has not been blessed, and must stay what the other version can take over from.
	ErrTrial = errors.New("the running version has yet to prove itself")

	// ErrNoOther means that there is no other version to go back to.
	ErrNoOther = errors.New("there is no other version")
)

// A Store is the versions on one partition. Its methods may be called by several goroutines.
type Store struct {
	// Mount makes the partition's files appear below a folder, until unmount. It is called for each thing that is done:
	// what is not mounted cannot be damaged.
	Mount func() (folder string, unmount func() error, err error)

	// Free says how many bytes are free where a folder is. Default: as the kernel says.
	Free func(folder string) (int64, error)

	mu     sync.Mutex
	listed bool // the next two are what List says: nobody else changes the partition while the machine runs
	list   []Slot
	floor  string
}

// on does something with the mounted partition.
func (s *Store) on(do func(root string) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mounted(do)
}

func (s *Store) mounted(do func(root string) error) (err error) {
	s.listed = false
	root, unmount, err := s.Mount()
	if err != nil {
		return fmt.Errorf("mount the EFI system partition: %w", err)
	}
	defer func() { err = errors.Join(err, unmount()) }()
	return do(root)
}

// List lists the versions, the latest first, and the floor: what no version may be below. It mounts the partition only if
// something was done with it since the last time: each time is a moment at which the power must not go.
func (s *Store) List() (list []Slot, floor string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listed {
		err := s.mounted(func(root string) (err error) {
			if s.list, err = read(root); err != nil {
				return err
			}
			s.floor, err = readFloor(root)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		s.listed = true
	}
	return slices.Clone(s.list), s.floor, nil
}

func read(root string) ([]Slot, error) {
	d, err := os.Open(filepath.Join(root, folder))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxFiles)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var list []Slot
	for _, e := range entries {
		slot, ok := ParseName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		slot.Size = info.Size()
		list = append(list, slot)
	}
	slices.SortFunc(list, func(a, b Slot) int { return cmp.Or(compare(b.Version, a.Version), cmp.Compare(a.Name(), b.Name())) })
	return list, nil
}

// compare orders versions; one that is none, such as an empty floor, is before all.
func compare(a, b string) int { return semver.Compare("v"+a, "v"+b) }

// readFloor reads the floor. One that cannot be understood is an error: it must not be lost by a damaged byte.
func readFloor(root string) (string, error) {
	b, err := readFile(filepath.Join(root, floorFile), maxFloor)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	floor := strings.TrimSpace(string(b))
	if err == nil && !semver.IsValid("v"+floor) {
		err = fmt.Errorf("%.32q is no version", floor)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", floorFile, err)
	}
	return floor, nil
}

// An Install is a version to be installed.
type Install struct {
	Version string
	Size    int64     // of the image, in bytes
	Image   io.Reader // whose io.EOF says that it was whole and genuine
	Floor   string    // once the version is blessed nothing may be below it; may be empty

	// Check, if there is one, looks at the file that has been written, before it counts.
	Check func(name string) error
}

// Install puts a version beside the running one. The next start tries it. All others go: the running one, and what may
// replace it, is what there is room for.
//
// The floor waits for Bless. If the version is given up instead, what takes its place may be earlier than it.
func (s *Store) Install(running Slot, in Install) error {
	if !running.Blessed {
		return ErrTrial
	}
	next := Slot{Version: in.Version, Left: Tries}
	if slot, ok := ParseName(next.Name()); !ok || slot.Version != in.Version || compare(in.Version, running.Version) == 0 {
		return fmt.Errorf("%.64q cannot be installed beside %s", in.Version, running.Version)
	}
	return s.on(func(root string) error {
		others := func(keep string) error {
			return remove(root, func(have Slot) bool { return have.Version != running.Version && have.Name() != keep })
		}
		if err := s.room(root, in.Size, others); err != nil {
			return err
		}
		if err := write(root, in); err != nil {
			return err
		}
		// Before the name, so that there is no moment at which the version counts and its floor is not known.
		if err := keepFloor(root, in.Version, in.Floor); err != nil {
			return err
		}
		// An earlier attempt at the same version would be another entry of that version.
		if err := remove(root, func(have Slot) bool { return have.Version == in.Version }); err != nil {
			return err
		}
		if err := rename(root, temporary, next.Name()); err != nil {
			return err
		}
		return others(next.Name())
	})
}

// room sees to it that size bytes fit, if need be by removing the other versions first.
func (s *Store) room(root string, size int64, others func(keep string) error) error {
	if err := os.Remove(filepath.Join(root, folder, temporary)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	free := s.Free
	if free == nil {
		free = freeBytes
	}
	for first := true; ; first = false {
		have, err := free(root)
		switch {
		case err != nil:
			return err
		case have >= size+spare:
			return nil
		case !first:
			return fmt.Errorf("%w: it has %d MiB, and %d are needed", ErrSpace, have>>20, (size+spare)>>20+1)
		}
		if err := others(""); err != nil {
			return err
		}
	}
}

// write writes the image under its temporary name, safely onto the disk.
func write(root string, in Install) (err error) {
	path := filepath.Join(root, folder, temporary)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	n, err := io.Copy(f, in.Image)
	if err != nil {
		return err
	}
	if n != in.Size {
		return fmt.Errorf("an image of %d bytes, not %d", n, in.Size)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if in.Check != nil {
		return in.Check(path)
	}
	return nil
}

// remove removes the versions for which a function says so.
func remove(root string, which func(Slot) bool) error {
	d, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		return err
	}
	for _, e := range d {
		if have, ok := ParseName(e.Name()); ok && which(have) {
			if err := os.Remove(filepath.Join(root, folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return syncFolder(filepath.Join(root, folder))
}

func rename(root, from, to string) error {
	dir := filepath.Join(root, folder)
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// keepFloor keeps the floor that a version brings, which may be none, until that is blessed.
func keepFloor(root, version, floor string) error {
	if floor == "" {
		err := os.Remove(filepath.Join(root, nextFloor))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return writeText(root, nextFloor, version+" "+floor)
}

// raiseFloor has the floor hold that a version has brought, if it is above the one that holds.
func raiseFloor(root, version string) error {
	b, err := readFile(filepath.Join(root, nextFloor), maxFloor)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	of, floor, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	if err == nil && (!ok || !semver.IsValid("v"+floor)) {
		err = fmt.Errorf("%.64q is no floor", b)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", nextFloor, err)
	}
	have, err := readFloor(root)
	if err != nil || of != version || compare(floor, have) <= 0 {
		return err
	}
	return writeText(root, floorFile, floor)
}

// writeText writes a line into a file so that there is either what was or what shall be.
func writeText(root, name, text string) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.WriteString(f, text+"\n"); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Bless makes the version that the loader has counted down the one that is started for good, and has the floor hold that it
// has brought. Where the loader has not counted, there is nothing to do.
func (s *Store) Bless(l Loader) error {
	if l.CountPath == "" {
		return nil
	}
	counted, ok := l.counted()
	if !ok {
		return fmt.Errorf("the loader has counted %.64q, which is no version of ours", l.CountPath)
	}
	blessed := Slot{Version: counted.Version, Blessed: true}
	return s.on(func(root string) error {
		// Before the name: with that the version has proved itself, and nobody is going to ask again.
		if err := raiseFloor(root, counted.Version); err != nil {
			return err
		}
		err := rename(root, counted.file, blessed.Name())
		if errors.Is(err, fs.ErrNotExist) {
			if _, there := os.Stat(filepath.Join(root, folder, blessed.Name())); there == nil {
				return nil // it has been blessed since
			}
		}
		return err
	})
}

// Rollback takes back the latest step. Where a later version than the running one waits for the next start, that is given up
// and the running one stays. Else the running one is given up, and the next start takes the latest earlier one that was not
// and is not below the floor, on trial. What is given up stays on the disk until the next Install. The version that the next start
// takes is returned.
func (s *Store) Rollback(running Slot) (version string, err error) {
	err = s.on(func(root string) error {
		list, err := read(root)
		if err != nil {
			return err
		}
		floor, err := readFloor(root)
		if err != nil {
			return err
		}
		later := func(have Slot) bool { return compare(have.Version, running.Version) > 0 && !have.Given() }
		version = running.Version
		if !slices.ContainsFunc(list, later) {
			i := slices.IndexFunc(list, func(have Slot) bool {
				return compare(have.Version, running.Version) < 0 && !have.Given() && compare(have.Version, floor) >= 0
			})
			if i < 0 {
				return ErrNoOther
			}
			// It has to prove itself again: where it cannot read what the later version has written, that comes back by
			// itself. Until the later one is given up, this changes nothing.
			version = list[i].Version
			if err := rename(root, list[i].file, Slot{Version: version, Left: Tries}.Name()); err != nil {
				return err
			}
		}
		for _, have := range list {
			if compare(have.Version, version) > 0 && !have.Given() {
				if err := rename(root, have.file, Slot{Version: have.Version, Done: max(have.Done, 1)}.Name()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return version, err
}
