// Package boot is what a machine needs done whose only program is sallyportd, as process 1 of an initramfs.
//
//	log, err := boot.Start()                 // file systems, and the kernel's log
//	boot.Coldplug(log, watch)                // drivers, the watchdog's first
//	boot.Harden(log)
//	go boot.Reap(ctx)
//	boot.PowerButton(ctx, log, stop)
//	…
//	boot.Stop(boot.PowerOff, log)
//
// # What is told, and where
//
// Logs go to /dev/kmsg, and from there to every console that the kernel command line names, with the kernel's time before
// them. Standard output and error stay the console itself, so that what Go prints when a program panics is seen too.
//
// # When it fails
//
// A process 1 that ends makes the kernel panic, and panic= on its command line makes that a reboot. So what cannot be
// done without is an error or a panic, and everything else is a line in the log: a machine that serves with less
// protection or without a power button is better than one that does not serve.
package boot
