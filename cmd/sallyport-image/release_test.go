package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestReleaseUsage: what is wrong with the arguments is said before anything is made. That a release can be made and
// installed is shown in tests/release.
func TestReleaseUsage(t *testing.T) {
	for _, c := range []struct {
		name, epoch string
		args        []string
		status      int
		said        string
	}{
		{"no folder", "", nil, 2, "release needs --out DIR"},
		{"an argument", "", []string{"--out", "x", "now"}, 2, "release takes no arguments"},
		{"no version", "", []string{"--out", "x", "--version", "v1"}, 1, `"v1" is no version: it must be like 0.4.0`},
		{"no platform", "", []string{"--out", "x", "--platform", "plan9"}, 1, `no release for "plan9", only for linux-amd64`},
		{"no time", "yesterday", []string{"--out", "x"}, 2, `SOURCE_DATE_EPOCH is "yesterday"`},
		{"an old time", "0", []string{"--out", "x"}, 1, "1970-01-01 must be between 1980"},
		{"no source", "", []string{"--out", "x", "--source", t.TempDir()}, 1, "LICENSE: no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			t.Setenv("SOURCE_DATE_EPOCH", c.epoch)
			var out, said bytes.Buffer
			status := run(t.Context(), env{append([]string{"sallyport-image", "release"}, c.args...), &out, &said})
			if status != c.status || !strings.Contains(said.String(), c.said) || out.Len() > 0 {
				t.Errorf("status %d, said %q, printed %q", status, said.String(), out.String())
			}
			for line := range strings.Lines(said.String()) {
				if !strings.HasPrefix(line, "sallyport-image: ") {
					t.Errorf("said %q", line)
				}
			}
		})
	}
}
