package portal

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"sallyport/tests/lab"
	"sallyport/tests/npm"
)

// TestFirstUse: who runs the demo, as make run does, and opens its link has a shell in the browser within a minute, without
// filling anything in; and so has a guest of theirs.
func TestFirstUse(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w := &site{t: t, bin: bin, dir: t.TempDir(), home: t.TempDir(), run: exec.CommandContext}
	w.folders()
	npm.Install(t, "portal", scripts) // which is not a part of it, nor is building
	began := time.Now()
	demo := exec.Command(bin+"/sallyportd", "demo", "--allow-root")
	// A shell that reads no files of whoever runs the tests: those may take a minute.
	demo.Env = append(os.Environ(), "TMPDIR="+w.dir, "SHELL=/bin/sh")
	w.daemon = lab.Start(t, demo)
	var link string
	w.eventually(time.Minute, "the demo prints a link", func() error {
		select {
		case <-w.daemon.Done():
			t.Fatalf("the demo ended: %s", w.daemon.Output())
		default:
		}
		if link = regexp.MustCompile(`(?m)https://127\.0\.0\.1:\S+#\S+$`).FindString(w.daemon.Output()); link == "" {
			return errors.New("no link yet")
		}
		return nil
	})
	t.Logf("the link is there after %.1f s", time.Since(began).Seconds())
	address, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	w.url, w.at = "https://"+address.Host, address.Host
	home := regexp.MustCompile(`(?m)^ *export SALLYPORT_HOME=(\S+)$`).FindStringSubmatch(w.daemon.Output())
	if home == nil {
		t.Fatalf("the demo does not say how to go on by hand:\n%s", w.daemon.Output())
	}
	share := exec.Command(bin+"/sallyport", "share", "demo-1", "--for", "30m")
	share.Env = append(os.Environ(), "SALLYPORT_HOME="+home[1])
	if out, err := share.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.browse("first.mjs", map[string]any{"link": link, "began": began.UnixMilli()})

	w.daemon.Terminate(10 * time.Second)
	if left, err := filepath.Glob(w.dir + "/sallyport-demo-*"); err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v behind, %v", left, err)
	}
}
