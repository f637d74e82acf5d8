package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// An update is a request about the image, and the file that came with it.
type update struct {
	updateRequest
	file *os.File // nil but for an install
}

// takeUpdate is what a request about the image asks for, with the descriptors that came with it. It owns those.
func takeUpdate(r updateRequest, fds []int) (*update, error) {
	if wanted := r.Do == updateInstall; wanted != (len(fds) == 1) {
		return nil, fmt.Errorf("%w: %d descriptors", errRequest, len(fds))
	}
	u := &update{updateRequest: r}
	if len(fds) == 1 {
		// Reading what is no plain file might never end, and some files do things when they are read.
		var s unix.Stat_t
		if err := unix.Fstat(fds[0], &s); err != nil || s.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, fmt.Errorf("%w: a descriptor of no plain file", errRequest)
		}
		u.file = os.NewFile(uintptr(fds[0]), "update")
	}
	return u, nil
}

func (u *update) close() {
	if u != nil && u.file != nil {
		u.file.Close()
	}
}

// update does what the worker asks about the image, one thing at a time, while the parent goes on.
func (s *supervisor) update(w *child, u *update) {
	if u.Do != updateStatus && !s.changes.Allow() {
		u.close()
		s.answerUpdate(w, updateAnswer{ID: u.ID, Error: &UpdateError{Code: "E_BUSY", Text: "the appliance was asked for too many changes of its image", Hint: "try again in a minute"}})
		return
	}
	select {
	case s.updating <- struct{}{}:
	default:
		u.close()
		s.answerUpdate(w, updateAnswer{ID: u.ID, Error: &UpdateError{Code: "E_BUSY", Text: "the appliance is busy with another update", Hint: "try again in a minute"}})
		return
	}
	s.updates.Go(func() {
		a := s.doUpdate(u)
		u.close()
		<-s.updating // before the answer: who has it may ask for the next thing at once
		s.answerUpdate(w, a)
	})
}

func (s *supervisor) doUpdate(u *update) updateAnswer {
	a := updateAnswer{ID: u.ID}
	err := func() (err error) {
		if s.Updater == nil {
			return &UpdateError{Code: CodeNoUpdates, Text: "this appliance does not run from the image", Hint: "update its package or its program, and restart its service"}
		}
		switch u.Do {
		case updateStatus:
			var status UpdateStatus
			status, err = s.Updater.Status()
			a.Status = &status
		case updateInstall:
			// Its own offset: the worker has the same file open.
			a.Version, err = s.Updater.Install(io.NewSectionReader(u.file, 0, 1<<62))
		case updateRollback:
			a.Version, err = s.Updater.Rollback()
		case updateRestart:
			s.Updater.Restart()
		}
		return err
	}()
	if err == nil {
		return a
	}
	var told *UpdateError
	if !errors.As(err, &told) {
		told = &UpdateError{Code: "E_INTERNAL", Text: err.Error()}
	}
	if told.Code != CodeNoUpdates {
		s.Log.Error("update", "task", u.Do, "cause", err)
	}
	cut := *told
	cut.Text = cut.Text[:min(len(cut.Text), maxReason)]
	return updateAnswer{ID: u.ID, Error: &cut}
}

// answerUpdate answers a worker that may have died since: the next one asks for the status.
func (s *supervisor) answerUpdate(w *child, a updateAnswer) {
	if err := w.send(message{Update: &a}); err != nil {
		s.Log.Warn("an answer about an update was not heard", "cause", err)
	}
}

// UpdateStatus asks which versions of the image there are. An *UpdateError says why there are none.
func (w *Worker) UpdateStatus(ctx context.Context) (UpdateStatus, error) {
	a, err := w.askUpdate(ctx, updateStatus)
	if err != nil || a.Status == nil {
		return UpdateStatus{}, err
	}
	return *a.Status, nil
}

// InstallUpdate has the parent install an update file, which stays the caller's, and returns its version. When ctx ends the
// parent goes on.
func (w *Worker) InstallUpdate(ctx context.Context, f *os.File) (version string, err error) {
	a, err := w.askUpdate(ctx, updateInstall, int(f.Fd()))
	return a.Version, err
}

// RollbackUpdate has the next start take the version before, and returns that.
func (w *Worker) RollbackUpdate(ctx context.Context) (version string, err error) {
	a, err := w.askUpdate(ctx, updateRollback)
	return a.Version, err
}

// Restart has the machine restarted: the worker is asked to drain before the answer comes, or soon after.
func (w *Worker) Restart(ctx context.Context) error {
	_, err := w.askUpdate(ctx, updateRestart)
	return err
}

func (w *Worker) askUpdate(ctx context.Context, do updateTask, fds ...int) (updateAnswer, error) {
	select {
	case w.updating <- struct{}{}: // the parent does one thing at a time
		defer func() { <-w.updating }()
	case <-ctx.Done():
		return updateAnswer{}, context.Cause(ctx)
	}
	w.mu.Lock()
	if w.gone != nil {
		defer w.mu.Unlock()
		return updateAnswer{}, w.gone
	}
	w.lastID++
	id, answer := w.lastID, make(chan updateAnswer, 1)
	w.updates[id] = answer
	err := w.send(request{Update: &updateRequest{ID: id, Do: do}}, fds...)
	w.mu.Unlock()
	if err != nil {
		return updateAnswer{}, err
	}
	select {
	case a, ok := <-answer:
		if !ok {
			w.mu.Lock()
			defer w.mu.Unlock()
			return updateAnswer{}, w.gone
		}
		if a.Error != nil {
			return updateAnswer{}, a.Error
		}
		return a, nil
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.updates, id)
		return updateAnswer{}, context.Cause(ctx)
	}
}

// updated gives an answer to who has asked.
func (w *Worker) updated(a updateAnswer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answer := w.updates[a.ID]; answer != nil {
		delete(w.updates, a.ID)
		answer <- a
	}
}
