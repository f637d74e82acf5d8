package desktop

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/appliance/rdp"
	"sallyport/frame"
)

// A relay moves PDUs between the browser's client and the target, through a filter.
type relay struct {
	desk   *desk
	filter *rdp.Filter
	target io.Writer
	mu     sync.Mutex // of writes to the target
}

// relay relays until one of the two sides has ended, and calls shown once there is a desktop. It returns nil if the end was
// in order.
func (d *desk) relay(o outcome, begin start, shown func()) error {
	browser := o.credssp == policy.CredSSPBrowser
	profile := d.side.Grant.Desktop
	rules := rdp.Rules{
		Selected: o.confirm.Selected, BrowserCredSSP: browser, DisplayControl: profile.DisplayControl, AsIs: profile.AsIs,
		Width: begin.Width, Height: begin.Height, Domain: o.who.domain, User: o.who.name,
		Clipboard: rdp.Clipboard{In: d.side.May(policy.ClipboardIn), Out: d.side.May(policy.ClipboardOut), Passes: d.pasted},
	}
	if o.credssp == policy.CredSSPOff {
		rules.Password = o.who.password
	}
	rules.Autologon = o.who.password != nil && !profile.KeepDialog
	idle := newIdle(d.side.Grant.Idle, func() {
		d.end(frame.Refuse("E_IDLE", fmt.Sprintf("nobody has touched keyboard or mouse for %v", d.side.Grant.Idle), "connect again"))
	})
	defer idle.stop()
	d.clips = rate.NewLimiter(rate.Every(clipEvery), clipsAtOnce)
	r := &relay{desk: d, filter: rdp.NewFilter(rules, shown, idle.touch), target: o.conn}
	selected := uint32(rdp.TLS)
	if browser {
		selected = o.confirm.Selected
	}
	ended := make(chan error, 2)
	d.start(func() { ended <- r.run(true, rdp.NewFramer(d.client, selected, false)) })
	d.start(func() { ended <- r.run(false, rdp.NewFramer(o.conn, selected, true)) })
	return <-ended
}

// start runs one direction, which ends when the connection to the target and the side do.
func (d *desk) start(work func()) {
	d.relays.Add(1)
	d.session.Go(func() {
		defer d.relays.Done()
		work()
	})
}

// run moves one direction's PDUs until its end.
func (r *relay) run(client bool, frames *rdp.Framer) error {
	for {
		pdu, err := frames.Next()
		if err != nil {
			return r.ended(client, err)
		}
		on, back := [][]byte{pdu}, [][]byte(nil)
		if !frames.Authenticating() {
			if on, back, err = r.filter.Through(client, pdu); err != nil {
				return r.broken(client, err)
			}
		}
		for _, b := range on {
			err = errors.Join(err, r.send(!client, b))
		}
		for _, b := range back {
			err = errors.Join(err, r.send(client, b))
		}
		if err != nil {
			return r.ended(client, err)
		}
	}
}

// send sends a PDU to the client or the target.
func (r *relay) send(client bool, pdu []byte) error {
	if client {
		return r.desk.sink.message(kindPDU, pdu)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.target.Write(pdu)
	return err
}

// ended is why a direction is over: nil if one of the two sides has just gone, as most servers do.
func (r *relay) ended(client bool, err error) error {
	var no *rdp.FrameError
	switch {
	case errors.As(err, &no):
		return r.broken(client, err)
	case errors.Is(err, errMessage):
		return err
	}
	r.desk.session.Log.Debug("desktop's stream ended", "client", client, "cause", err)
	return nil
}

// broken is why nothing more passes after a PDU that does not parse.
func (r *relay) broken(client bool, err error) error {
	who := "the target"
	if client {
		who = "the browser"
	}
	r.desk.session.Log.Warn("desktop's stream does not parse", "client", client, "why", err)
	return frame.Refuse("E_PROTOCOL", fmt.Sprintf("%s sent something that the appliance does not let pass: %v", who, err), "connect again; if it happens again, tell the administrator")
}

// How often a text may pass from one clipboard to the other. Each time is written to the audit log, which a target must not fill.
const clipEvery, clipsAtOnce = 500 * time.Millisecond, 20

var errTooOften = errors.New("texts pass between the clipboards too often")

// pasted writes down that a text passes from one clipboard to the other, before it does.
func (d *desk) pasted(c rdp.Clip) error {
	if !d.clips.Allow() {
		return errTooOften
	}
	kind := audit.ClipboardOut
	if c.In {
		kind = audit.ClipboardIn
	}
	return d.side.Record(audit.Event{Kind: kind, Detail: map[string]string{"size": strconv.Itoa(c.Size), "sha256": hex.EncodeToString(c.SHA256[:])}})
}

// An idle calls its function when it has not been touched for a time. Without a time it never does.
type idle struct {
	limit time.Duration
	timer *time.Timer
}

func newIdle(limit time.Duration, over func()) *idle {
	i := &idle{limit: limit}
	if limit > 0 {
		i.timer = time.AfterFunc(limit, over)
	}
	return i
}

func (i *idle) touch() {
	if i.timer != nil {
		i.timer.Reset(i.limit)
	}
}

func (i *idle) stop() {
	if i.timer != nil {
		i.timer.Stop()
	}
}
