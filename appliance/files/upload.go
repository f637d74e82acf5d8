package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/pkg/sftp"

	"sallyport/appliance/audit"
	"sallyport/frame"
)

// What is done if there is something of an upload's name already.
const (
	clashRefuse  = "refuse"
	clashReplace = "replace"
	clashKeep    = "keep"
)

// maxAnother is how many names are tried beside those that are taken.
const maxAnother = 1000

// An up is an upload, as what the file is read from.
//
//	side → inbox → SFTP's pieces → part → (rename) the file
type up struct {
	s    *server
	w    *work
	to   string // where the person wants it
	part string // where it goes first

	begun   time.Time
	hash    hash.Hash // of what the part has
	offset  int64     // the bytes of the part
	from    int64     // where the person began
	granted int64     // the limit that the person knows
	buf     []byte
}

func (s *server) upload(w *work) (any, error) {
	to := string(w.Path)
	part := partOf(s.o.Who, to, w.Size, w.Modified)
	release, err := s.o.Transfers.claim(w, fmt.Sprintf("%q %q %q", s.o.Who, s.o.Target, to), part)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.mayUpload(w, to); err != nil {
		return nil, err
	}
	u := &up{s: s, w: w, to: to, part: part, begun: time.Now()}
	if err := u.bring(); err != nil {
		err = s.fail(w.ctx, "write", to, err)
		s.side.Record(u.event(to, err))
		if w.inbox.discarded() || u.offset == 0 {
			s.sftp.Remove(u.part)
		}
		return nil, err
	}
	at, err := u.settle()
	if err != nil {
		return nil, err
	}
	return struct {
		answer
		place
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	}{answer{ID: w.ID}, placeOf(at), u.offset, u.sum()}, nil
}

func (u *up) sum() string { return hex.EncodeToString(u.hash.Sum(nil)) }

// event is what is written down of the upload: that it is whole, or why not.
func (u *up) event(at string, err error) audit.Event {
	e := audit.Event{Kind: audit.FileUploaded, Object: textOf(at), Up: max(u.offset-u.from, 0), Duration: time.Since(u.begun).Milliseconds(),
		Detail: map[string]string{"size": strconv.FormatInt(u.w.Size, 10), "clash": u.w.Clash}}
	if u.from > 0 {
		e.Detail["from"] = strconv.FormatInt(u.from, 10)
	}
	if err == nil || u.offset == u.w.Size && u.hash != nil {
		e.Detail["sha256"] = u.sum()
	}
	if err != nil {
		why := failureOf(err)
		e.Code, e.Why = string(why.Code), why.Sentence
	}
	return e
}

// mayUpload says what is known before the first byte: that the name is taken.
func (s *server) mayUpload(w *work, to string) error {
	info, err := s.sftp.Lstat(to)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return s.fail(w.ctx, "look at", to, err)
	case w.Clash == clashRefuse:
		return exists(to)
	case w.Clash == clashReplace && kindOf(info.Mode()) != kindFile && kindOf(info.Mode()) != kindLink:
		return notReplaced(to, info)
	}
	return nil
}

// bring makes the part whole.
func (u *up) bring() error {
	there, err := u.find()
	if err != nil {
		return err
	}
	if free, known := u.s.free(path.Dir(u.to)); known && free < u.w.Size-there {
		return u.noSpace(free)
	}
	offer := struct {
		answer
		Offset int64  `json:"offset"`
		SHA256 string `json:"sha256,omitempty"`
	}{answer{u.w.ID, true}, there, ""}
	if there > 0 {
		offer.SHA256 = u.sum()
	}
	u.w.inbox.offer(there)
	if err := u.s.send(kindRequest, offer); err != nil {
		return err
	}
	if u.from, err = u.w.inbox.begin(u.w.ctx); err != nil {
		u.from = u.offset
		return err
	}
	f, err := u.open()
	if err != nil {
		return err
	}
	u.granted = u.from + window
	_, err = f.ReadFromWithConcurrency(u, pieces)
	if err != nil {
		u.undo(f, err)
	}
	if shut := f.Close(); err == nil {
		err = shut
	}
	if err != nil {
		if free, known := u.s.free(path.Dir(u.to)); known && u.w.ctx.Err() == nil && free < min(u.w.Size-u.offset, window) {
			return u.noSpace(free)
		}
		return err
	}
	return u.finish()
}

