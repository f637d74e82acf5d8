package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestApplyAsks: a person at a terminal sees what changes, and only a yes has it taken.
func TestApplyAsks(t *testing.T) {
	env, _ := person(t)
	for answer, want := range map[string]struct {
		status int
		said   string
	}{
		"y\n":    {0, "sallyport: version 8 is in force\n"},
		"Yes\n":  {0, "sallyport: version 8 is in force\n"},
		"no\n":   {1, "sallyport: nothing was changed\n"},
		"\n":     {1, "sallyport: nothing was changed\n"},
		"yeah\n": {1, "sallyport: nothing was changed\n"},
	} {
		typing, tty := terminals(t)
		file := filepath.Join(t.TempDir(), "access.yaml")
		if err := os.WriteFile(file, []byte("admins: [ann]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var stderr watched
		env.Stdin, env.Stderr = tty, &stderr
		_, status := started(env, "admin", "apply", "-f", file)
		stderr.await(t, "apply this? [y/N] ")
		io.WriteString(typing, answer)
		if got := <-status; got != want.status {
			t.Errorf("%q: status %d", answer, got)
		}
		if got := stderr.String(); !strings.HasPrefix(got, "+ target db-2\n") || !strings.HasSuffix(got, want.said) {
			t.Errorf("%q: %q", answer, got)
		}
	}
}
