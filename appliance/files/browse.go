package files

import (
	"context"
	"encoding/json"
	"io/fs"
	"path"
	"sync"
)

// An entry is what a person is shown of a file.
type entry struct {
	Name     []byte `json:"name"`
	Text     string `json:"text"`
	Kind     string `json:"kind"`
	Size     int64  `json:"size"`
	Mode     string `json:"mode"`
	Modified int64  `json:"modified"`
	Link     *place `json:"link,omitempty"`
}

// The kinds of entries.
const (
	kindFile   = "file"
	kindFolder = "folder"
	kindLink   = "link"
	kindOther  = "other"
)

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return kindFile
	case m.IsDir():
		return kindFolder
	case m&fs.ModeSymlink != 0:
		return kindLink
	}
	return kindOther
}

// entryOf is what is known of a file without asking again.
func entryOf(name string, info fs.FileInfo) entry {
	e := entry{Name: []byte(name), Text: textOf(name)}
	e.describe(info)
	e.Modified = info.ModTime().UnixMilli()
	return e
}

func (e *entry) describe(info fs.FileInfo) {
	e.Kind, e.Mode, e.Size = kindOf(info.Mode()), modeText(info.Mode()), 0
	if e.Kind == kindFile {
		e.Size = max(0, info.Size())
	}
}

// modeText is a mode as ls writes it.
func modeText(m fs.FileMode) string {
	b := []byte("-rwxrwxrwx")
	for i := range 9 {
		if m&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	for _, t := range []struct {
		bit  fs.FileMode
		mark byte
	}{{fs.ModeDir, 'd'}, {fs.ModeSymlink, 'l'}, {fs.ModeNamedPipe, 'p'}, {fs.ModeSocket, 's'}, {fs.ModeDevice, 'b'}, {fs.ModeCharDevice, 'c'}} {
		if m&t.bit != 0 {
			b[0] = t.mark
		}
	}
	for _, t := range []struct {
		bit     fs.FileMode
		at      int
		on, off byte
	}{{fs.ModeSetuid, 3, 's', 'S'}, {fs.ModeSetgid, 6, 's', 'S'}, {fs.ModeSticky, 9, 't', 'T'}} {
		if m&t.bit == 0 {
			continue
		}
		if b[t.at] == 'x' {
			b[t.at] = t.on
		} else {
			b[t.at] = t.off
		}
	}
	return string(b)
}

// follow says of a link what it leads to.
func (s *server) follow(e *entry, at string) {
	if e.Kind != kindLink {
		return
	}
	if to, err := s.sftp.ReadLink(at); err == nil && len(to) <= maxPath {
		p := placeOf(to)
		e.Link = &p
	}
	if info, err := s.sftp.Stat(at); err == nil {
		e.describe(info)
	}
}

func (s *server) stat(w *work) (any, error) {
	at := string(w.Path)
	info, err := s.sftp.Lstat(at)
	if err != nil {
		return nil, s.fail(w.ctx, "look at", at, err)
	}
	a := struct {
		answer
		Entry entry  `json:"entry"`
		Real  *place `json:"real,omitempty"`
	}{answer{ID: w.ID}, entryOf(path.Base(at), info), nil}
	s.follow(&a.Entry, at)
	if real, err := s.sftp.RealPath(at); err == nil && checkPath([]byte(real)) == nil {
		p := placeOf(real)
		a.Real = &p
	}
	return a, nil
}

// readDir reads a folder, and says if that is not all of it. Names that are none are left out.
func (s *server) readDir(ctx context.Context, at string) (all []fs.FileInfo, truncated bool, err error) {
	s.listing.Lock()
	defer s.listing.Unlock()
	limited, enough := context.WithCancel(ctx)
	defer enough()
	s.names.begin(enough)
	defer s.names.begin(nil)
	all, err = s.sftp.ReadDirContext(limited, at)
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	if limited.Err() != nil {
		all, err, truncated = all[:min(len(all), maxEntries)], nil, true
	}
	kept := all[:0]
	for _, info := range all {
		if checkName([]byte(info.Name())) == nil {
			kept = append(kept, info)
		}
	}
	return kept, truncated, err
}

// How a list is cut: so many entries are looked at before they are sent, so many bytes of them are in an answer, and so many
// links are followed, some of them at once.
const (
	pageEntries = 500
	pageBytes   = 128 << 10
	maxLinks    = 2000
	linksAtOnce = 16
)

type listAnswer struct {
	answer
	Entries   []json.RawMessage `json:"entries"`
	Truncated bool              `json:"truncated,omitempty"`
}

func (s *server) list(w *work) (any, error) {
	at := string(w.Path)
	all, truncated, err := s.readDir(w.ctx, at)
	if err != nil {
		return nil, s.fail(w.ctx, "list", at, err)
	}
	a := listAnswer{answer: answer{ID: w.ID}, Entries: []json.RawMessage{}}
	links, size := maxLinks, 0
	for len(all) > 0 {
		some := s.entries(w.ctx, at, all[:min(len(all), pageEntries)], &links)
		all = all[len(some):]
		for _, e := range some {
			text, err := json.Marshal(e)
			if err != nil {
				return nil, err
			}
			if len(a.Entries) == pageEntries || size+len(text) > pageBytes && size > 0 {
				a.More = true
				if err := s.send(kindRequest, a); err != nil {
					return nil, err
				}
				a.Entries, size = a.Entries[:0], 0
			}
			a.Entries, size = append(a.Entries, text), size+len(text)+1
		}
		if w.ctx.Err() != nil {
			return nil, s.fail(w.ctx, "list", at, context.Cause(w.ctx))
		}
	}
	a.More, a.Truncated = false, truncated
	return a, nil
}

// entries are what is shown of files in a folder, with where their links lead while links lasts.
func (s *server) entries(ctx context.Context, at string, infos []fs.FileInfo, links *int) []entry {
	list := make([]entry, len(infos))
	var following sync.WaitGroup
	defer following.Wait()
	room := make(chan struct{}, linksAtOnce)
	for i, info := range infos {
		list[i] = entryOf(info.Name(), info)
		if list[i].Kind != kindLink || *links == 0 || ctx.Err() != nil {
			continue
		}
		*links--
		room <- struct{}{}
		following.Add(1)
		s.o.Go(func() {
			defer func() { <-room; following.Done() }()
			s.follow(&list[i], path.Join(at, info.Name()))
		})
	}
	return list
}
