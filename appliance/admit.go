package appliance

import (
	"context"
	"errors"
	"strings"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/token"
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
	fresh := false
	if err == nil {
		fresh, err = g.checkToken(h, p)
	}
	var standing auth.Standing
	if err == nil {
		standing, err = g.standing(device.ID)
	}
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
	w = &frame.Welcome{
		Time: time.Now().UnixMilli(), Name: g.Name, Notice: strings.TrimSpace(g.Banner + " " + g.policy.Load().MOTD()), User: device.User, Device: device.ID, Flows: uint16(min(limits.FlowsPerUser, 1<<16-1)),
	}
	if !fresh {
		g.addToken(w, device, standing)
	}
	return w, nil
}

// addToken gives a device that has signed in a token for its next connections. Without one it connects all the same.
func (g *Gateway) addToken(w *frame.Welcome, d auth.Device, standing auth.Standing) {
	if g.Tokens == nil || standing.SignIn == "" {
		return
	}
	text, err := g.Tokens.Sign(token.Claims{User: d.User, SignIn: standing.SignIn, MFA: standing.MFA}, d.Key)
	if err != nil {
		g.Log.Warn("no access token", "user", d.User, "device", d.ID, "cause", err)
		return
	}
	w.Token = []byte(text)
}

// checkToken refuses a token that is not this device's. One that has expired says no more than none. Fresh is one that
// will do for half of its life yet.
func (g *Gateway) checkToken(h *frame.Hello, p *frame.Peer) (fresh bool, err error) {
	if len(h.Token) == 0 || g.Tokens == nil {
		return false, nil
	}
	c, err := g.Tokens.Verify(string(h.Token), h.Device)
	if err == nil || errors.Is(err, token.ErrExpired) {
		return time.Until(c.Expires) > c.Expires.Sub(c.Issued)/2, nil
	}
	var detail *token.Detail
	if errors.As(err, &detail) {
		g.Log.Warn("access token refused", "source", p.Remote.Addr(), "device", auth.DeviceID(h.Device), "why", detail.Reason)
	}
	return false, err
}

func (g *Gateway) device(h *frame.Hello, p *frame.Peer) (auth.Device, error) {
	if h.Code == "" {
		device, err := g.Devices.Device(h.Device)
		if err == nil && h.User != "" && h.User != device.User {
			return device, auth.ErrUnknownDevice
		}
		return device, err
	}
	return g.Enrol(auth.Enrolment{Code: h.Code, User: h.User, Key: h.Device, Name: frame.Clip(h.Name, 64), Platform: platform(p.Software), Source: p.Remote.Addr()}, *p)
}

// Enrol turns a code into a device of who asks, and writes that down.
func (g *Gateway) Enrol(e auth.Enrolment, p frame.Peer) (auth.Device, error) {
	if err := g.Locks.Check(e.User, auth.DeviceID(e.Key), ""); err != nil {
		return auth.Device{}, err // with a code that is still good
	}
	device, err := g.Devices.Enrol(e)
	if err == nil {
		g.Log.Info("device enrolled", "user", device.User, "device", device.ID, "name", device.Name,
			"source", p.Remote.Addr(), "transport", p.Transport)
		told := ofCaller(audit.DeviceEnrolled, p)
		told.User, told.Device, told.Object = device.User, device.ID, device.Name
		told.Detail = describe(device.Scope)
		err = g.demand(told)
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
