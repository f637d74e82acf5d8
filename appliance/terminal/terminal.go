// Package terminal is the program of that name: a shell on a target, for a person whose browser shows it.
//
//	gateway.Programs = map[string]appliance.Program{"terminal": terminal.Program{}}
//
// The appliance is the SSH client: it checks the target's host key, signs the person in, asks for a terminal and a shell.
// There is no forwarding of agents, ports or X11, and no environment but TERM and LANG.
//
// # Messages
//
// The flow is cut into messages (package message), of at most 256 KiB each. Person → appliance:
//
//	0  {"user": "ann", "auth": "certificate", "term": "xterm-256color", "cols": 80, "rows": 24, "key": "ssh-ed25519 …"}
//	                                the first message of the flow. auth is certificate, password or key; of one that joins a
//	                                session only cols and rows count
//	1  bytes                        of the keyboard
//	2  {"cols": 120, "rows": 40}    1 to 1000 each
//	3  {"answers": ["…"]}           to 2; see package sshlogin, as for 4
//	4  {"format": "…", "blob": "…"} to 3
//	5  bytes                        of a text that is pasted, as it is in the clipboard, in UTF-8; at most 4 MiB in all
//	6                               that was all of it: now it is typed, with brackets if the terminal is in that mode
//
// appliance → person:
//
//	0  {"state": "connecting", "banner": "…"}   while the person is signed in; the banner is the server's
//	   {"state": "open", "may": ["upload"]}     the shell runs, or the flow has joined it; may are the channels that policy allows
//	   {"state": "ended", "exit": 0}            it has ended; "signal": "KILL" in place of exit if by one. The flow ends after it
//	1  bytes                                    of output
//	2  {"name": "", "instruction": "", "questions": [{"text": "Password: ", "echo": false}]}
//	3  {"algorithm": "…", "data": "…"}
//	4  bytes                                    of output that went before, to a terminal that is reset
//	5  {"code": "E_DENIED", "sentence": "…", "hint": "…"}   something was left out; the session goes on
//
// # Joining
//
// A flow that joins takes the terminal over: the one before ends with E_SUPERSEDED. It gets what went before (4, as many
// messages as are needed), then state open, and what follows. That is 1 MiB at most; what was switched before (the alternate
// screen, the mouse, how arrows are told) is switched again at its beginning. Full-screen programs are made to paint again. What
// policy says of the clipboard is that of the flow that has the terminal.
package terminal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"

	"sallyport/appliance"
	"sallyport/appliance/audit"
	"sallyport/appliance/message"
	"sallyport/appliance/policy"
	"sallyport/appliance/sshlogin"
	"sallyport/frame"
)

// Name is what flows ask for the program by.
const Name = "terminal"

// MaxMessage is how long a message's body may be that comes from a person.
const MaxMessage = 256 << 10

// The kinds of messages beside those of sshlogin: from the person, and to them.
const (
	kindKeys, kindResize, kindPaste, kindPasted = 1, 2, 5, 6

	kindOutput, kindReplay, kindNotice = 1, 4, 5
)

const (
	maxOutput = 32 << 10 // of a message
	maxSize   = 1000     // columns or rows

	// How often a target may want to set the clipboard. Each time is written to the audit log, which it must not fill.
	copyEvery, copiesAtOnce = time.Second, 10

	// repaint is how long a window has another size for programs to see it: of two changes at once they would see none.
	repaint = 200 * time.Millisecond
)

// Program implements appliance.Program.
type Program struct {
	// Files serves a flow of the program FilesName that has joined a terminal's session, until it has ended. nil: none may.
	Files func(context.Context, *ssh.Client, *appliance.Side) error
}

// FilesName is the program whose flows may join a terminal.
const FilesName = "files"

// Protocol implements appliance.Program.
func (Program) Protocol() string { return policy.SSH }

// Joins implements appliance.Host.
func (p Program) Joins(program string) bool { return p.Files != nil && program == FilesName }

type size struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

func (s size) valid() bool {
	return s.Cols >= 1 && s.Cols <= maxSize && s.Rows >= 1 && s.Rows <= maxSize
}

// A shell is a session of the program.
type shell struct {
	program Program
	session *appliance.Session
	client  *ssh.Client
	ssh     *ssh.Session
	copies  *rate.Limiter
	input   io.WriteCloser
	output  io.Reader

	typing sync.Mutex // input is one stream

	mu      sync.Mutex
	filter  *filter
	history *history
	side    *appliance.Side // that has the terminal
	size    size

	taking sync.Mutex
	holder *appliance.Side // who takes the terminal, and has it once mu can be had
}