// find looks for what an earlier try has left, and hashes it. Something else in its place goes.
func (u *up) find() (size int64, err error) {
	info, err := u.s.sftp.Lstat(u.part)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > u.w.Size || info.Size() <= 0 { // which a server may say
		return 0, u.s.sftp.Remove(u.part)
	}
	if u.hash, err = u.s.hashFile(u.w, u.part, info.Size()); err != nil {
		return 0, err
	}
	u.offset = info.Size()
	return info.Size(), nil
}

// open opens the part where the person begins. One that begins at 0 is a new file, so that nobody else has laid it there.
func (u *up) open() (*sftp.File, error) {
	flags := os.O_WRONLY
	if u.from == 0 {
		if u.offset > 0 {
			if err := u.s.sftp.Remove(u.part); err != nil {
				return nil, err
			}
		}
		u.hash, u.offset = sha256.New(), 0
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := u.s.sftp.OpenFile(u.part, flags)
	if err != nil {
		return nil, err
	}
	if mode, _, _, ok := u.s.rights(u.to); ok && u.w.Clash == clashReplace {
		err = f.Chmod(mode) // before there is anything to read
	}
	if err == nil {
		_, err = f.Seek(u.from, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// undo leaves of the part what is known to be written: a later piece may have come through where an earlier one did not.
func (u *up) undo(f *sftp.File, err error) {
	known, seek := f.Seek(0, io.SeekCurrent)
	if seek != nil || errors.Is(err, sftp.ErrSSHFxConnectionLost) {
		return
	}
	if f.Truncate(known) == nil {
		u.offset = known
	}
}

// finish makes the part what the file will be.
func (u *up) finish() error {
	info, err := u.s.sftp.Lstat(u.part)
	if err != nil {
		return err
	}
	if info.Size() != u.w.Size {
		return frame.Refuse(codeChanged, "somebody else has written to "+frame.Clip(textOf(path.Base(u.part)), 200), "upload it anew")
	}
	if mode, uid, gid, ok := u.s.rights(u.to); ok && u.w.Clash == clashReplace {
		// Whoever may not give a file away keeps it, and has replaced the file all the same.
		u.s.sftp.Chown(u.part, int(uid), int(gid))
		if err := u.s.sftp.Chmod(u.part, mode); err != nil {
			return err
		}
	}
	if u.w.Modified == 0 {
		return nil
	}
	return u.s.sftp.Chtimes(u.part, time.Now(), time.UnixMilli(u.w.Modified))
}

// settle gives the whole part its name, once that is written down.
func (u *up) settle() (string, error) {
	move := u.s.renameNew
	if u.w.Clash == clashReplace {
		move = u.s.renameOver
	}
	for n := 1; ; n++ {
		at := u.to
		if n > 1 {
			at = another(u.to, n)
		}
		if _, err := u.s.sftp.Lstat(at); err == nil && u.w.Clash == clashKeep && n < maxAnother {
			continue
		}
		if err := u.s.side.Record(u.event(at, nil)); err != nil {
			return "", err
		}
		err := move(u.part, at)
		if err == nil {
			return at, nil
		}
		err = u.s.fail(u.w.ctx, "write", at, err)
		u.s.side.Record(u.event(at, err))
		if failureOf(err).Code != codeExists || u.w.Clash != clashKeep || n == maxAnother {
			return "", err
		}
	}
}

// Read gives the library the next bytes of the file, and the person room for as many.
func (u *up) Read(p []byte) (int, error) {
	n, limit, err := u.w.inbox.take(u.w.ctx, p)
	if err != nil {
		return 0, err
	}
	u.hash.Write(p[:n])
	u.offset += int64(n)
	if limit-u.granted >= window/4 {
		u.granted = limit
		u.buf = appendCredit(u.buf[:0], u.w.ID, limit)
		if _, err := u.s.side.Write(u.buf); err != nil {
			return n, err
		}
	}
	return n, nil
}

// free is the room for a user's files, where the server says so.
func (s *server) free(dir string) (bytes int64, known bool) {
	if _, ok := s.sftp.HasExtension("statvfs@openssh.com"); !ok {
		return 0, false
	}
	v, err := s.sftp.StatVFS(dir)
	if err != nil || v.Frsize == 0 || v.Bavail > maxSize/v.Frsize {
		return 0, false
	}
	return int64(v.Bavail * v.Frsize), true
}

func (u *up) noSpace(free int64) error {
	return frame.Refuse(codeSpace, fmt.Sprintf("%s has %d MiB of room for %s, which needs %d MiB", u.s.o.Target, free>>20, frame.Clip(textOf(path.Base(u.to)), 200), (u.w.Size-u.offset)>>20+1),
		"make room there, or choose another folder")
}
