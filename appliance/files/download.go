package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"sallyport/appliance/audit"
	"sallyport/frame"
)

// window is how far a transfer goes without being told that it may go on.
const window = 1 << 20

// A credit is how far a download may go.
type credit struct {
	mu     sync.Mutex
	limit  int64
	raised chan struct{} // has a token when it has been
}

func newCredit(limit int64) *credit { return &credit{limit: limit, raised: make(chan struct{}, 1)} }

func (c *credit) raise(limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > c.limit {
		c.limit = limit
		signal(c.raised)
	}
}

// wait waits until something may be sent from offset on, and says how much.
func (c *credit) wait(ctx context.Context, offset int64) (int64, error) {
	for {
		c.mu.Lock()
		room := c.limit - offset
		c.mu.Unlock()
		if room > 0 {
			return room, nil
		}
		select {
		case <-c.raised:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// openRegular opens a file to be read. Another kind is not opened: a pipe would hold the server up.
func (s *server) openRegular(ctx context.Context, at string) (*sftp.File, fs.FileInfo, error) {
	info, err := s.sftp.Stat(at)
	if err == nil && !info.Mode().IsRegular() {
		return nil, nil, frame.Refuse(codeKind, frame.Clip(textOf(path.Base(at)), 200)+" is no file with contents of its own", "only files are transferred; of a folder, what is in it")
	}
	if err != nil {
		return nil, nil, s.fail(ctx, "read", at, err)
	}
	f, err := s.sftp.Open(at)
	if err != nil {
		return nil, nil, s.fail(ctx, "read", at, err)
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, s.fail(ctx, "read", at, err)
	}
	return f, info, nil
}

func (s *server) download(w *work) (any, error) {
	f, info, err := s.openRegular(w.ctx, string(w.Path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := newDown(s, w, info)
	d.size = info.Size()
	d.detail["size"] = strconv.FormatInt(d.size, 10)
	return d.over(d.file(f, info))
}

// A down is a download, as what the file is written to: what the person has is hashed, and what they have not is sent too.
//
//	file → SFTP's pieces → held → message → side
type down struct {
	s    *server
	w    *work
	at   string
	info fs.FileInfo
	size int64 // as the target says; 0: it is not known

	started time.Time
	detail  map[string]string // of what is written down

	hash   hash.Hash // of all up to offset, and of what is held
	offset int64     // what the person has, or is on its way to them
	held   []byte    // what comes after that
	begun  bool      // the person knows that data comes
	sent   int64
	said   time.Time
	buf    []byte // of a message
}

// held is gathered up to gathered: a page deals with a few large messages sooner than with many small ones.
const gathered = 128 << 10

func newDown(s *server, w *work, info fs.FileInfo) *down {
	now := time.Now()
	d := &down{s: s, w: w, at: string(w.Path), info: info, hash: sha256.New(), started: now, said: now, detail: map[string]string{}}
	if w.From > 0 {
		d.detail["from"] = strconv.FormatInt(w.From, 10)
	}
	return d
}

// A downAnswer is the last of a download.
type downAnswer struct {
	answer
	Size    int64    `json:"size"`
	SHA256  string   `json:"sha256"`
	Omitted *omitted `json:"omitted,omitempty"`
}

// over writes down how the download has ended, and answers it.
func (d *down) over(err error) (any, error) {
	e := audit.Event{Kind: audit.FileDownloaded, Object: textOf(d.at), Down: d.sent, Duration: time.Since(d.started).Milliseconds(), Detail: d.detail}
	if err != nil {
		err = d.s.fail(d.w.ctx, "read", d.at, err)
		why := failureOf(err)
		e.Code, e.Why = string(why.Code), why.Sentence
		d.s.side.Record(e)
		return nil, err
	}
	sum := hex.EncodeToString(d.hash.Sum(nil))
	d.detail["sha256"] = sum
	if err := d.s.side.Record(e); err != nil {
		return nil, err
	}
	return downAnswer{answer: answer{ID: d.w.ID}, Size: d.offset, SHA256: sum}, nil
}

func (d *down) changed() error {
	return frame.Refuse(codeChanged, fmt.Sprintf("%s has changed since its download began", frame.Clip(textOf(path.Base(d.at)), 200)), "download it anew")
}

// file brings the whole file, and makes sure that it was one and the same all the while.
func (d *down) file(f *sftp.File, info fs.FileInfo) error {
	if d.w.From > d.size {
		return d.changed()
	}
	if _, err := f.WriteTo(d); err != nil {
		return err
	}
	if err := d.finish(); err != nil {
		return err
	}
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if d.offset != d.size && d.size > 0 || now.Size() != d.size || !now.ModTime().Equal(info.ModTime()) {
		return d.changed()
	}
	return nil
}

// Write takes the next bytes.
func (d *down) Write(p []byte) (int, error) {
	if err := d.w.ctx.Err(); err != nil {
		return 0, context.Cause(d.w.ctx)
	}
	// A file that says it is empty may be one of the kernel's, which knows its size when it has been read.
	if d.size > 0 && d.brought()+int64(len(p)) > d.size {
		return 0, d.changed()
	}
	written := len(p)
	if theirs := d.w.From - d.offset; theirs > 0 {
		n := min(theirs, int64(len(p)))
		d.hash.Write(p[:n])
		d.offset += n
		if p = p[n:]; time.Since(d.said) >= progressEvery {
			d.said = time.Now()
			d.s.progress(d.w.ID, d.offset, d.w.From)
		}
	}
	if d.offset < d.w.From {
		return written, nil
	}
	if err := d.begin(); err != nil {
		return 0, err
	}
	d.hash.Write(p)
	for len(p) > 0 {
		n := min(len(p), gathered-len(d.held))
		d.held = append(d.held, p[:n]...)
		if p = p[n:]; len(d.held) == gathered {
			if err := d.flush(); err != nil {
				return 0, err
			}
		}
	}
	return written, nil
}

// brought is how much there has been so far.
func (d *down) brought() int64 { return d.offset + int64(len(d.held)) }

// flush sends what is held, as credit allows.
func (d *down) flush() error {
	for rest := d.held; len(rest) > 0; {
		room, err := d.w.credit.wait(d.w.ctx, d.offset)
		if err != nil {
			return err
		}
		n := int(min(room, int64(len(rest))))
		d.buf = appendData(d.buf[:0], d.w.ID, d.offset, rest[:n])
		if _, err := d.s.side.Write(d.buf); err != nil {
			return err
		}
		d.offset += int64(n)
		d.sent += int64(n)
		rest = rest[n:]
	}
	d.held = d.held[:0]
	return nil
}

// finish sends the rest, which may be nothing: also of an empty file.
func (d *down) finish() error {
	if err := d.begin(); err != nil {
		return err
	}
	return d.flush()
}

// begin says that data comes, once what the person has is known to be how it begins.
func (d *down) begin() error {
	if d.begun {
		return nil
	}
	if d.w.From > 0 && (d.offset != d.w.From || !strings.EqualFold(hex.EncodeToString(d.hash.Sum(nil)), d.w.SHA256)) {
		return d.changed()
	}
	d.begun = true
	return d.s.send(kindRequest, struct {
		answer
		Entry entry `json:"entry"`
		From  int64 `json:"from"`
	}{answer{d.w.ID, true}, entryOf(path.Base(d.at), d.info), d.w.From})
}

// hashFile is the hash of a file's first bytes, for an upload that goes on after them.
func (s *server) hashFile(w *work, at string, size int64) (hash.Hash, error) {
	f, _, err := s.openRegular(w.ctx, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &prefix{s: s, w: w, hash: sha256.New(), left: size, size: size, said: time.Now()}
	if _, err := f.WriteTo(p); err != nil && !errors.Is(err, errEnough) {
		return nil, s.fail(w.ctx, "read", at, err)
	}
	if p.left > 0 {
		return nil, s.fail(w.ctx, "read", at, os.ErrNotExist)
	}
	return p.hash, nil
}

var errEnough = errors.New("the rest is not wanted")

// A prefix hashes the first bytes that are written to it.
type prefix struct {
	s          *server
	w          *work
	hash       hash.Hash
	left, size int64
	said       time.Time
}

func (p *prefix) Write(b []byte) (int, error) {
	if p.w.ctx.Err() != nil {
		return 0, context.Cause(p.w.ctx)
	}
	n := min(int64(len(b)), p.left)
	p.hash.Write(b[:n])
	if p.left -= n; n < int64(len(b)) {
		return int(n), errEnough
	}
	if time.Since(p.said) >= progressEvery {
		p.said = time.Now()
		p.s.progress(p.w.ID, p.size-p.left, p.size)
	}
	return len(b), nil
}
