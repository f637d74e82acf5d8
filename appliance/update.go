package appliance

import (
	"context"
	"encoding/hex"
	"io"
	"strconv"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/frame"
)

// Updates is the image that an appliance runs from, as the gateway needs it. Refusals are a frame.Reason's.
type Updates interface {
	Status(ctx context.Context) (api.Update, error)

	// Upload takes a piece of a file. Where the piece does not begin at what there is, nothing changes, and the answer
	// says what there is.
	Upload(ctx context.Context, id string, offset, size int64, piece io.Reader) (api.UpdateUpload, error)

	// Install verifies a file, and has the next start try it. The version is told also with an error, once it is known.
	Install(ctx context.Context, id string) (version string, err error)

	// Rollback has the next start take the version before.
	Rollback(ctx context.Context) (version string, err error)

	// Restart begins to end the daemon in order, and to restart the machine. It leaves time for an answer. Sessions have
	// the grace that it returns.
	Restart(ctx context.Context) (grace time.Duration, err error)
}

// updates is the image, or why there is none.
func (c call) updates() (Updates, error) {
	if c.gateway.Updates == nil {
		return nil, frame.Refuse("E_UPDATE_NONE", "this appliance does not run from the image", "update its package or its program, and restart its service")
	}
	return c.gateway.Updates, nil
}

func (c call) update() (any, error) {
	u, err := c.updates()
	if err != nil {
		return nil, err
	}
	return u.Status(c.Context())
}

func (c call) uploadUpdate() (any, error) {
	u, err := c.updates()
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	id := q.Get("id")
	offset, badOffset := strconv.ParseInt(q.Get("offset"), 10, 64)
	size, badSize := strconv.ParseInt(q.Get("size"), 10, 64)
	if !isHash(id) || badOffset != nil || badSize != nil || offset < 0 || size < 1 {
		return nil, frame.Refuse("E_USAGE", "a piece needs id, offset and size", "")
	}
	return u.Upload(c.Context(), id, offset, size, c.Body)
}

// isHash says whether text is a SHA-256 in hex.
func isHash(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == 32
}

func (c call) installUpdate(ask api.InstallUpdate) (any, error) {
	u, err := c.updates()
	if err != nil {
		return nil, err
	}
	if !isHash(ask.ID) {
		return nil, frame.Refuse("E_USAGE", "an update needs its id", "")
	}
	// Who goes away now does not leave it half done: it is installed, or it is not.
	return c.changeVersion(audit.UpdateInstalled, func(ctx context.Context) (string, error) { return u.Install(ctx, ask.ID) })
}

func (c call) rollbackUpdate() (any, error) {
	u, err := c.updates()
	if err != nil {
		return nil, err
	}
	return c.changeVersion(audit.UpdateRolledBack, u.Rollback)
}

// changeVersion changes what the next start takes, and writes whether it did.
func (c call) changeVersion(kind string, change func(context.Context) (string, error)) (any, error) {
	ctx := context.WithoutCancel(c.Context())
	now, err := c.gateway.Updates.Status(ctx)
	if err != nil {
		return nil, err
	}
	next, err := change(ctx)
	e := ofCaller(kind, c.peer)
	e.Object, e.Detail = next, map[string]string{"from": now.Version}
	if err != nil {
		reason := reasonOf(err)
		e.Code, e.Why = string(reason.Code), reason.Sentence
	}
	c.gateway.Log.Info(kind, "from", now.Version, "to", frame.Clip(next, 64), "by", c.peer.User, "cause", err)
	c.gateway.record(e)
	if err != nil {
		return nil, err
	}
	return api.UpdateNext{Version: now.Version, Next: next}, nil
}

func (c call) restart() (any, error) {
	u, err := c.updates()
	if err != nil {
		return nil, err
	}
	if err := c.gateway.demand(ofCaller(audit.UpdateRestart, c.peer)); err != nil {
		return nil, err
	}
	c.gateway.Log.Info("the machine restarts", "by", c.peer.User)
	grace, err := u.Restart(c.Context())
	if err != nil {
		return nil, err
	}
	return api.UpdateRestart{Sessions: c.gateway.live.count(), Grace: grace}, nil
}
