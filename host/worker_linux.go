package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Worker is what the parent has given to this process.
type Worker struct {
	channel
	wg      sync.WaitGroup
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	changed chan struct{}
	asks    chan uint64 // questions whether it lives; the parent asks one at a time

	updating chan struct{} // holds one while the parent is asked about the image

	mu      sync.Mutex
	state   string
	sockets map[string]int
	links   map[string]*Link
	files   map[string]file
	asked   map[uint64]chan error        // Relinks that wait, by id
	updates map[uint64]chan updateAnswer // what was asked about the image, by id
	lastID  uint64
	gone    error // why there are no more messages
	life    state
	test    func(context.Context) error // while it serves

	// What has arrived since the last plan or change; only the reader touches it.
	newSockets map[string]int
	newLinks   map[string]*Link
	newFiles   map[string]file
}

type file struct {
	content []byte
	folder  bool
	err     error
}

// A Link is a VNet's attachment. The files are the caller's to close; each carries whole frames.
type Link struct {
	VNet      string
	Kind      Kind
	Interface string
	Queues    []*os.File       // non-blocking, a 10-byte virtio-net header before each frame; one but for packet
	DHCP      *os.File         // if planned: replies of DHCP servers, no header before the frame
	MAC       net.HardwareAddr // that our stack is to use
	MTU       int
	Notes     []string // what the NIC could not do; worth a line in the log

	err error // why there are no files
}

// ErrNotPlanned is what the worker gets for a name that the plan does not have.
var ErrNotPlanned = errors.New("not in the plan")

// Join makes this process the worker of the parent that has started it, and returns when everything planned has arrived.
// It ends the process's right to core dumps and tracing, makes files that it creates private, and gives up the system calls
// that a worker has no use for; no other program can be run from then on.
func Join() (*Worker, error) {
	signal.Ignore(syscall.SIGHUP) // the parent's: it announces the change
	c, err := openChannel(channelFD)
	if err != nil {
		return nil, fmt.Errorf("not started by a parent: %w", err)
	}
	if err := Confine(); err != nil { // before anything is read
		c.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Worker{
		channel: c, ctx: ctx, stop: stop, changed: make(chan struct{}, 1), asks: make(chan uint64, 1), asked: map[uint64]chan error{}, life: starting,
		updates: map[uint64]chan updateAnswer{}, updating: make(chan struct{}, 1),
		sockets: map[string]int{}, links: map[string]*Link{}, files: map[string]file{},
	}
	first := make(chan error, 1)
	w.asked[0] = first
	w.unstage()
	w.wg.Go(w.read)
	w.wg.Go(w.answer)
	if err := <-first; err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Confine takes from this process what Join takes from a worker.
func Confine() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("dumpable: %w", err)
	}
	unix.Umask(0o077)
	return restrict()
}

// Close leaves the parent. Listeners, connections and links that have been asked for stay open.
func (w *Worker) Close() error {
	w.stop()
	err := w.channel.Close()
	w.wg.Wait()
	for _, fd := range w.sockets {
		unix.Close(fd)
	}
	clear(w.sockets)
	return err
}

// State is the directory that the worker may write to, if the plan has one.
func (w *Worker) State() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Listener returns a planned TCP socket. Closing it leaves the parent's open: connections wait for the next.
func (w *Worker) Listener(name string) (net.Listener, error) {
	f, err := w.socket(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// PacketConn returns a planned UDP socket, with large buffers.
func (w *Worker) PacketConn(name string) (*net.UDPConn, error) {
	f, err := w.socket(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err == nil {
		if u, ok := c.(*net.UDPConn); ok {
			return u, nil
		}
		c.Close()
	}
	return nil, fmt.Errorf("listen %s: not a UDP socket", name)
}

// socket duplicates a socket. The one in the map stays out of the poller, which every packet would wake a second time.
func (w *Worker) socket(name string) (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fd, ok := w.sockets[name]
	if !ok {
		return nil, fmt.Errorf("listen %s: %w", name, ErrNotPlanned)
	}
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Link returns a VNet's attachment: the same one until a Relink has brought another.
func (w *Worker) Link(vnet string) (*Link, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.links[vnet]
	if l == nil {
		return nil, fmt.Errorf("link %s: %w", vnet, ErrNotPlanned)
	}
	return l, l.err
}

// File returns the content of a planned file, as it was last announced.
func (w *Worker) File(path string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.files[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotPlanned}
	}
	return f.content, f.err
}

// Files returns the content of a planned file, under the last part of its path, or of the files that count in a planned
// folder, by their names.
func (w *Worker) Files(path string) (map[string][]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.files[path]
	switch {
	case !ok:
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotPlanned}
	case f.err != nil || !f.folder:
		return map[string][]byte{filepath.Base(path): f.content}, f.err
	}
	files := map[string][]byte{}
	return files, json.Unmarshal(f.content, &files)
}

// Changed delivers when files have changed or somebody asked for a reload; several changes may arrive as one.
func (w *Worker) Changed() <-chan struct{} { return w.changed }

// Relink asks the parent to compute its plan again. When it has returned nil, listeners, links and files are those of the
// new plan; links that the plan still has are kept, but for the named VNets, which get fresh ones. An error changes nothing.
func (w *Worker) Relink(ctx context.Context, afresh ...string) error {
	w.mu.Lock()
	if w.gone != nil {
		defer w.mu.Unlock()
		return w.gone
	}
	w.lastID++
	id, answer := w.lastID, make(chan error, 1)
	w.asked[id] = answer
	err := w.send(request{Relink: id, Afresh: afresh})
	w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("relink: %w", err)
	}
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("relink: %w", err)
	}
	return nil
}

