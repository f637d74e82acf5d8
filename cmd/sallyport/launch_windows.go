package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// hangup ends a command whose console has gone.
const hangup = syscall.SIGTERM

// replaceBy runs a program and passes its exit status on: here a process cannot become another.
func replaceBy(ctx context.Context, env Env, program string, argv []string) error {
	cmd := exec.Command(program, argv[1:]...) // Ctrl-C reaches it by the console
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, env.Stdout, env.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitStatus(exit.ExitCode())
	}
	return err
}

// shellLine joins words as OpenSSH for Windows wants them in ProxyCommand.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = strings.ReplaceAll(w, "%", "%%"); !plain(w) {
			quoted[i] = `"` + quoted[i] + `"`
		}
	}
	return strings.Join(quoted, " ")
}
