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
	at := string(w.Path)
	f, info, err := s.openRegular(w.ctx, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &down{s: s, w: w, at: at, info: info, hash: sha256.New(), said: time.Now()}
	begun := time.Now()
	if err := d.carry(f); err != nil {
		err = s.fail(w.ctx, "read", at, err)
		why := failureOf(err)
		s.side.Record(audit.Event{Kind: audit.FileDownloaded, Object: textOf(at), Down: d.sent, Duration: time.Since(begun).Milliseconds(), Code: string(why.Code), Why: why.Sentence, Detail: d.detail()})
		return nil, err
	}
	sum := hex.EncodeToString(d.hash.Sum(nil))
	detail := d.detail()
	detail["sha256"] = sum
	if err := s.side.Record(audit.Event{Kind: audit.FileDownloaded, Object: textOf(at), Down: d.sent, Duration: time.Since(begun).Milliseconds(), Detail: detail}); err != nil {
		return nil, err
	}
	return struct {
		answer
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	}{answer{ID: w.ID}, d.offset, sum}, nil
}

// A down is a download, as what the file is written to: what the person has is hashed, and what they have not is sent too.
//
//	file → SFTP's pieces → message → side
type down struct {
	s    *server
	w    *work
	at   string
	info fs.FileInfo

	hash   hash.Hash
	offset int64 // of the file
	begun  bool  // the person knows that data comes
	sent   int64
	said   time.Time
	buf    []byte // of a message
}

func (d *down) detail() map[string]string {
	detail := map[string]string{"size": strconv.FormatInt(d.info.Size(), 10)}
	if d.w.From > 0 {
		detail["from"] = strconv.FormatInt(d.w.From, 10)
	}
	return detail
}

func (d *down) changed() error {
	return frame.Refuse(codeChanged, fmt.Sprintf("%s has changed since its download began", frame.Clip(textOf(path.Base(d.at)), 200)), "download it anew")
}

// carry brings the whole file, and makes sure that it was one and the same all the while.
func (d *down) carry(f *sftp.File) error {
	if d.w.From > d.info.Size() {
		return d.changed()
	}
	if _, err := f.WriteTo(d); err != nil {
		return err
	}
	if err := d.begin(); err != nil { // of an empty rest, or an empty file
		return err
	}
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if d.offset != d.info.Size() && d.info.Size() > 0 || now.Size() != d.info.Size() || !now.ModTime().Equal(d.info.ModTime()) {
		return d.changed()
	}
	return nil
}

// Write takes the next bytes of the file.
func (d *down) Write(p []byte) (int, error) {
	if err := d.w.ctx.Err(); err != nil {
		return 0, context.Cause(d.w.ctx)
	}
	// A file that says it is empty may be one of the kernel's, which knows its size when it has been read.
	if size := d.info.Size(); size > 0 && d.offset+int64(len(p)) > size {
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
		room, err := d.w.credit.wait(d.w.ctx, d.offset)
		if err != nil {
			return 0, err
		}
		n := int(min(room, int64(len(p)), maxData-dataHead))
		d.buf = appendData(d.buf[:0], d.w.ID, d.offset, p[:n])
		if _, err := d.s.side.Write(d.buf); err != nil {
			return 0, err
		}
		d.offset += int64(n)
		d.sent += int64(n)
		p = p[n:]
	}
	return written, nil
}

// begin says that data comes, once what the person has is known to be the beginning of the file.
func (d *down) begin() error {
	if d.begun {
		return nil
	}
	if d.w.From > 0 && (d.offset != d.w.From || !strings.EqualFold(hex.EncodeToString(d.hash.Sum(nil)), d.w.SHA256)) {
		return d.changed()
	}
	d.begun = true
	e := entryOf(path.Base(d.at), d.info)
	return d.s.send(kindRequest, struct {
		answer
		Entry entry `json:"entry"`
		From  int64 `json:"from"`
	}{answer{d.w.ID, true}, e, d.w.From})
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
