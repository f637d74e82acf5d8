package transport

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// noNetwork are what sending fails with where there is no network.
var noNetwork = []syscall.Errno{windows.WSAENETUNREACH, windows.WSAEHOSTUNREACH, windows.WSAENETDOWN, windows.WSAEADDRNOTAVAIL}
