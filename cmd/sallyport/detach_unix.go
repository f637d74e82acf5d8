//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach lets a process live without this one's terminal and session.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
