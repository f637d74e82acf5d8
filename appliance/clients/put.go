package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// part is a file on its way: there is one at a time.
type part struct {
	name, sum      string
	size, received int64
}

// partName is its name until it is whole.
const partName = "upload.part"

// Put takes a piece of a file of the client's or of SHA256SUMS, of which sum and size are. One that does not begin where the last one of its file has ended changes nothing; the first begins
// anew. A whole file gets its name when it hashes to what was said. SHA256SUMS comes last: with it the files that it names
// are offered, which must be there, and the others of before are removed. list is what is offered then, and nil before.
func (f *Folder) Put(name, sum string, offset, size int64, piece io.Reader) (received int64, list []api.ClientFile, err error) {
	this := part{name: name, sum: sum, size: size}
	if err := this.check(); err != nil {
		return 0, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(piece, api.MaxPiece+1)) // before anybody waits for it
	if err == nil && len(data) > api.MaxPiece {
		err = fmt.Errorf("it has more than %d bytes", api.MaxPiece)
	}
	if err != nil {
		return 0, nil, frame.Refuse("E_USAGE", fmt.Sprintf("the piece cannot be read: %v", err), "")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if offset == 0 {
		if err := f.begin(this); err != nil {
			return 0, nil, err
		}
	}
	this.received = f.part.received
	switch {
	case f.part != this:
		return 0, nil, nil
	case offset != this.received:
		return this.received, nil, nil
	}
	if err := f.take(data[:min(int64(len(data)), size-offset)]); err != nil {
		return f.part.received, nil, err
	}
	if f.part.received < size {
		return f.part.received, nil, nil
	}
	list, err = f.whole()
	return size, list, err
}

func (p part) check() error {
	sum, err := hex.DecodeString(p.sum)
	_, client := Named(p.name)
	switch {
	case err != nil || len(sum) != sha256.Size || p.sum != hex.EncodeToString(sum) || p.size < 1:
		return frame.Refuse("E_USAGE", "a piece needs name, sha256, offset and size", "")
	case p.name != SumsName && !client:
		return frame.Refuse("E_USAGE", fmt.Sprintf("%s is no file of the client", frame.Clip(p.name, 80)), "make release makes them")
	case p.size > maxFile, p.name == SumsName && p.size > maxSums:
		return frame.Refuse("E_USAGE", p.name+" is too large", "")
	}
	return nil
}

// begin forgets what was on its way, and makes sure that there is room for another.
func (f *Folder) begin(next part) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("look at the client's files: %w", err)
	}
	all, files := next.size, 1
	for _, e := range entries {
		if _, client := Named(e.Name()); !client || e.Name() == next.name {
			continue
		}
		if info, err := e.Info(); err == nil {
			all, files = all+info.Size(), files+1
		}
	}
	if all > maxAll || files > 2*maxFiles { // those of before are there until SHA256SUMS has come
		return frame.Refuse("E_LIMIT", "the client's files take too much room", fmt.Sprintf("at most %d MiB are kept", maxAll>>20))
	}
	f.part = part{}
	file, err := os.OpenFile(filepath.Join(f.dir, partName), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return fmt.Errorf("keep a file of the client: %w", err)
	}
	f.part = next
	return nil
}

// take adds a piece to what is there.
func (f *Folder) take(data []byte) error {
	file, err := os.OpenFile(filepath.Join(f.dir, partName), os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteAt(data, f.part.received)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("keep a file of the client: %w", err) // the same piece may come again
	}
	f.part.received += int64(len(data))
	return nil
}

// whole gives a file its name that has come as a whole.
func (f *Folder) whole() ([]api.ClientFile, error) {
	done, path := f.part, filepath.Join(f.dir, partName)
	f.part = part{}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("keep a file of the client: %w", err)
	}
	sum, err := sumOf(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("keep a file of the client: %w", err)
	}
	if sum != done.sum {
		return nil, errors.Join(frame.Refuse("E_USAGE", done.name+" has come otherwise than it was sent", "bring it again"), os.Remove(path))
	}
	if done.name != SumsName {
		return nil, os.Rename(path, filepath.Join(f.dir, done.name))
	}
	return f.replace(path)
}

// replace puts another SHA256SUMS in force.
func (f *Folder) replace(path string) ([]api.ClientFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", SumsName, err)
	}
	wanted, err := ReadSums(text)
	if err != nil {
		return nil, frame.Refuse("E_USAGE", err.Error(), "make release writes it")
	}
	list := []api.ClientFile{}
	names := map[string]bool{}
	for _, c := range wanted {
		file, c, ok := f.open(c)
		if !ok {
			return nil, frame.Refuse("E_USAGE", fmt.Sprintf("%s names %s, and that is not here, or another", SumsName, c.Name), "bring it first")
		}
		file.Close()
		names[c.Name] = true
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, frame.Refuse("E_USAGE", SumsName+" names no file of the client", "make release makes them")
	}
	if err := os.Rename(path, filepath.Join(f.dir, SumsName)); err != nil {
		return nil, fmt.Errorf("keep %s: %w", SumsName, err)
	}
	entries, err := os.ReadDir(f.dir)
	for _, e := range entries {
		if _, client := Named(e.Name()); client && !names[e.Name()] {
			delete(f.hashed, e.Name())
			if gone := os.Remove(filepath.Join(f.dir, e.Name())); !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}
	if err != nil {
		f.log.Warn("client's files of before are still there", "cause", err)
	}
	return list, nil
}
