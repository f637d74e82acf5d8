package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/relay"
)

// reasonOf is what a person is told about err.
func reasonOf(err error) frame.Reason {
	var refusal *policy.Refusal
	var no *auth.Error
	var bug *panicError
	switch {
	case errors.As(err, &bug):
		return bug.reason()
	case errors.As(err, &refusal):
		return frame.Reason{Code: frame.Code(refusal.Code), Sentence: refusal.Sentence, Hint: refusal.Hint, Rule: refusal.Rule}
	case errors.As(err, &no):
		return frame.Reason{Code: frame.Code(no.Code), Sentence: no.Sentence, Hint: no.Hint}
	}
	if r, ok := frame.ReasonOf(err); ok {
		return r
	}
	if errors.Is(err, context.Canceled) {
		return frame.Reason{Code: frame.Lost, Sentence: "the connection ended before the flow was open"}
	}
	return frame.Reason{Code: frame.Internal, Sentence: "the appliance could not do this", Hint: "the appliance's log says why"}
}

// reasonError is err as an error that carries its reason.
func reasonError(err error) error { return &frame.StreamError{Reason: reasonOf(err)} }

// dialReason says why a target was not reached.
func dialReason(target string, limit time.Duration, err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return frame.Refuse("E_REFUSED", target+" refused the connection: the target is up, nothing listens on this port",
			"start the service there, or check the port")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return frame.Refuse("E_UNREACHABLE", "nothing answers at the address of "+target, "check that it is switched on and its address is right")
	case errors.Is(err, syscall.ENETUNREACH):
		return frame.Refuse("E_UNREACHABLE", "the VNet has no route to "+target, "an administrator must check the VNet's prefixes and gateway")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &timeout) && timeout.Timeout():
		return frame.Refuse("E_TIMEOUT", fmt.Sprintf("no reply from %s in %v", target, limit),
			"the target is off, or a firewall or security group drops the packets")
	case errors.Is(err, syscall.ECONNRESET):
		return frame.Refuse("E_REFUSED", target+" reset the connection while it was being made", "check what listens there")
	}
	return frame.Refuse("E_UNREACHABLE", fmt.Sprintf("%s was not reached: %v", target, err), "")
}

// resolveReason says why a name has no address.
func resolveReason(host string, limit time.Duration, err error) error {
	var timeout interface{ Timeout() bool }
	var answered interface{ NotFound() bool }
	if errors.As(err, &answered) && answered.NotFound() {
		return frame.Refuse("E_RESOLVE", "the VNet's DNS knows no address for "+host, "an administrator must check the target's address")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return frame.Refuse("E_RESOLVE", fmt.Sprintf("the VNet's DNS did not answer for %s in %v", host, limit),
			"an administrator must check the VNet's dns setting")
	}
	return frame.Refuse("E_RESOLVE", err.Error(), "an administrator must check the target's address and the VNet's dns setting")
}

// endReason says why an open flow ended.
func endReason(f *flow, err error) frame.Reason {
	var conn *relay.ConnError
	var bug *panicError
	if errors.As(err, &bug) {
		return bug.reason()
	}
	if r, ok := frame.ReasonOf(err); ok {
		return r
	}
	switch {
	case errors.Is(err, relay.ErrIdle):
		return frame.Reason{Code: "E_IDLE", Sentence: fmt.Sprintf("nothing moved for %v", f.grant.Idle), Hint: "connect again", Rule: f.grant.Rule}
	case errors.As(err, &conn):
		return targetReason(f, err)
	case errors.Is(err, context.Canceled):
		return frame.Reason{Code: frame.Lost, Sentence: "the connection to the appliance was lost"}
	}
	return reasonOf(err)
}

func targetReason(f *flow, err error) frame.Reason {
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED), errors.Is(err, io.ErrUnexpectedEOF):
		return frame.Reason{Code: "E_TARGET_RESET", Sentence: f.name() + " reset the connection"}
	case errors.Is(err, syscall.ETIMEDOUT):
		return frame.Reason{Code: "E_TIMEOUT", Sentence: f.name() + " stopped answering", Hint: "the target is off, or the network in between has failed"}
	}
	return frame.Reason{Code: "E_TARGET_RESET", Sentence: fmt.Sprintf("the connection to %s failed: %v", f.name(), err)}
}
