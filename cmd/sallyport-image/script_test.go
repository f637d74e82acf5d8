package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/image/cpio"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"sallyport-image": main}) }

// The scripts run the program as people do, as far as it goes without Debian's packages; package image has the rest. Their
// own words are
//
//	exits N program args…   runs a program that must end with status N
//	archive FILE            writes an initramfs
//	program FILE            builds a static program that can stand for sallyportd
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"archive": func(ts *testscript.TestScript, _ bool, args []string) {
				var b bytes.Buffer
				w := cpio.NewWriter(&b)
				ts.Check(w.Write(cpio.Entry{Name: "sbin", Mode: cpio.Directory | 0o755}))
				ts.Check(w.Write(cpio.Entry{Name: "sbin/reboot", Mode: cpio.Link | 0o777, Data: []byte("/init")}))
				ts.Check(w.Write(cpio.Entry{Name: "dev/console", Mode: cpio.Character | 0o600, Major: 5, Minor: 1}))
				ts.Check(w.Write(cpio.Entry{Name: "init", Mode: cpio.Regular | 0o755, Data: []byte("\x7fELF")}))
				ts.Check(w.Close())
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
			},
			"program": func(ts *testscript.TestScript, _ bool, args []string) {
				c := exec.Command("go", "build", "-o", ts.MkAbs(args[0]), "../../image/testdata/init")
				c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
				if said, err := c.CombinedOutput(); err != nil {
					ts.Fatalf("%v: %s", err, said)
				}
			},
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, _ := strconv.Atoi(args[0])
				got := 0
				err := ts.Exec(args[1], args[2:]...)
				var exit *exec.ExitError
				switch {
				case errors.As(err, &exit):
					got = exit.ExitCode()
				case err != nil:
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("exit status %d, not %d; stderr: %s", got, want, ts.ReadFile("stderr"))
				}
			},
		},
	})
}

// TestHelpIsNarrow wants help that fits into 80 columns.
func TestHelpIsNarrow(t *testing.T) {
	for _, command := range []string{"", "build", "verify", "inspect", "sign", "update-key", "update", "release"} {
		var out bytes.Buffer
		args := strings.Fields("sallyport-image " + command + " --help")
		if status := run(t.Context(), env{args, &out, &out}); status != 0 {
			t.Errorf("%v: status %d", args, status)
		}
		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
		}
	}
}
