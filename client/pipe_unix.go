//go:build unix

package client

import (
	"errors"
	"syscall"
)

// nobodyReads says whether a write has failed because the pipe's other end is closed.
func nobodyReads(err error) bool { return errors.Is(err, syscall.EPIPE) }
