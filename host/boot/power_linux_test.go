package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeys(t *testing.T) {
	event := func(kind, code uint16, value uint32) []byte {
		b := make([]byte, eventSize-8)
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = binary.NativeEndian.AppendUint16(b, code)
		return binary.NativeEndian.AppendUint32(b, value)
	}
	n := 0
	events := bytes.Join([][]byte{event(eventKey, keyPower, 1), event(eventKey, keyPower, 0), event(0, keyPower, 1),
		event(eventKey, 30, 1), event(eventKey, keyPower, 2), event(eventKey, keyPower, 1)}, nil)
	if err := watchKeys(bytes.NewReader(events), func() { n++ }); err != io.EOF || n != 2 {
		t.Errorf("pressed %d times, %v", n, err)
	}
	if err := watchKeys(bytes.NewReader(events[:eventSize+3]), func() {}); err != io.ErrUnexpectedEOF {
		t.Errorf("half an event: %v", err)
	}
}

func TestKeyBit(t *testing.T) {
	for bitmap, want := range map[string]bool{
		"10000000000000 0": true, // bit 52 of the second word from the right: 64+52
		"1000000000000 0":  false,
		"10000000000000":   false,
		"402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe": true, // a keyboard that has one
		"0 0 10000000000000 0": true,
		"zz 0":                 false,
		"":                     false,
	} {
		if got := keyBit(bitmap, keyPower); got != want {
			t.Errorf("%q: %v", bitmap, got)
		}
	}
}

// The signals are the wishes of busybox's and other small process 1's, and process 1 of a test is never this program.
func TestAsk(t *testing.T) {
	if PowerOff.Signal() != unix.SIGUSR2 || Restart.Signal() != unix.SIGTERM {
		t.Error("other signals than /init takes")
	}
	if err := Ask(PowerOff); !errors.Is(err, ErrNotOurs) {
		t.Errorf("asked another program to stop: %v", err)
	}
}
