package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A Failure is an error as the person is told it.
type Failure struct {
	Code     frame.Code `json:"code"`
	Sentence string     `json:"error"`
	Tried    []string   `json:"tried,omitempty"` // one line for each way that was tried
	Hint     string     `json:"hint,omitempty"`
}

// Interrupted is the code of a command that was stopped by a signal.
const Interrupted frame.Code = "E_INTERRUPTED"

// Exit is the command's exit status.
func (f Failure) Exit() int {
	if f.Code == Interrupted {
		return 130 // as of a process that SIGINT has ended
	}
	return f.Code.Exit()
}

// Lines are what stands on stderr, without the command's name before them.
func (f Failure) Lines() []string {
	lines := append([]string{frame.Clip(f.Sentence, 2000)}, f.Tried...)
	if f.Hint != "" {
		lines = append(lines, "hint: "+f.Hint)
	}
	return lines
}

// Explain says what the person is told about err.
func Explain(err error) Failure {
	var agent *failed
	if errors.As(err, &agent) {
		return agent.Failure
	}
	var path *transport.PathError
	if errors.As(err, &path) {
		return explainPath(path)
	}
	if r, ok := frame.ReasonOf(err); ok {
		f := Failure{Code: r.Code, Sentence: r.Sentence, Hint: r.Hint}
		if f.Sentence == "" {
			f.Sentence = string(r.Code)
		}
		return f
	}
	if errors.Is(err, context.Canceled) {
		return Failure{Code: Interrupted, Sentence: "interrupted"}
	}
	return Failure{Code: frame.Internal, Sentence: frame.Clip(err.Error(), 600), Hint: "this should not happen; please report it"}
}

// explainPath lists what was tried. What stands in between and knows better, a proxy, gives the sentence.
func explainPath(e *transport.PathError) Failure {
	f := Failure{Code: "E_NO_PATH", Sentence: "the appliance was not reached",
		Hint: "check the name and this network; a firewall may block UDP and TCP to the appliance's port"}
	for _, a := range e.Attempts {
		f.Sentence = a.Address + " was not reached"
		f.Tried = append(f.Tried, frame.Clip(fmt.Sprintf("%s to %s: %s after %s", a.Transport, a.Address, shortly(a.Err), a.Took.Round(time.Millisecond)), 600))
	}
	var name *net.DNSError
	var session *frame.SessionError
	switch {
	case errors.As(e, &session):
		f.Code, f.Sentence, f.Hint = session.Code, session.Sentence, session.Hint
	case errors.As(e, &name) && name.IsNotFound:
		f.Sentence, f.Hint = name.Name+" has no address", "check the name for a slip of the finger"
	}
	return f
}

// shortly is err without what the line says already.
func shortly(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}
