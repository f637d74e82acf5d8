// Package files shows a person the files of a target and carries them, over SFTP on an SSH connection that somebody has signed
// on.
//
//	err := files.Serve(ctx, client, side, files.Options{Target: "db-1"})
//
// # Messages
//
// Each is a length of four bytes, big-endian, and as many bytes, of which the first is the kind. The kinds begin at 16: those
// below belong to signing on. A flow begins with the start of that (kind 0; {} if it joins a session that has signed on), which
// whoever calls Serve has read; the person says nothing more until ready has come. Numbers in messages that are not JSON are
// big-endian.
//
// From the person, 65,536 bytes at most with the kind; of data 262,144:
//
//	16 request  JSON, see below
//	17 data     id (4), offset (8), bytes: of an upload, in order, 256 KiB - 13 at most
//	18 credit   id (4), limit (8): a download may go on up to this offset of the file
//	19 cancel   id (4), keep (1): 1 leaves what an upload has brought, to be gone on with; 0 removes it
//
// To the person, 262,144 bytes at most:
//
//	16 answer   JSON: id, and what was asked for, or error
//	17 data     id (4), offset (8), bytes: of a download, in order
//	18 credit   id (4), limit (8): an upload may go on up to this offset of the file
//	19 progress JSON: id, and how far a long request is: done, of
//	20 ready    JSON, the first of all: home {path, text}, upload, download: true where policy grants them
//
// An id is chosen by the person, and is free again when its request has been answered for good. An answer with "more": true is
// not the last one. A person who sends something else than this loses the flow with E_FRAME, or E_CREDIT for data beyond the
// limit; what comes late for an id that is free is passed over.
//
// # Names
//
// A name on a target is bytes. Where one goes over the wire it is base64 (the standard one, padded), and beside it stands
// "text": the same for eyes, in which bytes that are not UTF-8, control characters and what changes the direction of text are
// written as escapes (\x1b, \u202e). A path is absolute: / and names with / between, 4,096 bytes at most, each name 1 to
// 255 bytes, none of them . or .., no NUL. A name that is new to the target (upload, mkdir, the "to" of rename) must be
// UTF-8 without control characters and overrides of direction; one that is there can always be listed, fetched, renamed
// and removed.
//
// # Requests
//
// Each has "id" and "op". 16 are under way at once at most, 4 of them transfers; one more is answered with E_LIMIT. Any of
// them can be cancelled, and is then answered with E_CANCELLED, unless it is over already.
//
//	list      path                             entries [entry], 500 at most an answer, more; truncated: true if there are
//	                                           more than 100,000 (or 16 MiB of names), which are not listed
//	stat      path                             entry; real {path, text}: where it leads
//	mkdir     path, existing                   existing: true is content with a folder that is there
//	rename    path, to, replace                replace: true takes the place of a file that is there
//	remove    path, recursive                  recursive: true removes folders with all that is in them, 128 deep at most;
//	                                           progress says how many are gone. Links are removed, and never followed
//	download  path, from, sha256               entry, from, more; data; then size, sha256
//	archive   path, from, sha256               the same, of a folder; omitted {count, first}
//	upload    path, size, modified, clash      offset, sha256, more; data and credit; then path, text, size, sha256
//
// mkdir, rename, remove and upload need the right to upload, download and archive need that to download. An entry:
//
//	name, text    the last name of its path
//	kind          "file", "folder", "link", "other" (devices, sockets, pipes: these are not transferred)
//	size          bytes, of a file
//	mode          as ls writes it: "-rw-r--r--"
//	modified      milliseconds since 1970
//	link          {path, text} of a symbolic link: what it says; kind, size and mode are then those of what is there, and
//	              kind is "link" if that is nothing, or if it is not known, as in a list after the first 2,000 links
//
// # Download
//
// Only files are fetched, also where a link leads to one. Data begins at "from", which is 0 or how much the person has
// already; then "sha256" is the hash of that, in hexadecimal, and E_FILE_CHANGED is the answer if the file does not begin so.
// Until there is credit, 1 MiB is sent. The last answer's hash is that of the whole file. If size or time have changed
// meanwhile it is E_FILE_CHANGED, and what has come is worth nothing.
//
// An archive is a folder with all that is in it as one ZIP file, which is made while it is sent: "from" and credit are offsets
// of that. As long as nothing in the folder changes it is the same, so it can be gone on with. Names in it are those for eyes,
// without what a system would take for something else than a name; of two that would be the same the second is another. Links,
// devices, sockets and pipes are left out, and what this account may not read: "omitted" says how many there were, and one of
// them. There are 50,000 files and folders in it at most, with 8 MiB of names, 128 deep. One archive is made at a time; another
// waits.
//
// # Upload
//
// The bytes go to a file of their own beside the place, NAME.part-XXXXXXXX, which is named by who sends, size and modified:
// the same upload finds it again, on another flow too, and ends the one that is under way there with E_SUPERSEDED. It is
// renamed when it is whole, so nobody sees half a file at the path. The first answer says how much of it is there, and its
// hash; the first data message says where the person begins: at that offset, if their file begins so, or at 0. It may be empty,
// and the end is reached with the byte number "size", so an upload with nothing to send has one empty message. 1 MiB from there
// may be sent at once; credit goes up as that is passed on.
//
// clash says what is done if there is something of the name: "refuse" answers E_FILE_EXISTS, before anything is sent and
// once more at the end, if it has come meanwhile (the bytes stay, and the same upload with another clash finds them);
// "replace" takes the place of a file or a link, at once, and keeps its permissions; "keep" finds another name, such as
// "a (2).txt", which the last answer has. None of them removes by accident what somebody else has written meanwhile: refuse and
// keep use a rename that fails if the name is taken. modified becomes the file's time, in whole seconds as SFTP has it.
//
// # Errors
//
// error is {code, sentence, hint}, of which hint may be missing:
//
//	E_FILE_UNKNOWN  there is no such file       E_FILE_EXISTS   there is one already
//	E_FILE_ACCESS   the target does not allow   E_FILE_SPACE    there is no room for it
//	E_FILE_KIND     it is something else        E_FILE_CHANGED  it has changed meanwhile
//	E_NAME          the path is none            E_FILE          the target could not do it
//	E_DENIED        policy does not grant it    E_LIMIT         too much at once
//	E_CANCELLED     the person did not want it  E_AUDIT         it could not be written down
//	E_USAGE         the request is none
//
// # Memory
//
// A transfer holds 4 MiB at most: 1 MiB of the person's bytes and 1 MiB under way to the target, or 1 MiB under way from it
// twice; an archive 32 MiB more if it is as large as one may be, for the list at its end. A person has 16 transfers at most, on
// all of their sides. One who does not read holds up their own.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A Side is the person's end. An appliance.Side is one. A Write from several goroutines at once is whole messages.
type Side interface {
	io.ReadWriteCloser
	End(why error)                  // ends it at once, and says why
	May(channel string) bool        // whether policy allows a channel
	Record(event audit.Event) error // writes to the audit log what the person does
}

