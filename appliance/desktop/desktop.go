// Package desktop is the program by which the appliance brings a target's desktop into a browser.
//
//	gateway.Programs = map[string]appliance.Program{"desktop": &desktop.Program{}}
//
// # Messages
//
// A flow is a stream of messages in both directions: a length of 4 bytes, the most significant first, and that many
// bytes, of which the first is the kind.
//
//	person → appliance
//	0  JSON, once and first: {"user", "domain", "password", "width", "height", "credssp"}
//	1  bytes of the browser's client: an RDCleanPath request, then RDP, cut in any way
//
//	appliance → person
//	0  JSON: {"state": "connecting" | "open" | "ended", with connecting: "certificate", "first", and with open: "credssp", "clipboard_in",
//	   "clipboard_out", "resize"}
//	1  one PDU for the browser's client, never a part and never two: the RDCleanPath answer, then RDP
//	2  JSON, why there is no desktop or no longer: {"code", "sentence", "hint"}
//
// The first message is at most 16 KiB long, and so is the RDCleanPath request; of messages of RDP the length does not
// matter up to 16 MiB, for they are not held. What the appliance sends is at most 64 KiB and a few bytes long.
//
// The order is: the person's 0, then their 1 with the RDCleanPath request; the appliance's 0 connecting, and once more when the
// target has shown its certificate, with that ("sha256:…") and whether it is the first that was seen there; then either the
// RDCleanPath answer and 0 open, with who did CredSSP ("appliance", "browser" or "off", in a TLS connection without), whether the
// clipboard may be used in either direction, and whether the client may ask for another size (its display control, which a
// page may always offer); or an RDCleanPath error, 2 and 0 ended. After 0 ended nothing follows, and the flow ends.
//
// # Passwords
//
// A password is used to log on, and kept for as long as the session lives: in memory, sealed, with the key elsewhere. So a
// flow that joins the session (a tab that was loaded again, or whose window has another size) leaves "password" out,
// and "user" and "domain" too, and gets the same desktop. The client in the browser needs no user and no password: it
// is told that the target wants TLS only, and what it says of the user is replaced. With "credssp": "browser" it is the
// other way around: the appliance is given no password to log on by, keeps none, and CredSSP passes through it; the target
// must then do that. The client repeats the password where RDP has a place for it, in its Client Info, which the filter has
// in memory while it takes the password out of it.
//
// # One desktop a session
//
// The flow that joined last has the desktop. The others end with E_SUPERSEDED.
//
// # Idle
//
// A desktop's picture moves by itself. What counts as use is the person's keyboard and mouse.
package desktop

import (
	"context"
	"errors"
	"time"

	"sallyport/appliance"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A Program is the program. It keeps nothing but its limits.
type Program struct {
	Handshake time.Duration // ends a flow that has no desktop yet; default 30 seconds
}

// Protocol implements appliance.Program.
func (p *Program) Protocol() string { return policy.RDP }

var errSuperseded = frame.Refuse("E_SUPERSEDED", "the desktop has been opened elsewhere", "one window at a time has it; connect again to have it here")

// Serve implements appliance.Program.
func (p *Program) Serve(ctx context.Context, s *appliance.Session) error {
	keep := new(vault)
	defer keep.wipe()
	far := s.Far // for the first; the others dial
	end, ended := func(error) {}, make(chan struct{})
	close(ended)
	defer func() { <-ended }()
	for {
		side, err := s.Next(ctx)
		if err != nil {
			end(err)
			return err
		}
		end(errSuperseded)
		<-ended
		d := &desk{program: p, session: s, side: side, keep: keep, far: far}
		far = nil
		one, cancel := context.WithCancelCause(ctx)
		end = func(why error) {
			if errors.Is(why, errSuperseded) {
				side.End(why) // at once: it may be a window that nobody looks at any more, and what waits for it to read goes on
			}
			cancel(why)
		}
		ended = make(chan struct{})
		done := ended
		s.Go(func() {
			defer close(done)
			d.run(one)
		})
	}
}

// run has a desktop on a side until it ends, and tells the person why.
func (d *desk) run(ctx context.Context) {
	ctx, d.end = context.WithCancelCause(ctx)
	defer d.end(nil)
	stop := context.AfterFunc(ctx, func() { d.finish(context.Cause(ctx)) })
	err := d.serve(ctx)
	stop()
	d.finish(err)
	d.relays.Wait()
}

// finish ends what is under way, and tells the person why, if something is wrong. The first reason counts.
func (d *desk) finish(why error) {
	d.finished.Do(func() {
		d.close()
		select {
		case <-d.side.Done(): // nobody is there to be told
			return
		default:
		}
		if errors.Is(why, errSuperseded) {
			return // who was told that
		}
		if why != nil {
			d.refuse(why)
		}
		d.say(stateMessage{State: "ended"})
		d.side.Close()
	})
}
