package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/pkg/sftp"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// How much is under way at once.
const (
	maxRequests  = 16
	maxTransfers = 4
)

// A server serves one side.
type server struct {
	ctx   context.Context
	side  Side
	o     Options
	sftp  *sftp.Client
	names *nameMeter
	over  chan struct{} // closed when SFTP has ended

	listing   sync.Mutex    // names are metered for one at a time
	archiving chan struct{} // has room for one: an archive holds the list of what is in it
	workers   sync.WaitGroup

	mu        sync.Mutex
	work      map[uint32]*work
	transfers int
}

// A work is a request that is under way.
type work struct {
	request
	ctx    context.Context
	cancel context.CancelCauseFunc
	credit *credit // of a download or an archive
	inbox  *inbox  // of an upload
}

// take acts on a message. An error ends the flow.
func (s *server) take(m input) error {
	if m.kind == kindRequest {
		return s.begin(m.request)
	}
	s.mu.Lock()
	w := s.work[m.id]
	s.mu.Unlock()
	switch {
	case w == nil: // it was answered while this was on its way
		return nil
	case m.kind == kindCancel:
		if w.inbox != nil {
			w.inbox.discard(!m.keep)
		}
		w.cancel(errCancelled)
	case m.kind == kindCredit && w.credit != nil:
		w.credit.raise(m.offset)
	case m.kind == kindData && w.inbox != nil:
		return w.inbox.put(m.offset, m.bytes)
	default:
		return errMessage("kind %d for %q", m.kind, frame.Clip(w.Op, 16))
	}
	return nil
}

// begin answers a request, or has it worked on.
func (s *server) begin(r request) error {
	s.mu.Lock()
	_, taken := s.work[r.ID]
	busy := len(s.work) >= maxRequests || r.transfer() && s.transfers >= maxTransfers
	s.mu.Unlock()
	if taken {
		return errMessage("the id %d is in use", r.ID)
	}
	if err := s.check(r); err != nil {
		return s.refuse(r.ID, err)
	}
	if busy {
		return s.refuse(r.ID, frame.Refuse("E_LIMIT", fmt.Sprintf("%d requests are under way at most, %d of them transfers", maxRequests, maxTransfers), "wait until one of them is over"))
	}
	if r.transfer() && !s.o.Transfers.enter(s.o.Who) {
		return s.refuse(r.ID, frame.Refuse("E_LIMIT", fmt.Sprintf("you have %d transfers under way, which is the limit", maxOfPerson), "wait until one of them is over, in this tab or another"))
	}
	w := &work{request: r}
	w.ctx, w.cancel = context.WithCancelCause(s.ctx)
	switch r.Op {
	case "download", "archive":
		w.credit = newCredit(r.From + window)
	case "upload":
		w.inbox = newInbox(r.Size)
	}
	s.mu.Lock()
	s.work[r.ID] = w
	if r.transfer() {
		s.transfers++
	}
	s.mu.Unlock()
	s.workers.Add(1)
	s.o.Go(func() { s.run(w) })
	return nil
}

func (r request) transfer() bool { return r.Op == "download" || r.Op == "archive" || r.Op == "upload" }

// check says why a request is not begun with: what policy denies, what is no path.
func (s *server) check(r request) error {
	needs := policy.Upload
	switch r.Op {
	case "list", "stat":
		needs = ""
	case "download", "archive":
		needs = policy.Download
	case "mkdir", "rename", "remove", "upload":
	default:
		return frame.Refuse("E_USAGE", fmt.Sprintf("there is no request %q about files", frame.Clip(r.Op, 16)), "page and appliance may be of different versions; reload the page")
	}
	if err := checkPath(r.Path); err != nil {
		return err
	}
	if needs != "" && !s.side.May(needs) {
		no := frame.Refuse(policy.CodeDenied, fmt.Sprintf("policy does not let you %s %s %s", verbs[needs], ends[needs], s.o.Target), "ask an administrator for the right to "+needs)
		return s.failed(events[r.Op], string(r.Path), no, nil)
	}
	made := r.Path
	switch r.Op {
	case "rename":
		if err := checkPath(r.To); err != nil {
			return err
		}
		made = r.To
	case "mkdir":
	case "upload":
		if err := r.checkUpload(); err != nil {
			return err
		}
	case "download", "archive":
		return r.checkDownload()
	default:
		return nil
	}
	return checkNew(made)
}

// events are what requests are written down as.
var events = map[string]string{"mkdir": audit.FolderMade, "rename": audit.FileRenamed, "remove": audit.FileRemoved, "upload": audit.FileUploaded, "download": audit.FileDownloaded, "archive": audit.FileDownloaded}

var (
	verbs = map[string]string{policy.Upload: "send files", policy.Download: "fetch files"}
	ends  = map[string]string{policy.Upload: "to, or change them on,", policy.Download: "from"}
)

// maxSize is the most that a file may have: what JavaScript counts exactly.
const maxSize = 1 << 53

func (r request) checkUpload() error {
	switch {
	case r.Size < 0 || r.Size > maxSize || r.Modified < 0 || r.Modified > maxSize:
		return frame.Refuse("E_USAGE", "an upload has a size and a time", "reload the page")
	case r.Clash != clashRefuse && r.Clash != clashReplace && r.Clash != clashKeep:
		return frame.Refuse("E_USAGE", "an upload says what is done if there is something of its name already", "reload the page")
	}
	return nil
}

func (r request) checkDownload() error {
	sum, err := hex.DecodeString(r.SHA256)
	if r.From < 0 || r.From > maxSize || r.From > 0 && (err != nil || len(sum) != sha256.Size) {
		return frame.Refuse("E_USAGE", "a download that goes on says where, and the hash of what is there", "reload the page")
	}
	return nil
}

// run works on a request and answers it.
func (s *server) run(w *work) {
	defer s.workers.Done()
	answer, err := s.do(w)
	s.mu.Lock()
	delete(s.work, w.ID)
	if w.transfer() {
		s.transfers--
		s.o.Transfers.leave(s.o.Who)
	}
	s.mu.Unlock()
	w.cancel(nil)
	if err != nil {
		s.refuse(w.ID, err)
		return
	}
	s.send(kindRequest, answer)
}

// do is the whole of a request. What it returns is the last answer.
func (s *server) do(w *work) (any, error) {
	switch w.Op {
	case "list":
		return s.list(w)
	case "stat":
		return s.stat(w)
	case "mkdir":
		return s.mkdir(w)
	case "rename":
		return s.rename(w)
	case "remove":
		return s.remove(w)
	case "download":
		return s.download(w)
	case "archive":
		return s.archive(w)
	}
	return s.upload(w)
}

// An answer is what all of them have.
type answer struct {
	ID   uint32 `json:"id"`
	More bool   `json:"more,omitempty"`
}

func (s *server) refuse(id uint32, err error) error {
	return s.send(kindRequest, struct {
		answer
		Error failure `json:"error"`
	}{answer{ID: id}, failureOf(err)})
}

// progress says how far a long request is.
func (s *server) progress(id uint32, done, of int64) error {
	return s.send(kindProgress, struct {
		ID   uint32 `json:"id"`
		Done int64  `json:"done"`
		Of   int64  `json:"of,omitempty"`
	}{id, done, of})
}

// send writes a message in JSON to the person, and waits until it has a place.
func (s *server) send(kind byte, v any) error {
	b, err := appendJSON(nil, kind, v)
	if err != nil {
		return err
	}
	_, err = s.side.Write(b)
	return err
}
