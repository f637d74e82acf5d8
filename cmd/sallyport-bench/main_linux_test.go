package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/bench"
)

// command runs the program and returns its exit status and what it printed.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), env{append([]string{"sallyport-bench"}, args...), strings.NewReader(""), &out, &errs})
	return status, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"nothing", "there is no command"},
		{"compare one.json", "takes two reports"},
		{"compare no-such-file.json no-such-file.json", "no such file"},
		{"lab --rounds x", "rounds"},
		{"lab --rounds 0", "at least 1"},
		{"lab --impaired 50", "50ms/0.1%"},
		{"lab --impaired 50ms/1% --chaoslink /nonexistent", "make build"},
		{"lab --goals no-such-file.yaml", "no such file"},
		{"lab --only no-such-thing", "matches no candidate"},
		{"lab --links wire", "there is no link"},
		{"lab extra", "put flags before"},
	} {
		status, stdout, stderr := command(t, strings.Fields(c.line)...)
		if status != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q; want %q", c.line, status, stdout, stderr, c.want)
		}
	}
}

func TestGoals(t *testing.T) {
	for _, args := range [][]string{{"goals"}, {"goals", "--quick"}} {
		status, stdout, _ := command(t, args...)
		if _, err := bench.ParseGoals([]byte(stdout)); err != nil || status != 0 {
			t.Errorf("%v: exit %d, %v", args, status, err)
		}
	}
}

func TestCompare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &bench.Report{Candidates: []bench.Candidate{{Name: bench.Direct}}}
	r.Add(bench.OpenWarm, bench.Sample{Candidate: bench.Direct, Round: 1, Value: 100})
	if err := r.Write(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	status, stdout, stderr := command(t, "compare", path, path)
	if status != 0 || !strings.Contains(stdout, "open-warm") || stderr != "" {
		t.Errorf("exit %d, %q, %q", status, stdout, stderr)
	}
}
