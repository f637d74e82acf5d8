//go:build unix

package main

import (
	"context"
	"os"
	"strings"
	"syscall"
)

// hangup ends a command whose terminal has gone.
const hangup = syscall.SIGHUP

// replaceBy runs a program in this process's place; it returns only if that fails.
func replaceBy(_ context.Context, _ Env, program string, argv []string) error {
	return syscall.Exec(program, argv, os.Environ())
}

// shellLine joins words as ssh's ProxyCommand wants them: a line for the shell in which ssh first replaces %.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; !plain(w) {
			quoted[i] = "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(w) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
