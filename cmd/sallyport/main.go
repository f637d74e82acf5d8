// Command sallyport reaches targets that have no public address through an appliance. `sallyport help` says how.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

func main() {
	log.SetOutput(io.Discard) // where libraries remark on buffers, on the same terminal as ssh
	// What is ignored stays ignored: sftp does that with SIGINT for ssh and its ProxyCommand, nohup with SIGHUP.
	stops := slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, hangup}, signal.Ignored)
	ctx, stop := signal.NotifyContext(context.Background(), stops...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not ask
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	os.Exit(run(ctx, Env{Args: os.Args[1:], Self: self, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}))
}
