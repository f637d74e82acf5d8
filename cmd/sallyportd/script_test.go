package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/appliance/store"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"sallyportd": main}) }

// The scripts run the program as people do, as far as it goes without a network; tests/system has the rest. Their own
// words are
//
//	exits N program args…   runs a program that must end with status N
//	sample FILE             writes the backup of a database with one device
//	mode FILE MODE          wants a file to have these permissions, in octal digits
//	[root]                  the test runs as root
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error { // the worker's user, whom root's commands act as, must get through
			return errors.Join(os.Chmod(env.WorkDir, 0o711), os.Chmod(filepath.Dir(env.WorkDir), 0o711))
		},
		Condition: func(condition string) (bool, error) {
			if condition != "root" {
				return false, fmt.Errorf("there is no condition %q", condition)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sample": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(writeSample(ts.MkAbs(args[0]))) },
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
					ts.Fatalf("%s has the mode %s, not %s", args[0], got, args[1])
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

// writeSample writes a backup.
func writeSample(path string) error {
	dir, err := os.MkdirTemp("", "sallyport-sample-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(s.PutDevice(context.Background(), store.Device{ID: "dev-1", User: "ann", Key: []byte("key"), Enrolled: time.Unix(1, 0)}),
		s.Backup(context.Background(), f), f.Close())
}