// Options are what Serve knows of whom it serves. The zero value means the default.
type Options struct {
	Target    string       // the name that is said in sentences; default "the target"
	Who       string       // whose transfers are counted, and their uploads told apart from others'
	Transfers *Transfers   // of all sides; default: of this one alone
	Go        func(func()) // starts a part of the work; default: a goroutine
}

func (o Options) withDefaults() Options {
	if o.Target == "" {
		o.Target = "the target"
	}
	if o.Transfers == nil {
		o.Transfers = new(Transfers)
	}
	if o.Go == nil {
		o.Go = func(f func()) { go f() }
	}
	return o
}

// Transfers are those that are under way on all sides: no two uploads write to the same place, and nobody has more than
// maxOfPerson, however many tabs they open. The zero value is none.
type Transfers struct {
	mu      sync.Mutex
	uploads map[string]*claim // by place
	of      map[string]int    // by person
}

// A claim is an upload's to the place that it writes to.
type claim struct {
	part string // of which file it is
	give context.CancelCauseFunc
	over chan struct{} // closed when it has been given up
}

// maxOfPerson is how many transfers a person has at once, which may hold 64 MiB.
const maxOfPerson = 16

// enter counts a transfer of somebody's in, or says that it is one too many.
func (t *Transfers) enter(who string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[who] >= maxOfPerson {
		return false
	}
	if t.of == nil {
		t.of = map[string]int{}
	}
	t.of[who]++
	return true
}

func (t *Transfers) leave(who string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[who]--; t.of[who] == 0 {
		delete(t.of, who)
	}
}

