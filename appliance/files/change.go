package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"sallyport/appliance/audit"
	"sallyport/frame"
)

// posixRename takes the place of what is there; the rename of SFTP 3 fails if something is.
const posixRename = "posix-rename@openssh.com"

// record writes down what is about to be done, or how it ended.
func (s *server) record(kind, on string, detail map[string]string) error {
	return s.side.Record(audit.Event{Kind: kind, Object: textOf(on), Detail: detail})
}

// failed writes down that what was recorded has come to nothing, or not to its end.
func (s *server) failed(kind, on string, err error, detail map[string]string) error {
	why := failureOf(err)
	s.side.Record(audit.Event{Kind: kind, Object: textOf(on), Detail: detail, Code: string(why.Code), Why: why.Sentence})
	return err
}

func (s *server) mkdir(w *work) (any, error) {
	at := string(w.Path)
	if w.Existing {
		if info, err := s.sftp.Stat(at); err == nil && info.IsDir() {
			return answer{ID: w.ID}, nil
		}
	}
	if err := s.record(audit.FolderMade, at, nil); err != nil {
		return nil, err
	}
	err := s.sftp.Mkdir(at)
	if err == nil {
		return answer{ID: w.ID}, nil
	}
	if info, there := s.sftp.Lstat(at); there == nil {
		if err = exists(at); w.Existing && info.IsDir() {
			return answer{ID: w.ID}, nil // somebody was quicker
		}
	}
	return nil, s.failed(audit.FolderMade, at, s.fail(w.ctx, "make", at, err), nil)
}

func exists(at string) error {
	return frame.Refuse(codeExists, fmt.Sprintf("there is a %s already", frame.Clip(textOf(path.Base(at)), 200)), "replace it, or choose another name")
}

func (s *server) rename(w *work) (any, error) {
	from, to := string(w.Path), string(w.To)
	detail := map[string]string{"to": textOf(to)}
	if w.Replace {
		detail["replace"] = "true"
	}
	if from == "/" {
		return nil, frame.Refuse("E_NAME", "/ has no other name", "")
	}
	if _, err := s.sftp.Lstat(from); err != nil {
		return nil, s.fail(w.ctx, "rename", from, err)
	}
	if err := s.record(audit.FileRenamed, from, detail); err != nil {
		return nil, err
	}
	move := s.renameNew
	if w.Replace {
		move = s.renameOver
	}
	if err := move(from, to); err != nil {
		return nil, s.failed(audit.FileRenamed, from, s.fail(w.ctx, "rename", from, err), detail)
	}
	return answer{ID: w.ID}, nil
}

// renameNew renames unless there is something of the name. The server sees to it, without a moment in between.
func (s *server) renameNew(from, to string) error {
	err := s.sftp.Rename(from, to)
	if err == nil || errors.Is(err, os.ErrPermission) {
		return err
	}
	if _, there := s.sftp.Lstat(to); there == nil {
		return exists(to)
	}
	return err
}

// renameOver renames, and takes the place of a file or a link. Where the server cannot do it at once the name is free for a
// moment, and who takes it then keeps it.
func (s *server) renameOver(from, to string) error {
	if info, err := s.sftp.Lstat(to); err == nil && kindOf(info.Mode()) != kindFile && kindOf(info.Mode()) != kindLink {
		return notReplaced(to, info)
	}
	if _, ok := s.sftp.HasExtension(posixRename); ok {
		return s.sftp.PosixRename(from, to)
	}
	if err := s.sftp.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.renameNew(from, to)
}

func notReplaced(to string, info fs.FileInfo) error {
	what := "a folder"
	if !info.IsDir() {
		what = "a device, a socket or a pipe"
	}
	return frame.Refuse(codeKind, fmt.Sprintf("%s is %s, which a file does not replace", frame.Clip(textOf(path.Base(to)), 200), what), "choose another name")
}

// How a folder is removed with all that is in it.
const (
	maxDepth      = 128
	removesAtOnce = 8
	progressEvery = 250 * time.Millisecond
)

