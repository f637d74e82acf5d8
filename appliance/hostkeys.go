package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/hostkey"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/relay"
)

// HostKeys are the SSH host keys that targets are known by for which the policy names none.
type HostKeys interface {
	Check(ctx context.Context, target string, key []byte) error
	Of(target string) []hostkey.Key
	List(target string) []hostkey.Key
	Offered(target string) (hostkey.Key, bool)
	Confirm(ctx context.Context, target, fingerprint, by string) error
	Forget(ctx context.Context, target string) error
}

// pinLimit is what a first key may wait for the database. Known keys are in memory.
const pinLimit = 2 * time.Second

// A keyWatch reads what an SSH server sends in the clear until its key has passed and the rest is encrypted.
type keyWatch struct {
	flow   *flow
	reader hostkey.Reader
}

// watchingKeys has the target's host key compared before the client can believe it.
func (f *flow) watchingKeys(c relay.Conn) relay.Conn {
	if g, ok := c.(*guard); ok && f.grant.Protocol == policy.SSH && (f.gateway.HostKeys != nil || f.fixed()) {
		g.keys = &keyWatch{flow: f}
	}
	return c
}

// passed reads what is about to pass. It returns itself, nil once there is nothing more to see, or why nothing may pass.
func (w *keyWatch) passed(p []byte) (*keyWatch, error) {
	key, done, err := w.reader.Feed(p)
	if key != nil {
		if no := w.flow.checkKey(key); no != nil {
			return nil, no
		}
	}
	switch {
	case err != nil && w.flow.known():
		return nil, w.flow.wrongIdentity(err, hostkey.MismatchError{Shown: "one that cannot be read"})
	case err != nil:
		w.flow.log(slog.LevelWarn, "host key not seen", "why", err)
		return nil, nil
	case done:
		return nil, nil
	}
	return w, nil
}

// fixed says whether the policy itself names the target's keys.
func (f *flow) fixed() bool { return len(f.grant.HostKeys)+len(f.grant.HostCA) > 0 }

// known says whether there is a key that the target must show: what shows none then is not the target.
func (f *flow) known() bool {
	return f.fixed() || len(f.gateway.HostKeys.List(f.pinName())) > 0
}

// pinName is what the target's keys are pinned under. An address may be another machine's in another VNet.
func (f *flow) pinName() string {
	if _, err := netip.ParseAddr(f.grant.Target); err == nil {
		return f.grant.VNet + "/" + f.grant.Target
	}
	return f.grant.Target
}

// checkKey returns why a flow may not go on with a server that shows this key.
func (f *flow) checkKey(key []byte) error {
	var err error
	if f.fixed() {
		err = hostkey.CheckFixed(f.grant.Target, key, f.grant.HostKeys, f.grant.HostCA)
	} else {
		ctx, cancel := context.WithTimeout(f.life, pinLimit)
		defer cancel()
		err = f.gateway.HostKeys.Check(ctx, f.pinName(), key)
	}
	var other *hostkey.MismatchError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		return f.wrongIdentity(err, *other)
	case errors.Is(err, hostkey.ErrUnread):
		return f.wrongIdentity(err, hostkey.MismatchError{Shown: "one that cannot be read"})
	case errors.Is(err, hostkey.ErrUnconfirmed):
		return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("nobody has confirmed the host key of %s yet, %s", f.grant.Target, hostkey.Fingerprint(key)),
			"ask an administrator to run: "+f.confirming(hostkey.Fingerprint(key)))
	}
	f.log(slog.LevelError, "host key not pinned", "cause", err)
	return frame.Refuse("E_CONTROL_DOWN", "the appliance cannot write down by which key it knows "+f.grant.Target, "try again in a moment; its log says more")
}

// wrongIdentity writes that a server is not the one it should be, and says so.
func (f *flow) wrongIdentity(why error, m hostkey.MismatchError) error {
	known := strings.Join(m.Known, " or ")
	f.recordIdentity(why, m)
	if known == "" {
		return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("%s does not show the host key that it is known by: %v", f.grant.Target, why),
			"nothing was sent to it; ask an administrator what has changed there")
	}
	hint := "nothing was sent to it; if the change is meant, an administrator runs: " + f.confirming(m.Shown)
	if f.fixed() {
		hint = "nothing was sent to it; if the change is meant, an administrator corrects host_keys in the access file"
	}
	return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("%s shows another host key than it is known by: %s, and not %s", f.grant.Target, m.Shown, known), hint)
}

func (f *flow) confirming(fingerprint string) string {
	return "sallyport admin hostkeys confirm " + f.pinName() + " " + fingerprint
}

// hostKeysOf are the keys that a target must show, for clients: those of the policy or else those that are pinned.
func (g *Gateway) hostKeysOf(t policy.Target) []string {
	if len(t.HostKeys)+len(t.HostCA) > 0 || g.HostKeys == nil {
		return t.HostKeys
	}
	var lines []string
	for _, k := range g.HostKeys.Of(t.Name) {
		lines = append(lines, k.Line())
	}
	return lines
}

func (c call) hostKeys() (any, error) {
	list := []api.HostKey{}
	if c.gateway.HostKeys == nil {
		return list, nil
	}
	of := func(k hostkey.Key, refused bool) api.HostKey {
		return api.HostKey{Target: k.Target, Fingerprint: k.Fingerprint(), Key: k.Line(), Seen: k.Seen.UTC(), Confirmed: k.Confirmed, By: k.By, Refused: refused}
	}
	offered := map[string]bool{}
	for _, k := range c.gateway.HostKeys.List(c.URL.Query().Get("target")) {
		list = append(list, of(k, false))
		if o, ok := c.gateway.HostKeys.Offered(k.Target); ok && !offered[k.Target] {
			offered[k.Target] = true
			list = append(list, of(o, true))
		}
	}
	return list, nil
}

func (c call) confirmHostKey(ask api.ConfirmHostKey) (any, error) {
	return nil, c.changeHostKeys(audit.HostKeyConfirmed, ask.Target, ask.Fingerprint, func() error {
		return c.gateway.HostKeys.Confirm(c.Context(), ask.Target, ask.Fingerprint, c.peer.User)
	})
}

func (c call) forgetHostKeys(ask api.ForgetHostKeys) (any, error) {
	return nil, c.changeHostKeys(audit.HostKeyForgotten, ask.Target, "", func() error { return c.gateway.HostKeys.Forget(c.Context(), ask.Target) })
}

// changeHostKeys writes what an administrator does to the keys of a target before it is done, for it lets others in.
func (c call) changeHostKeys(kind, target, fingerprint string, do func() error) error {
	if c.gateway.HostKeys == nil || len(c.gateway.HostKeys.List(target)) == 0 || target == "" {
		return unknownHostKey(target)
	}
	e := ofCaller(kind, c.peer)
	e.Target, e.Object, e.By = frame.Clip(target, 255), frame.Clip(fingerprint, 64), c.peer.User
	if err := c.gateway.demand(e); err != nil {
		return err
	}
	err := do()
	if errors.Is(err, hostkey.ErrUnknown) {
		return unknownHostKey(target)
	}
	if err == nil {
		c.gateway.Log.Info(kind, "target", frame.Clip(target, 255), "key", frame.Clip(fingerprint, 64), "by", c.peer.User)
	}
	return err
}

func unknownHostKey(target string) error {
	return frame.Refuse("E_HOST_KEY_UNKNOWN", fmt.Sprintf("there is no such host key of %q", frame.Clip(target, 64)), "sallyport admin hostkeys lists them")
}
