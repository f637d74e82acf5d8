package vm

import (
	"testing"
	"time"
)

// TestBoot: from a kernel and an initramfs to a command on a real sshd through the machine, in each of the three forms;
// and the power button ends it.
func TestBoot(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := start(t, options{form: f})
			m.comesIn()
			begin := time.Now()
			m.command("system_powerdown")
			m.ends()
			m.console(1, `the machine stops how="power off"`)
			t.Logf("the power button was answered in %v", time.Since(begin).Round(10*time.Millisecond))
		})
	}
}
