package vm

import (
	"strconv"
	"testing"
)

// TestInstructions: how many instructions a machine executes from the kernel's entry until the first TLS handshake is finished.
// QEMU counts them and lets the machine's clock go by them, one nanosecond each, so that the figure does not depend on who else
// uses this computer: it is the time that the kernel puts before the line. While the machine waits its clock is the computer's.
func TestInstructions(t *testing.T) {
	t.Parallel()
	const most = 3.0 // thousand millions
	m := start(t, options{accel: "tcg,thread=single", bare: true, qemu: []string{"-icount", "shift=0,sleep=on"}})
	m.console(1, `the kernel has vnet=none`) // from here on its socket listens
	answered := make(chan error, 1)
	go func() { answered <- m.answers() }()
	said := m.console(1, `\[ *([0-9.]+)\] sallyport worker: the first client is answered`)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	giga, err := strconv.ParseFloat(said[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.2f thousand million instructions to the first handshake", giga)
	if giga > most {
		t.Errorf("%.2f thousand million instructions to the first handshake, and %.1f are allowed", giga, most)
	}
}
