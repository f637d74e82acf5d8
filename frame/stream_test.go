package frame_test

import (
	"testing"

	"go.uber.org/goleak"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pipe(t testing.TB) (frame.Carrier, func() frame.Carrier) {
	a, b := frametest.Pipe(0)
	return a, func() frame.Carrier { return b }
}

func TestCarrier(t *testing.T) { frametest.TestCarrier(t, pipe) }
