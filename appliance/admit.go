package appliance

import (
	"context"
	"strings"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// Admit decides about a HELLO whose proof is good: its device is enrolled, or comes with a code that enrols it.
func (g *Gateway) Admit(_ context.Context, h *frame.Hello, p *frame.Peer) (w *frame.Welcome, err error) {
	defer func() {
		if v := recover(); v != nil {
			w, err = nil, &frame.SessionError{Reason: g.caught(v, ofPeer(*p)...).reason()}
		}
	}()
	device, err := g.device(h, p)
	if err == nil {
		err = g.Locks.Check(device.User, device.ID, "")
	}
	if err != nil {
		reason := reasonOf(err)
		g.turnedAway(*p, auth.DeviceID(h.Device), reason)
		g.Metrics.signIn(p.Transport, string(reason.Code))
		g.Log.Info("sign-in refused", "source", p.Remote.Addr(), "transport", p.Transport, "device", auth.DeviceID(h.Device),
			"cause", string(reason.Code))
		return nil, &frame.SessionError{Reason: reason}
	}
	p.User, p.Device, p.Key = device.User, device.ID, [32]byte(h.Device)
	g.cameIn(*p)
	g.Metrics.signIn(p.Transport, "ok")
	g.Devices.Touch(device.ID, p.Remote.Addr(), p.Software)
	limits := g.Limits.withDefaults()
	return &frame.Welcome{
		Time: time.Now().UnixMilli(), Name: g.Name, Notice: g.Banner, User: device.User, Device: device.ID, Flows: uint16(min(limits.FlowsPerUser, 1<<16-1)),
	}, nil
}

func (g *Gateway) device(h *frame.Hello, p *frame.Peer) (auth.Device, error) {
	if h.Code == "" {
		device, err := g.Devices.Device(h.Device)
		if err == nil && h.User != "" && h.User != device.User {
			return device, auth.ErrUnknownDevice
		}
		return device, err
	}
	if err := g.Locks.Check(h.User, auth.DeviceID(h.Device), ""); err != nil {
		return auth.Device{}, err // with a code that is still good
	}
	device, err := g.Devices.Enrol(auth.Enrolment{
		Code: h.Code, User: h.User, Key: h.Device, Name: frame.Clip(h.Name, 64), Platform: platform(p.Software), Source: p.Remote.Addr(),
	})
	if err == nil {
		g.Log.Info("device enrolled", "user", device.User, "device", device.ID, "name", device.Name,
			"source", p.Remote.Addr(), "transport", p.Transport)
		e := ofCaller(audit.DeviceEnrolled, *p)
		e.User, e.Device, e.Object = device.User, device.ID, device.Name
		err = g.demand(e)
	}
	return device, err
}

// platform is the last word of what a client says it is: "sallyport 0.1.0 linux/amd64".
func platform(software string) string {
	words := strings.Fields(software)
	if len(words) == 0 || !strings.Contains(words[len(words)-1], "/") {
		return ""
	}
	return words[len(words)-1]
}
