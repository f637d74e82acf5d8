// Package clients keeps what people download the client as: the archives and packages of a release, in a folder with the
// release's SHA256SUMS.
//
//	f, err := clients.Open("/var/lib/sallyport/clients", log)
//	list, err := f.List()
//	file, one, err := f.File("sallyport-1.4.0-linux-amd64.tar.gz")
//
// # What there is
//
// A file is there if SHA256SUMS names it, its name is one that a release gives to a client, it is a regular file and no link,
// and it hashes to what SHA256SUMS says. So it does not matter who has put it there: an administrator by Put, where the
// appliance has no shell, or root with cp. A file is hashed again when its size or time has changed.
package clients

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// SumsName is the file with the hashes, in the form of sha256sum.
const SumsName = "SHA256SUMS"

// Bounds of what is kept. The archives of one release have some 80 MiB together.
const (
	maxSums  = 64 << 10
	maxFile  = 128 << 20
	maxFiles = 32
	maxAll   = 512 << 20
)

var (
	archiveName = regexp.MustCompile(`^sallyport-([0-9A-Za-z][0-9A-Za-z.+-]{0,63})-(linux|darwin|windows)-(amd64|arm64)\.(tar\.gz|zip)$`)
	packageName = regexp.MustCompile(`^sallyport_([0-9A-Za-z][0-9A-Za-z.+~-]{0,63})_(amd64|arm64)\.deb$`)
)

// ErrUnknown is the answer to a name of no file.
var ErrUnknown = frame.Refuse("E_CLIENT_UNKNOWN", "this appliance has no such file of the client", "the page The command lists what it has")

// Named is what a file's name says of it; false if it is not one of a client.
func Named(name string) (c api.ClientFile, ok bool) {
	if m := archiveName.FindStringSubmatch(name); m != nil {
		return api.ClientFile{Name: name, Version: m[1], System: m[2], Arch: m[3]}, true
	}
	if m := packageName.FindStringSubmatch(name); m != nil {
		return api.ClientFile{Name: name, Version: m[1], System: "debian", Arch: m[2]}, true
	}
	return c, false
}

// ReadSums reads SHA256SUMS, and returns what it says of the client's files, in its order. Other files of the release are
// left out.
func ReadSums(text []byte) (list []api.ClientFile, err error) {
	if len(text) > maxSums {
		return nil, fmt.Errorf("%s has more than %d bytes", SumsName, maxSums)
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		sum, name, ok := strings.Cut(lines.Text(), " ")
		if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != sha256.Size || name == "" || name[0] != ' ' && name[0] != '*' {
			return nil, fmt.Errorf("line %d of %s is not a hash and a name", n, SumsName)
		}
		c, ok := Named(name[1:])
		switch {
		case !ok:
			continue
		case seen[c.Name]:
			return nil, fmt.Errorf("line %d of %s names %s again", n, SumsName, c.Name)
		case len(list) == maxFiles:
			return nil, fmt.Errorf("%s names more than %d files of the client", SumsName, maxFiles)
		}
		seen[c.Name] = true
		c.SHA256 = strings.ToLower(sum)
		list = append(list, c)
	}
	return list, lines.Err()
}

// A Folder is one. Its methods may be called by many goroutines.
type Folder struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	hashed map[string]hashed // by name
	part   part
}

// hashed is what a file was when it was hashed.
type hashed struct {
	size int64
	time time.Time
	sum  string
}

// Open returns the folder, which it makes if there is none.
func Open(dir string, log *slog.Logger) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the client's files: %w", err)
	}
	return &Folder{dir: dir, log: log, hashed: map[string]hashed{}}, nil
}

// List is what there is, in the order of SHA256SUMS.
func (f *Folder) List() ([]api.ClientFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted, err := f.sums()
	if err != nil {
		return nil, err
	}
	list := []api.ClientFile{}
	for _, c := range wanted {
		if file, c, ok := f.open(c); ok {
			file.Close()
			list = append(list, c)
		}
	}
	return list, nil
}

// File opens one, or says ErrUnknown.
func (f *Folder) File(name string) (*os.File, api.ClientFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted, err := f.sums()
	if err != nil {
		return nil, api.ClientFile{}, err
	}
	for _, c := range wanted {
		if c.Name != name {
			continue
		}
		if file, c, ok := f.open(c); ok {
			return file, c, nil
		}
	}
	return nil, api.ClientFile{}, ErrUnknown
}

// sums reads SHA256SUMS, which may be missing.
func (f *Folder) sums() ([]api.ClientFile, error) {
	file, size, err := f.regular(SumsName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		defer file.Close()
		if size > maxSums {
			err = fmt.Errorf("it has more than %d bytes", maxSums)
		}
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(file)
	}
	var list []api.ClientFile
	if err == nil {
		list, err = ReadSums(text)
	}
	if err != nil {
		f.log.Warn("the client's files cannot be offered", "file", SumsName, "cause", err)
		return nil, frame.Refuse("E_CLIENT_FILES", SumsName+" of the client's files cannot be read", "an administrator finds the reason in the log")
	}
	return list, nil
}

// regular opens a regular file that is not reached by a link.
func (f *Folder) regular(name string) (*os.File, int64, error) {
	path := filepath.Join(f.dir, name)
	before, err := os.Lstat(path)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() { // and a pipe would keep who opens it waiting
		return nil, 0, errors.New("it is no regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	now, err := file.Stat()
	if err == nil && !os.SameFile(before, now) {
		err = errors.New("it has changed meanwhile")
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, now.Size(), nil
}

// open opens a file that is what SHA256SUMS says. What is wrong with one that is not stands in the log.
func (f *Folder) open(c api.ClientFile) (*os.File, api.ClientFile, bool) {
	file, size, err := f.regular(c.Name)
	if errors.Is(err, fs.ErrNotExist) { // of a release of which not all was copied
		return nil, c, false
	}
	if err == nil {
		var sum string
		if sum, err = f.hash(file, c.Name, size); err == nil && sum != c.SHA256 {
			err = fmt.Errorf("its SHA-256 is %s, and %s has another", sum, SumsName)
		}
		if err == nil {
			c.Size = size
			return file, c, true
		}
		file.Close()
	}
	f.log.Warn("a file of the client is not offered", "file", c.Name, "cause", err)
	return nil, c, false
}

// hash is a file's SHA-256.
func (f *Folder) hash(file *os.File, name string, size int64) (string, error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if was, ok := f.hashed[name]; ok && was.size == info.Size() && was.time.Equal(info.ModTime()) {
		return was.sum, nil
	}
	if size == 0 || size > maxFile {
		return "", fmt.Errorf("it has %d bytes; at most %d are offered", size, maxFile)
	}
	sum, err := sumOf(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	f.hashed[name] = hashed{info.Size(), info.ModTime(), sum}
	return sum, nil
}

func sumOf(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
