package deb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// A Package is one file of Debian's archive, pinned by its hash.
type Package struct {
	Name, Version, Arch string
	Archive             string // "debian" or "debian-security"
	Path                string // of its folder in the archive: pool/main/s/systemd
	SHA256              string // of the file, in hexadecimal
	Size                int64  // of the file, in bytes
}

// File is the name of the package's file in the archive, which leaves out a version's epoch.
func (p Package) File() string {
	version := p.Version
	if _, rest, ok := strings.Cut(version, ":"); ok {
		version = rest
	}
	return p.Name + "_" + version + "_" + p.Arch + ".deb"
}

// Mirrors are asked in this order, {archive} being the package's. The last keeps what the others have replaced, and has it
// under a date.
var Mirrors = []string{
	"http://deb.debian.org/{archive}",
	"http://security.debian.org/{archive}",
	"https://snapshot.debian.org/archive/{archive}/20261127T000000Z",
}

// A Cache is a folder of packages. What is in it is never asked for again; what is not comes from a mirror. Every file's
// hash is checked each time, so that neither the folder nor a mirror has to be trusted, nor the way there.
type Cache struct {
	Dir      string       // is made if need be
	Mirrors  []string     // default Mirrors
	Client   *http.Client // default: one that gives up on a mirror that sends nothing for a minute
	Progress func(p Package, done int64)
}

// ErrHash is what a file that is not the pinned one is refused with.
var ErrHash = errors.New("the file's SHA-256 is not the pinned one")

// A MissingError says that a package is neither in the cache nor to be had.
type MissingError struct {
	Package Package
	Dir     string
	Err     error // why the mirrors did not have it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not in %s and cannot be fetched: %v", e.Package.File(), e.Dir, e.Err)
}

func (e *MissingError) Unwrap() error { return e.Err }

// Get returns the path of p's file, which it fetches if the cache lacks it. The error is a *MissingError if no mirror has
// it; it is ErrHash below that if a mirror has another file under the name.
func (c Cache) Get(ctx context.Context, p Package) (string, error) {
	name := filepath.Join(c.Dir, p.File())
	switch err := check(name, p); {
	case err == nil:
		return name, nil
	case errors.Is(err, ErrHash):
		return "", fmt.Errorf("%s: %w; remove it to have it fetched again", name, err)
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", err
	}
	mirrors := c.Mirrors
	if len(mirrors) == 0 {
		mirrors = Mirrors
	}
	var faults []error
	for _, mirror := range mirrors {
		base := strings.ReplaceAll(mirror, "{archive}", p.Archive)
		err := c.fetch(ctx, strings.TrimSuffix(base, "/")+"/"+path.Join(p.Path, p.File()), name, p)
		if err == nil {
			return name, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		faults = append(faults, err)
	}
	return "", &MissingError{p, c.Dir, errors.Join(faults...)}
}

// stall is how long a mirror may send nothing.
const stall = time.Minute

func (c Cache) fetch(ctx context.Context, url, name string, p Package) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(stall, func() { cancel(fmt.Errorf("the mirror sent nothing for %v", stall)) })
	defer silent.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := c.Client
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	// Under another name until it is whole and right, so that a build that was interrupted leaves nothing to stumble over.
	out, err := os.CreateTemp(c.Dir, ".fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	done := int64(0)
	count := writerFunc(func(b []byte) (int, error) {
		silent.Reset(stall)
		done += int64(len(b))
		if c.Progress != nil {
			c.Progress(p, done)
		}
		return len(b), nil
	})
	if _, err := io.Copy(io.MultiWriter(out, count), io.LimitReader(answer.Body, p.Size+1)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if err := errors.Join(out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	if err := check(out.Name(), p); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return os.Rename(out.Name(), name)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// check reads the file and compares its hash.
func check(name string, p Package) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("%w: %s instead of %s", ErrHash, got, p.SHA256)
	}
	return nil
}
