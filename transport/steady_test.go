package transport

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestSteady: what a socket forgives is that there is no network for a moment, once its connection stands.
func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &net.OpError{Op: "write", Err: os.NewSyscallError("sendmsg", noNetwork[0])}
		var s steadySocket
		if s.forgives(gone) {
			t.Error("a connection that does not stand yet should hear")
		}
		s.stands.Store(true)
		if s.forgives(errors.New("something else")) || s.forgives(nil) {
			t.Error("forgives what is no lack of a network")
		}
		for range 2 { // the second time after a packet that left
			for range 29 {
				if !s.forgives(gone) {
					t.Fatal("does not forgive a moment")
				}
				time.Sleep(steadyFor / 30)
			}
			time.Sleep(steadyFor / 10)
			if s.forgives(gone) {
				t.Error("forgives for ever")
			}
			s.forgives(nil)
		}
	})
}