// read takes what the parent sends until it is gone or sends what makes no sense.
func (w *Worker) read() {
	buf := make([]byte, maxMessage)
	for {
		err := w.take(buf)
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the parent is gone")
		}
		w.mu.Lock()
		w.gone = err
		for id, answer := range w.asked {
			answer <- err
			delete(w.asked, id)
		}
		for id, answer := range w.updates {
			close(answer)
			delete(w.updates, id)
		}
		w.mu.Unlock()
		w.discard()
		return
	}
}

// take receives one message.
func (w *Worker) take(buf []byte) error {
	b, fds, err := w.receive(buf, maxDescriptors)
	if err != nil {
		return err
	}
	var m message
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err = d.Decode(&m); err == nil {
		err = w.apply(m, fds)
	}
	if err != nil {
		closeAll(fds)
		return fmt.Errorf("message from the parent: %w", err)
	}
	return nil
}

var errDescriptors = errors.New("wrong number of descriptors")

// apply takes the descriptors over unless it returns an error.
func (w *Worker) apply(m message, fds []int) error {
	switch {
	case m.Listener != nil && len(fds) == 1:
		w.newSockets[m.Listener.Name] = fds[0]
	case m.Link != nil && (len(fds) > 0) == (m.Link.Error == ""):
		w.newLinks[m.Link.VNet] = newLink(*m.Link, fds)
	case m.File != nil && len(fds) <= 1:
		w.newFiles[m.File.Path] = readHanded(*m.File, fds)
	case m.Plan != nil && len(fds) == 0:
		w.commit(*m.Plan)
	case m.Changed && len(fds) == 0:
		w.mu.Lock()
		w.commitFiles()
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default: // one is waiting already
		}
	case m.Update != nil && len(fds) == 0:
		w.updated(*m.Update)
	case m.Ask != 0 && len(fds) == 0:
		select {
		case w.asks <- m.Ask:
		default: // the parent asks again only after an answer
		}
	default:
		return errDescriptors
	}
	return nil
}

func newLink(i linkInfo, fds []int) *Link {
	l := &Link{VNet: i.VNet, Kind: i.Kind, Interface: i.Interface, MAC: i.MAC, MTU: i.MTU, Notes: i.Notes}
	if i.Error != "" {
		l.err = errors.New(i.Error)
	}
	if last := len(fds) - 1; i.DHCP && last >= 0 {
		l.DHCP = os.NewFile(uintptr(fds[last]), i.Interface+" dhcp")
		fds = fds[:last]
	}
	for _, fd := range fds {
		l.Queues = append(l.Queues, os.NewFile(uintptr(fd), i.Interface))
	}
	return l
}

// readHanded reads a file's content out of the memfd that came with it.
func readHanded(i fileInfo, fds []int) file {
	if len(fds) == 0 {
		return file{err: &fs.PathError{Op: "open", Path: i.Path, Err: syscall.Errno(i.Errno)}}
	}
	f := os.NewFile(uintptr(fds[0]), i.Path)
	defer f.Close()
	content, err := io.ReadAll(io.NewSectionReader(f, 0, maxFile)) // the offset is shared with the parent
	return file{content, i.Folder, err}
}

// commit makes what has arrived what is there, and answers who has asked for it.
func (w *Worker) commit(p planInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answer := w.asked[p.ID]; answer != nil {
		delete(w.asked, p.ID)
		defer func() {
			if p.Error != "" {
				answer <- errors.New(p.Error)
			} else {
				answer <- nil
			}
		}()
	}
	if p.Error != "" {
		return // nothing was sent
	}
	w.state = p.State
	for name, fd := range w.newSockets {
		if old, ok := w.sockets[name]; ok {
			unix.Close(old)
		}
		w.sockets[name] = fd
	}
	for vnet, l := range w.newLinks {
		w.links[vnet] = l
	}
	w.commitFiles()
	w.unstage()
	for name, fd := range w.sockets {
		if !slices.Contains(p.Listen, name) {
			unix.Close(fd)
			delete(w.sockets, name)
		}
	}
	for vnet := range w.links {
		if !slices.Contains(p.Links, vnet) {
			delete(w.links, vnet)
		}
	}
	for path := range w.files {
		if !slices.Contains(p.Files, path) {
			delete(w.files, path)
		}
	}
}

func (w *Worker) commitFiles() {
	for path, f := range w.newFiles {
		w.files[path] = f
	}
	w.newFiles = map[string]file{}
}

func (w *Worker) unstage() {
	w.newSockets, w.newLinks, w.newFiles = map[string]int{}, map[string]*Link{}, map[string]file{}
}

// discard closes what had arrived and never became valid.
func (w *Worker) discard() {
	for _, fd := range w.newSockets {
		unix.Close(fd)
	}
	for _, l := range w.newLinks {
		for _, f := range append(l.Queues, l.DHCP) {
			if f != nil {
				f.Close()
			}
		}
	}
}