func (s *server) remove(w *work) (any, error) {
	at := string(w.Path)
	if at == "/" {
		return nil, frame.Refuse("E_NAME", "/ cannot be removed", "")
	}
	info, err := s.sftp.Lstat(at)
	if err != nil {
		return nil, s.fail(w.ctx, "remove", at, err)
	}
	var detail map[string]string
	if w.Recursive && info.IsDir() {
		detail = map[string]string{"recursive": "true"}
	}
	if err := s.record(audit.FileRemoved, at, detail); err != nil {
		return nil, err
	}
	r := removal{s: s, w: w, said: time.Now()}
	switch {
	case !info.IsDir():
		err = r.one(at)
	case w.Recursive:
		err = r.folder(at, 0)
	default:
		err = s.sftp.RemoveDirectory(at)
		if rest, _, listed := s.readDir(w.ctx, at); err != nil && listed == nil && len(rest) > 0 {
			err = frame.Refuse(codeExists, frame.Clip(textOf(path.Base(at)), 200)+" is not empty", "remove it with all that is in it")
		}
	}
	if err != nil {
		if detail != nil {
			detail["removed"] = strconv.FormatInt(r.gone.Load(), 10)
		}
		return nil, s.failed(audit.FileRemoved, at, s.fail(w.ctx, "remove", at, err), detail)
	}
	return answer{ID: w.ID}, nil
}

// A removal takes a tree away, from its leaves on.
type removal struct {
	s    *server
	w    *work
	gone atomic.Int64

	mu   sync.Mutex
	said time.Time // when progress was, last
}

// one removes what is no folder.
func (r *removal) one(at string) error {
	err := r.s.sftp.Remove(at)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return r.s.fail(r.w.ctx, "remove", at, err)
	}
	r.count()
	return nil
}

func (r *removal) count() {
	gone := r.gone.Add(1)
	r.mu.Lock()
	now := time.Now()
	due := now.Sub(r.said) >= progressEvery
	if due {
		r.said = now
	}
	r.mu.Unlock()
	if due {
		r.s.progress(r.w.ID, gone, 0)
	}
}

// folder removes a folder and what is in it. One that is too large to be listed at once is listed again.
func (r *removal) folder(at string, depth int) error {
	if depth >= maxDepth {
		return frame.Refuse("E_LIMIT", fmt.Sprintf("the folders in it are more than %d deep", maxDepth), "remove it in the terminal")
	}
	for {
		all, truncated, err := r.s.readDir(r.w.ctx, at)
		if err != nil {
			return r.s.fail(r.w.ctx, "list", at, err)
		}
		if err := r.files(at, all); err != nil {
			return err
		}
		for _, info := range all {
			if info.IsDir() {
				if err := r.folder(path.Join(at, info.Name()), depth+1); err != nil {
					return err
				}
			}
		}
		if !truncated {
			break
		}
	}
	if err := r.s.sftp.RemoveDirectory(at); err != nil {
		return r.s.fail(r.w.ctx, "remove", at, err)
	}
	r.count()
	return nil
}

// files removes those of the entries that are no folders, some at once. The first that stays is why.
func (r *removal) files(at string, all []fs.FileInfo) error {
	ctx, stop := context.WithCancelCause(r.w.ctx)
	defer stop(nil)
	names := make(chan string)
	var removers sync.WaitGroup
	for range min(removesAtOnce, len(all)) {
		removers.Add(1)
		r.s.o.Go(func() {
			defer removers.Done()
			for name := range names {
				if err := r.one(path.Join(at, name)); err != nil {
					stop(err)
				}
			}
		})
	}
	for _, info := range all {
		if info.IsDir() || ctx.Err() != nil {
			continue
		}
		names <- info.Name()
	}
	close(names)
	removers.Wait()
	return context.Cause(ctx)
}

// rights are the permissions and the owner of the file that an upload replaces; ok is false if it replaces none.
func (s *server) rights(at string) (mode fs.FileMode, uid, gid uint32, ok bool) {
	info, err := s.sftp.Lstat(at)
	if err != nil || !info.Mode().IsRegular() {
		return 0, 0, 0, false
	}
	st, ok := info.Sys().(*sftp.FileStat)
	if !ok {
		return 0, 0, 0, false
	}
	return info.Mode().Perm(), st.UID, st.GID, true
}
