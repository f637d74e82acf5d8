//go:build !windows && !darwin

package main

import "os/exec"

// rdpProgram is the RDP client of this system, under the newest name that is installed.
func rdpProgram() rdpClient {
	for _, name := range []string{"xfreerdp3", "xfreerdp"} {
		if _, err := exec.LookPath(name); err == nil {
			return rdpClient{name: name}
		}
	}
	return rdpClient{name: "xfreerdp"}
}
