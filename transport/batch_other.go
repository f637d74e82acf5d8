//go:build !unix

package transport

import "syscall"

// rawReader is not needed here: reads are passed on.
type rawReader struct{}

func newRawReader(syscall.RawConn) *rawReader { return nil }

func (*rawReader) read() (*[batchIn]byte, int, error) { panic("not reached") }