// claim takes a place to write to, until what it returns is called. Where the same file is on its way there already, that gives
// the place up first: somebody has loaded their page again and chosen the file once more, while the appliance holds what the page
// of before had open. Another file does not take the place.
func (t *Transfers) claim(w *work, place, part string) (release func(), err error) {
	mine := &claim{part, w.cancel, make(chan struct{})}
	for late := time.After(lastWords); ; {
		t.mu.Lock()
		other := t.uploads[place]
		if other == nil {
			if t.uploads == nil {
				t.uploads = map[string]*claim{}
			}
			t.uploads[place] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.uploads, place)
				close(mine.over)
			}, nil
		}
		t.mu.Unlock()
		taken := frame.Refuse("E_LIMIT", frame.Clip(textOf(path.Base(string(w.Path))), 200)+" is on its way already", "wait until that upload is over, or cancel it")
		if other.part != part {
			return nil, taken
		}
		other.give(errElsewhere)
		select {
		case <-other.over:
		case <-late: // its person or its target takes nothing
			return nil, taken
		case <-w.ctx.Done():
			return nil, reasonOf(context.Cause(w.ctx))
		}
	}
}

var errElsewhere = frame.Refuse(frame.Superseded, "this upload goes on in another tab", "look at it there, or have it here again")

// pieces is how many pieces of a transfer, each of 32 KiB, are under way to or from the target at once. That is the memory
// it takes: 1 MiB, and as much again for what is being passed on. It fills 50 MB/s at 20 ms.
const pieces = 32

// lastWords is how long requests have, once their person has gone, to leave things as they are known to be. A target that does
// not answer them loses its channel then.
const lastWords = 5 * time.Second

// Serve serves the files of a target to a person's side, over an SSH connection that somebody has signed on. It returns when
// the side has ended, in order (nil) or not, or ctx has; then the side has been told why. It waits for the target to
// have ended its channel, so whoever ends ctx has the connection closed.
func Serve(ctx context.Context, client *ssh.Client, side Side, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{ctx: ctx, side: side, o: o.withDefaults(), archiving: make(chan struct{}, 1), work: map[uint32]*work{}}
	stop := context.AfterFunc(ctx, func() { side.End(context.Cause(ctx)) })
	err := s.serve(client, cancel)
	if stop() {
		if err == nil {
			side.Close()
		} else {
			side.End(err)
		}
	} else {
		err = context.Cause(ctx)
	}
	cancel(errGone)
	if s.sftp != nil {
		defer time.AfterFunc(lastWords, func() { s.sftp.Close() }).Stop()
	}
	s.workers.Wait()
	if s.sftp != nil {
		s.sftp.Close()
		<-s.over
	}
	return err
}

var errGone = errors.New("the side has gone")

func (s *server) serve(client *ssh.Client, cancel context.CancelCauseFunc) error {
	if err := s.open(client); err != nil {
		return err
	}
	s.over = make(chan struct{})
	s.o.Go(func() {
		defer close(s.over)
		s.sftp.Wait()
		cancel(frame.Refuse("E_TARGET_RESET", s.o.Target+" has ended the transfer of files", "connect again; what was on its way can be gone on with"))
	})
	if err := s.ready(); err != nil {
		return err
	}
	for {
		m, err := readMessage(s.side)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.take(m); err != nil {
			return err
		}
	}
}

// open begins SFTP in a channel of its own.
func (s *server) open(client *ssh.Client) error {
	channel, err := client.NewSession()
	if err != nil {
		return frame.Refuse("E_REFUSED", fmt.Sprintf("%s opens no channel for files: %v", s.o.Target, err), "close another tab on this connection, or connect again")
	}
	in, err := channel.StdinPipe()
	if err != nil {
		return err
	}
	out, err := channel.StdoutPipe()
	if err != nil {
		return err
	}
	refused := frame.Refuse("E_REFUSED", s.o.Target+" does not serve files over SFTP", "an administrator of the target can switch the sftp subsystem of its SSH server on")
	if err := channel.RequestSubsystem("sftp"); err != nil {
		channel.Close()
		return refused
	}
	s.names = &nameMeter{r: out}
	s.sftp, err = sftp.NewClientPipe(s.names, channelWriter{in, channel}, sftp.UseFstat(true), sftp.MaxConcurrentRequestsPerFile(pieces))
	if err != nil {
		return refused
	}
	return nil
}

// ready says what there is.
func (s *server) ready() error {
	home, err := s.sftp.RealPath(".")
	if err != nil || checkPath([]byte(home)) != nil {
		home = "/"
	}
	return s.send(kindReady, struct {
		Home     place `json:"home"`
		Upload   bool  `json:"upload"`
		Download bool  `json:"download"`
	}{placeOf(home), s.side.May(policy.Upload), s.side.May(policy.Download)})
}
