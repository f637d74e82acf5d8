package client

import (
	"errors"

	"golang.org/x/sys/windows"
)

// nobodyReads says whether a write has failed because the pipe's other end is closed, or about to be.
func nobodyReads(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA)
}
