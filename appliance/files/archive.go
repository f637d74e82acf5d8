package files

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/audit"
	"sallyport/frame"
)

// What is in an archive is listed at its end, and held until then: so much of it at most, which takes 32 MiB.
const (
	maxArchived      = 50_000
	maxArchivedNames = 8 << 20
)

// An archive is a folder on its way as one ZIP file, which is made while it is sent. It is the same to the byte as long as the
// folder is, so what was interrupted goes on as that of a file does. What is in it is not compressed: that would take
// more time of the appliance than of the network.
//
//	files, in order → ZIP → down
type archive struct {
	*down
	zip    *zip.Writer
	listed int // files and all else, with what is still to come
	names  int // bytes of their names
	files  int // that are in it
	left   omitted
}

// omitted says what of a folder is not in its archive: what may not be read, and what is no file.
type omitted struct {
	Count int    `json:"count"`
	First string `json:"first"` // one of them, for eyes
}

func (s *server) archive(w *work) (any, error) {
	at := string(w.Path)
	info, err := s.sftp.Stat(at)
	if err != nil {
		return nil, s.fail(w.ctx, "read", at, err)
	}
	if !info.IsDir() {
		return nil, frame.Refuse(codeKind, frame.Clip(textOf(path.Base(at)), 200)+" is no folder", "download it as a file")
	}
	select {
	case s.archiving <- struct{}{}:
		defer func() { <-s.archiving }()
	case <-w.ctx.Done():
		return nil, reasonOf(context.Cause(w.ctx))
	}
	d := newDown(s, w, info)
	a := &archive{down: d, zip: zip.NewWriter(d)}
	err = a.whole(at)
	d.detail["files"] = strconv.Itoa(a.files)
	if a.left.Count > 0 {
		d.detail["omitted"] = strconv.Itoa(a.left.Count)
	}
	last, err := d.over(err)
	if answer, ok := last.(downAnswer); ok && a.left.Count > 0 {
		answer.Omitted = &a.left
		last = answer
	}
	return last, err
}

func (a *archive) whole(at string) error {
	name := "files"
	if at != "/" {
		name = archived(path.Base(at))
	}
	if err := a.folder(at, name, a.info, 0); err != nil {
		return err
	}
	if err := a.zip.Close(); err != nil {
		return err
	}
	return a.finish()
}

// An item is what is kept of a folder's entries until it is their turn.
type item struct {
	name string
	mode fs.FileMode
	info fs.FileInfo // of a folder
}

// folder adds a folder, and what is in it in the order of names.
func (a *archive) folder(at, name string, info fs.FileInfo, depth int) error {
	if depth >= maxDepth {
		return frame.Refuse("E_LIMIT", fmt.Sprintf("the folders in it are more than %d deep", maxDepth), "download them by themselves")
	}
	all, truncated, err := a.s.readDir(a.w.ctx, at)
	if err != nil {
		return a.without(at, depth, a.s.fail(a.w.ctx, "list", at, err))
	}
	if err := a.room(name, all, truncated); err != nil {
		return err
	}
	if _, err := a.zip.CreateHeader(headerOf(name+"/", info)); err != nil {
		return err
	}
	items := make([]item, len(all))
	for i, e := range all {
		items[i] = item{name: e.Name(), mode: e.Mode()}
		if e.IsDir() {
			items[i].info = e
		}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.name, b.name) })
	taken := make(map[string]bool, len(items))
	for _, i := range items {
		as := archived(i.name)
		for n := 2; taken[as]; n++ {
			as = another(archived(i.name), n)
		}
		taken[as] = true
		from, to := path.Join(at, i.name), name+"/"+as
		switch {
		case i.mode.IsDir():
			err = a.folder(from, to, i.info, depth+1)
		case i.mode.IsRegular():
			err = a.file(from, to)
		default:
			a.omit(from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// room says why there is too much in a folder.
func (a *archive) room(name string, all []fs.FileInfo, truncated bool) error {
	a.listed += len(all)
	for _, e := range all {
		a.names += len(name) + 1 + len(archived(e.Name()))
	}
	if truncated || a.listed > maxArchived || a.names > maxArchivedNames {
		return frame.Refuse("E_LIMIT", fmt.Sprintf("there are more than %d files in it, or their names are too long together", maxArchived), "download the folders in it by themselves, or make an archive in the terminal")
	}
	return nil
}

// file adds a file, and writes down that somebody has it unless they had it before.
func (a *archive) file(at, name string) error {
	f, info, err := a.s.openRegular(a.w.ctx, at)
	if err != nil {
		return a.without(at, 1, err)
	}
	defer f.Close()
	w, err := a.zip.CreateHeader(headerOf(name, info))
	if err != nil {
		return err
	}
	begun, sum := time.Now(), sha256.New()
	size, err := f.WriteTo(io.MultiWriter(w, sum))
	if err == nil {
		err = a.zip.Flush()
	}
	if err != nil {
		return a.s.fail(a.w.ctx, "read", at, err)
	}
	a.files++
	if a.brought() <= a.w.From {
		return nil
	}
	return a.s.side.Record(audit.Event{Kind: audit.FileDownloaded, Object: textOf(at), Down: size, Duration: time.Since(begun).Milliseconds(),
		Detail: map[string]string{"size": strconv.FormatInt(size, 10), "sha256": hex.EncodeToString(sum.Sum(nil)), "in": textOf(a.at)}})
}

// without goes on without what cannot be opened, unless it is the folder that was asked for.
func (a *archive) without(at string, depth int, err error) error {
	switch failureOf(err).Code {
	case codeAccess, codeUnknown, codeKind, codeOther:
		if depth > 0 {
			a.omit(at)
			return nil
		}
	}
	return err
}

func (a *archive) omit(at string) {
	if a.left.Count++; a.left.Count == 1 {
		a.left.First = textOf(at)
	}
}

// headerOf is how an archive names something. Its time is the target's, wherever the appliance is.
func headerOf(name string, info fs.FileInfo) *zip.FileHeader {
	h := &zip.FileHeader{Name: name, Method: zip.Store}
	mode := info.Mode().Perm()
	if info.IsDir() {
		mode |= fs.ModeDir
	}
	h.SetMode(mode)
	if at := info.ModTime().UTC(); at.Year() >= 1980 && at.Year() < 2100 { // what a ZIP file can say
		h.Modified = at
	}
	return h
}

// device is a name that Windows has for something else than a file, whatever its ending.
var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\.|$)`)

// archived is a name as it stands in an archive: one that no system takes for something else than a name, where it is unpacked.
func archived(name string) string {
	safe := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`\/:*?"<>|`, r) {
			return '_'
		}
		return r
	}, textOf(name))
	if device.MatchString(safe) {
		safe = "_" + safe
	}
	safe = cut(safe, maxName)
	kept := strings.TrimRight(safe, ". ") // Windows would leave them out
	return kept + strings.Repeat("_", len(safe)-len(kept))
}
