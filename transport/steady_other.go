//go:build !windows

package transport

import "syscall"

// noNetwork are what sending fails with where there is no network.
var noNetwork = []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL}