// Serve implements appliance.Program.
func (p Program) Serve(ctx context.Context, s *appliance.Session) error {
	side, err := s.Next(ctx)
	if err != nil {
		return err
	}
	link := sshlogin.Link{Side: side, Reader: message.NewReader(side, MaxMessage)}
	kind, body, err := link.Reader.Next()
	if err != nil || kind != sshlogin.KindStart {
		return frame.Refuse("E_USAGE", "the first message must be the start", "reload the page")
	}
	start, err := sshlogin.ParseStart(body)
	if err != nil {
		return err
	}
	t := &shell{program: p, session: s, side: side, holder: side, size: size{start.Cols, start.Rows}, history: newHistory(), copies: rate.NewLimiter(rate.Every(copyEvery), copiesAtOnce)}
	if !t.size.valid() {
		t.size = size{80, 24}
	}
	if t.client, err = t.signIn(ctx, link, start); err != nil {
		return err
	}
	defer t.client.Close()
	defer context.AfterFunc(ctx, func() { t.client.Close() })()
	if err := t.begin(start); err != nil {
		return err
	}
	if err := opened(side); err != nil {
		return err
	}
	s.Go(func() { t.listen(side, link.Reader) })
	ctx, stop := context.WithCancel(ctx)
	var welcoming sync.WaitGroup
	defer welcoming.Wait()
	defer stop()
	welcoming.Go(func() { t.welcome(ctx) })
	return t.run()
}

// signIn signs in, unless somebody joins meanwhile: then the page was loaded again, and nobody is there to answer.
func (t *shell) signIn(ctx context.Context, link sshlogin.Link, start sshlogin.Start) (*ssh.Client, error) {
	waiting, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if _, err := t.session.Next(waiting); err == nil {
			link.Side.End(errMoved)
		}
	})
	defer watching.Wait()
	defer stop()
	return sshlogin.Open(ctx, t.session, link, start)
}

var errMoved = frame.Refuse(frame.Superseded, "this session has moved to another tab", "go on there, or reload this page to have it back")

// begin asks for a terminal and a shell.
func (t *shell) begin(start sshlogin.Start) (err error) {
	if t.ssh, err = t.client.NewSession(); err != nil {
		return refusedBy(t.session.Target, "session", err)
	}
	if t.input, err = t.ssh.StdinPipe(); err != nil {
		return err
	}
	if t.output, err = t.ssh.StdoutPipe(); err != nil {
		return err
	}
	t.filter = newFilter(t.clipboardOut)
	term := start.Term
	if term == "" || len(term) > 32 || term != frame.Clip(term, 32) {
		term = "xterm-256color"
	}
	t.ssh.Setenv("LANG", "C.UTF-8") // which a server need not take
	if err := t.ssh.RequestPty(term, t.size.Rows, t.size.Cols, ssh.TerminalModes{}); err != nil {
		return refusedBy(t.session.Target, "terminal", err)
	}
	if err := t.ssh.Shell(); err != nil {
		return refusedBy(t.session.Target, "shell", err)
	}
	return nil
}

func refusedBy(target, what string, err error) error {
	return frame.Refuse("E_TARGET_RESET", fmt.Sprintf("%s gives no %s: %s", target, what, frame.Clip(err.Error(), 200)), "its sshd may limit that; an administrator must look")
}

