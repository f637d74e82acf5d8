package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"

	"sallyport/frame"
)

// Codes of answers. They are the person's page's, and on no wire but this.
const (
	codeUnknown   frame.Code = "E_FILE_UNKNOWN"
	codeExists    frame.Code = "E_FILE_EXISTS"
	codeAccess    frame.Code = "E_FILE_ACCESS"
	codeSpace     frame.Code = "E_FILE_SPACE"
	codeKind      frame.Code = "E_FILE_KIND"
	codeChanged   frame.Code = "E_FILE_CHANGED"
	codeOther     frame.Code = "E_FILE"
	codeCancelled frame.Code = "E_CANCELLED"
)

var errCancelled = frame.Refuse(codeCancelled, "this was cancelled", "")

// fail is err as the reason that a person is told: what was done to a path did not go well.
func (s *server) fail(ctx context.Context, did, on string, err error) error {
	var known *frame.StreamError
	var status *sftp.StatusError
	text := frame.Clip(textOf(path.Base(on)), 200)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return reasonOf(context.Cause(ctx))
	case errors.Is(err, os.ErrNotExist):
		return frame.Refuse(codeUnknown, "there is no "+text+" on "+s.o.Target, "load the folder again")
	case errors.Is(err, os.ErrPermission):
		return frame.Refuse(codeAccess, fmt.Sprintf("%s does not allow this account to %s %s", s.o.Target, did, text), "choose another folder, or sign on as somebody who may")
	case errors.Is(err, sftp.ErrSSHFxConnectionLost):
		return frame.Refuse("E_TARGET_RESET", "the connection to "+s.o.Target+" is gone", "connect again; what was on its way can be gone on with")
	case errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxOpUnsupported:
		return frame.Refuse(codeOther, fmt.Sprintf("%s cannot %s a file by SFTP", s.o.Target, did), "do it in the terminal")
	case errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxBadMessage:
		return frame.Refuse("E_NAME", fmt.Sprintf("%s does not take the name %s", s.o.Target, text), "choose a shorter or a simpler one")
	case errors.As(err, &status):
		return frame.Refuse(codeOther, fmt.Sprintf("%s could not %s %s, and says no more", s.o.Target, did, text), "its disk may be full, a quota reached, the file system read-only, or the folder in use")
	}
	return frame.Refuse(codeOther, frame.Clip(fmt.Sprintf("%s could not %s %s: %v", s.o.Target, did, text, err), 400), "try again")
}

// reasonOf is why a request's context has ended.
func reasonOf(cause error) error {
	var known *frame.StreamError
	if errors.As(cause, &known) {
		return known
	}
	return frame.Refuse(frame.Lost, "the connection to the person is gone", "what was on its way can be gone on with")
}

// A failure is the error of an answer.
type failure struct {
	Code     frame.Code `json:"code"`
	Sentence string     `json:"sentence"`
	Hint     string     `json:"hint,omitempty"`
}

func failureOf(err error) failure {
	r, ok := frame.ReasonOf(err)
	if !ok {
		r = frame.Reason{Code: frame.Internal, Sentence: "the appliance could not do this", Hint: "try again"}
	}
	return failure{r.Code, strings.TrimSpace(r.Sentence), r.Hint}
}
