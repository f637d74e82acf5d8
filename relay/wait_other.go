//go:build !unix

package relay

import "errors"

// canWait says that a socket can be asked whether it has bytes without reading them; here it cannot.
const canWait = false

func waitReadable(uintptr) bool { return true }

func waitWritable(uintptr) bool { return true }

func writeNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
