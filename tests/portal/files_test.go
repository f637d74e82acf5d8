package portal

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFiles: folders are shown and changed, and files and folders go both ways, through lost connections, pauses and a page that is
// loaded again, and come as they left.
// SALLYPORT_SOAK makes them 2 GiB.
func TestFiles(t *testing.T) {
	w, told := sessions(t)
	told["here"] = filepath.Join(w.Dir, "here")
	told["there"] = filepath.Join(w.Dir, told["user"].(string))
	told["size"] = 128 << 20
	if os.Getenv("SALLYPORT_SOAK") != "" {
		told["size"] = 2 << 30
	}
	w.browse("files.mjs", told)
}
