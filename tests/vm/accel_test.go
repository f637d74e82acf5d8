package vm

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// show has what the machines say on their consoles printed while they say it.
var show = flag.Bool("console", false, "show the machines' consoles")

// processor is how QEMU runs the machines' processors: by KVM where a kernel boots on it. That /dev/kvm is there says
// little, for some that are there boot nothing.
var processor = sync.OnceValue(func() string {
	b, err := build()
	if err != nil {
		return "tcg"
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg"
	}
	f.Close()
	const enough = 5 * time.Second // a real one needs a tenth
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	said, _ := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-kernel", b.dir+"/vmlinuz", "-append", "console=ttyS0 panic=-1").Output()
	if strings.Contains(string(said), "Kernel panic") { // it has come as far as one without an initramfs comes
		return "kvm"
	}
	return "tcg"
})
