//go:build !linux

package link

import (
	"errors"
	"os"
)

// Packet needs Linux.
func Packet([]*os.File, Options) (Link, error) { return nil, errors.ErrUnsupported }

// Tap needs Linux.
func Tap(*os.File, Options) (Link, error) { return nil, errors.ErrUnsupported }

// Aside needs Linux.
func Aside(Link) Frames { return nil }
