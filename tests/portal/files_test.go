package portal

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mostGrown is the memory that the appliance may take for transfers, however large the files are.
const mostGrown = 64 << 20

// TestFiles: folders are shown and changed, and files and folders go both ways, through lost connections, pauses and a page that is
// loaded again, and come as they left. The appliance's memory does not grow with them. SALLYPORT_SOAK makes them 2 GiB.
func TestFiles(t *testing.T) {
	w, told := sessions(t)
	told["here"] = filepath.Join(w.Dir, "here")
	told["there"] = filepath.Join(w.Dir, told["user"].(string))
	told["size"] = 128 << 20
	if os.Getenv("SALLYPORT_SOAK") != "" {
		told["size"], w.limit = 2<<30, time.Hour
	}
	before := w.peak()
	w.browse("files.mjs", told)
	grown := w.peak() - before
	t.Logf("the appliance's memory has grown by %d MiB", grown>>20)
	if grown > mostGrown {
		t.Errorf("the appliance's memory has grown by %d bytes", grown)
	}
}

// peak is the most memory that the worker has had since it was asked last, in bytes.
func (w *site) peak() (bytes int64) {
	w.t.Helper()
	found := regexp.MustCompile(`msg="worker started" pid=(\d+)`).FindStringSubmatch(w.daemon.Output())
	if found == nil {
		w.t.Fatal("the log names no worker")
	}
	dir := filepath.Join("/proc", found[1])
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Sscan(kib, &bytes)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "clear_refs"), []byte("5"), 0); err != nil || bytes == 0 { // proc_pid_clear_refs(5)
		w.t.Fatal(bytes, err)
	}
	return bytes << 10
}
