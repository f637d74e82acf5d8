package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/appliance/api"
)

var hostileNames = []string{"$(touch X)", "`touch X`", "x; touch X", "x\n$(touch X)", "-oProxyCommand=touch", "echo:22", "\x1b[2J", ""}

// What an appliance calls its targets reaches the shell only if it is a name.
func TestCompletesNamesOnly(t *testing.T) {
	targets := []api.Target{{Name: "echo"}}
	for _, name := range hostileNames {
		targets = append(targets, api.Target{Name: name})
	}
	targets = append(targets, api.Target{Name: "db-1.example"})
	if got := typeable(targets); !slices.Equal(got, []string{"echo", "db-1.example"}) {
		t.Errorf("got %q", got)
	}
}

// Even if the program said it, bash would not run it.
func TestBashExpandsNoAnswer(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	dir := t.TempDir()
	run := exec.Command(bash, "--norc", "-c", completions["bash"]+`
sallyport() { printf '%s\n' "$@" >words; printf '%s\n' '$(touch X)' 'echo' '*' '`+"`touch X`"+`' 'ebb'; }
COMP_WORDS=(sallyport ssh e) COMP_CWORD=2
_sallyport
printf '%s\n' "${COMPREPLY[@]}"
COMP_WORDS=(sallyport ssh "") COMP_CWORD=2
_sallyport
eval "printf '%s\n' ${COMPREPLY[*]}"
`)
	run.Dir = dir
	out, err := run.CombinedOutput()
	if want := "echo\nebb\n$(touch X)\necho\n*\n`touch X`\nebb\n"; err != nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "X")); err == nil {
		t.Error("bash ran an answer")
	}
	if words, _ := os.ReadFile(filepath.Join(dir, "words")); string(words) != "__complete\n--\nssh\n" {
		t.Errorf("asked with %q", words)
	}
}
