package host

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// A child is the worker as the parent sees it.
type child struct {
	channel
	cmd      *exec.Cmd
	requests chan request  // closed when the worker has said something that is no request; fault says what
	exited   chan struct{} // closed when the process has ended
	fault    error
	state    state // by its last answer
	wg       sync.WaitGroup
}

func (w *child) wait() {
	defer close(w.exited)
	w.cmd.Wait() // the status is in cmd.ProcessState
}

// read takes one request after the other; the next is not read before this one has been answered.
func (w *child) read() {
	buf := make([]byte, maxRequest)
	for {
		r, err := w.receiveRequest(buf)
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return // it has ended, or is about to; the latter if it has not read all that it was sent
		}
		if err != nil {
			w.fault = err
			close(w.requests)
			return
		}
		select {
		case w.requests <- r:
		case <-w.exited:
			r.update.close()
			return
		}
	}
}

func (w *child) receiveRequest(buf []byte) (request, error) {
	b, fds, err := w.receive(buf, 1) // more of them are an error
	if err != nil {
		return request{}, err
	}
	r, err := parseRequest(b)
	switch {
	case err == nil && r.Update != nil:
		r.update, err = takeUpdate(*r.Update, fds)
	case err == nil && len(fds) > 0:
		err = fmt.Errorf("%w: with a descriptor", errRequest)
	}
	if r.update == nil {
		closeAll(fds)
	}
	return r, err
}