// run passes the output on until the shell has ended.
func (t *shell) run() error {
	buf := make([]byte, maxOutput)
	for {
		n, err := t.output.Read(buf)
		if n > 0 {
			t.say(buf[:n])
		}
		if err != nil {
			break
		}
	}
	ended := map[string]any{"state": "ended"}
	var exit *ssh.ExitError
	switch err := t.ssh.Wait(); {
	case err == nil:
		ended["exit"] = 0
	case errors.As(err, &exit) && exit.Signal() != "":
		ended["signal"] = frame.Clip(exit.Signal(), 32)
	case errors.As(err, &exit):
		ended["exit"] = exit.ExitStatus()
	default:
		return frame.Refuse("E_TARGET_RESET", t.session.Target+" closed the connection", "connect again")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	state(t.side, ended)
	return nil
}

// say passes output on to who has the terminal, and waits as long as they do not take it.
func (t *shell) say(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.filter.pass(p)
	t.history.write(out, t.filter.marks)
	for len(out) > 0 {
		n := min(len(out), maxOutput)
		message.Write(t.side, kindOutput, out[:n]) // who has gone may come back, and has it from the history
		out = out[n:]
	}
}

// welcome gives the terminal to whoever joins, until ctx ends.
func (t *shell) welcome(ctx context.Context) {
	for {
		side, err := t.session.Next(ctx)
		if err != nil {
			return
		}
		t.session.Go(func() {
			if side.Program == FilesName {
				if err := t.program.Files(ctx, t.client, side); err != nil {
					side.End(err)
				}
				side.Close()
				return
			}
			t.takeOver(side)
		})
	}
}

// takeOver gives the terminal to a side that has joined.
func (t *shell) takeOver(side *appliance.Side) {
	r := message.NewReader(side, MaxMessage)
	kind, body, err := r.Next()
	var wanted size
	if err != nil || kind != sshlogin.KindStart || json.Unmarshal(body, &wanted) != nil {
		side.End(frame.Refuse("E_USAGE", "the first message must be the start", "reload the page"))
		return
	}
	t.taking.Lock()
	before := t.holder
	t.holder = side
	t.taking.Unlock()
	before.End(errMoved) // a write to whom may hold mu
	t.mu.Lock()
	if !t.holds(side) {
		t.mu.Unlock()
		return // somebody was faster
	}
	t.side = side
	for piece := range slices.Chunk(t.history.replay(t.filter.modes), maxOutput) {
		message.Write(side, kindReplay, piece)
	}
	opened(side)
	if wanted.valid() {
		t.size = wanted
	}
	now := t.size
	t.mu.Unlock()
	// A window that changes is what has programs paint again.
	t.ssh.WindowChange(max(1, now.Rows-1), now.Cols)
	select {
	case <-time.After(repaint):
	case <-side.Done():
	}
	t.ssh.WindowChange(now.Rows, now.Cols)
	t.listen(side, r)
}

func (t *shell) holds(side *appliance.Side) bool {
	t.taking.Lock()
	defer t.taking.Unlock()
	return t.holder == side
}

// listen does what the person says, until they have gone.
func (t *shell) listen(side *appliance.Side, r *message.Reader) {
	defer side.Close()
	var pasted []byte
	for {
		kind, body, err := r.Next()
		if err != nil {
			if errors.Is(err, message.ErrLength) {
				side.End(frame.Refuse("E_USAGE", fmt.Sprintf("a message has 1 to %d bytes", MaxMessage+1), "reload the page"))
			}
			return
		}
		switch kind {
		case kindKeys:
			err = t.write(body)
		case kindPaste:
			if len(pasted)+len(body) > maxPaste {
				side.End(errPaste)
				return
			}
			pasted = append(pasted, body...)
		case kindPasted:
			err = t.paste(side, pasted)
			pasted = nil
		case kindResize:
			t.resize(body)
		}
		if err != nil {
			return // run says why
		}
	}
}

// write types what belongs together.
func (t *shell) write(parts ...[]byte) error {
	t.typing.Lock()
	defer t.typing.Unlock()
	for _, p := range parts {
		if _, err := t.input.Write(p); err != nil {
			return err
		}
	}
	return nil
}

func (t *shell) resize(body []byte) {
	var wanted size
	if json.Unmarshal(body, &wanted) != nil || !wanted.valid() {
		return
	}
	t.mu.Lock()
	t.size = wanted
	t.mu.Unlock()
	t.ssh.WindowChange(wanted.Rows, wanted.Cols)
}

// clipboardOut says whether the target may set the clipboard to what it wants to. The caller holds mu.
func (t *shell) clipboardOut(content []byte) bool {
	if !t.copies.Allow() {
		return false
	}
	if err := clipboardEvent(t.side, policy.ClipboardOut, audit.ClipboardOut, content); err != nil {
		notice(t.side, err)
		return false
	}
	return true
}

// clipboardEvent decides about something on its way from or to a clipboard, and writes that.
func clipboardEvent(side *appliance.Side, channel, kind string, content []byte) error {
	sum := sha256.Sum256(content)
	e := audit.Event{Kind: kind, Detail: map[string]string{"size": strconv.Itoa(len(content)), "sha256": hex.EncodeToString(sum[:])}}
	if side.May(channel) {
		return side.Record(e)
	}
	refusal := frame.Refuse("E_DENIED", "policy keeps the clipboard out of this session: "+channel, "type it, or ask an administrator")
	e.Code, e.Why = string(refusal.Code), refusal.Sentence
	side.Record(e)
	return refusal
}

func opened(side *appliance.Side) error {
	return state(side, map[string]any{"state": "open", "may": side.Grant.Channels})
}

func state(side *appliance.Side, v map[string]any) error {
	return message.WriteJSON(side, sshlogin.KindState, v)
}

func notice(side *appliance.Side, why error) error {
	r, _ := frame.ReasonOf(why)
	return message.WriteJSON(side, kindNotice, map[string]any{"code": r.Code, "sentence": r.Sentence, "hint": r.Hint})
}
