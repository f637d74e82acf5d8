package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// UpdateStatus asks which versions of the image the appliance has, for administrators, as all here.
func (a *API) UpdateStatus(ctx context.Context) (s api.Update, err error) {
	return s, a.call(ctx, http.MethodGet, "update", nil, &s)
}

// An Upload is a file on its way to the appliance.
type Upload struct {
	ID   string        // its SHA-256, in hex
	Size int64         // in bytes
	File io.ReaderAt   // it
	Told func(n int64) // is told how many bytes are there; may be nil
}

// uploadTries is how often in a row a piece is brought that does not get there. Between two tries the client has come back
// to the appliance, or has waited.
const uploadTries = 5

// Bring brings an update file to the appliance, and goes on where an earlier attempt has ended. The answer has what its
// header says. A refusal of the appliance's ends it, a lost connection does not.
func (a *API) Bring(ctx context.Context, u Upload) (got api.UpdateUpload, err error) {
	status, err := a.UpdateStatus(ctx)
	if err != nil {
		return got, err
	}
	offset := int64(0)
	if status.Upload != nil && status.Upload.ID == u.ID {
		offset = min(status.Upload.Received, u.Size)
	}
	// The last piece is brought again if all of it is there: the answer has what the header says.
	err = a.inPieces(ctx, u, offset, "update/upload", url.Values{"id": {u.ID}}, &got, func() int64 { return got.Received })
	return got, err
}

// inPieces brings a file from an offset on. Each piece's answer goes to got, of which received says how much is there.
func (a *API) inPieces(ctx context.Context, u Upload, offset int64, path string, q url.Values, got any, received func() int64) error {
	q.Set("size", strconv.FormatInt(u.Size, 10))
	for failed := 0; ; {
		b := make([]byte, min(api.MaxPiece, u.Size-offset))
		if _, err := u.File.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
			return frame.Refuse("E_USAGE", fmt.Sprintf("the file cannot be read: %v", err), "")
		}
		q.Set("offset", strconv.FormatInt(offset, 10))
		err := a.send(ctx, http.MethodPost, path+"?"+q.Encode(), bytes.NewReader(b), "application/octet-stream", got)
		var refused *frame.StreamError
		switch {
		case err == nil && received() == offset && offset < u.Size:
			return frame.Refuse(frame.Internal, "the appliance takes no more of the file", "")
		case err == nil:
			failed, offset = 0, received()
			if u.Told != nil {
				u.Told(offset)
			}
			if offset >= u.Size {
				return nil
			}
			continue
		case ctx.Err() != nil, errors.As(err, &refused) && refused.Remote && refused.Code != frame.Lost:
			return err
		}
		if failed++; failed == uploadTries {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(failed) * time.Second):
		}
	}
}

// InstallUpdate has the appliance verify an update file that is there, and try it at its next start.
func (a *API) InstallUpdate(ctx context.Context, id string) (next api.UpdateNext, err error) {
	return next, a.call(ctx, http.MethodPost, "update/install", api.InstallUpdate{ID: id}, &next)
}

// RollbackUpdate has the appliance's next start take the version before.
func (a *API) RollbackUpdate(ctx context.Context) (next api.UpdateNext, err error) {
	return next, a.call(ctx, http.MethodPost, "update/rollback", nil, &next)
}

// RestartAppliance has sessions end in order, and then the machine restart.
func (a *API) RestartAppliance(ctx context.Context) (r api.UpdateRestart, err error) {
	return r, a.call(ctx, http.MethodPost, "update/restart", nil, &r)
}
