// Package host is the privileged half of the daemon: a small parent that owns NICs, ports and secret files, and hands
// them as open descriptors to a worker that may do nothing else.
//
//	// sallyportd serve, as root
//	p := host.Parent{Plan: planFrom(configuration), Log: log}
//	err := p.Run(ctx) // an *ExitError says with which status to exit
//
//	// sallyportd worker, which Run starts
//	w, err := host.Join()
//	l, err := w.Listener("https")
//	link, err := w.Link("hub")
//	key, err := w.File("/etc/sallyport/tls.key")
//
// # Who may do what
//
// The worker runs as its own user, without groups, with no capability in any set, no_new_privs, no core dumps and a short
// environment. It cannot open the configuration, a NIC or a low port; it is given them. What the parent gives depends on
// its Plan alone. The worker can make four requests: to compute the Plan again (Relink), to note that it lives, where the
// Plan has Clock to correct the clock, and where there is an Updater to install an update or to restart; the parser for them,
// and for an update file, is the whole surface of the parent towards the worker. What it asks for too often is refused.
//
// Before it reads anything the worker gives up, with all its threads, the system calls that it has no use for (seccomp(2)).
// Those by which a program becomes another one, traces others or gets at the kernel end it on the spot; the others fail
// with EPERM. It has no way to run a program, to fork, to make a namespace, or to get memory that can be executed.
//
// # Life and death
//
// A worker that dies is started again at once, with the same listening sockets: the parent holds them, so connections
// wait in the backlog and are not refused. Five quick deaths in a row begin a back-off of 1 to 30 seconds. Packet sockets
// are made afresh for each worker, since what has queued for a dead one is worthless; a TAP is kept, as it would vanish
// from its bridge. One that somebody has deleted is made again when the worker asks for it, or for the next worker.
//
// A worker does not outlive its parent: the kernel kills it (PR_SET_PDEATHSIG, SIGKILL). A worker that lingered would hold
// the ports against the next parent, and its flows could not be handed over anyway.
//
// SIGHUP makes the parent read its files again and tell the worker, changed or not. SIGTERM and SIGINT are passed on as
// SIGTERM, which asks the worker to drain; Run returns when it has ended. One that has not, HungAfter after Plan.Grace, is
// killed. A service manager that signals both processes makes the worker see SIGTERM twice, which must mean no more than
// once.
//
// A worker cannot end the parent: status 0 is a death like any other, and so is 78 once a worker has served.
//
// # Health
//
// The parent asks the worker every few seconds whether it lives. Until the worker says that it serves (Serving), it answers
// that it starts, which may take as long as it likes; from then on only when its self-test has passed. One that has not
// answered for HungAfter is killed and another one started. Only time in which the parent itself has run counts, so that a
// machine that sleeps or crawls does not cost a good worker its life. A self-test whose error is ErrTrouble has found what
// another worker could not mend: nobody is killed for it, and nobody told that all is well either. While it drains a
// worker says that it lives, and nothing is tested.
//
// The machine's watchdog (Parent.Watchdog) and the service manager's (sd_notify(3), WatchdogSec) are fed as long as the
// worker answers, or one is starting. When five workers in a row have died at once nobody feeds them any more until a
// self-test has passed, and the machine or the service starts afresh. An orderly end is told to the device by a V, unless
// it is the machine's too (Parent.Armed). The manager hears READY=1 after the first self-test that passes, RELOADING=1 and STOPPING=1.
//
// # The clock
//
// Where the Plan has Clock the worker says by how much the clock is off (SetClock), and the parent sets it:
//
//   - What is less than 0.4 seconds is slewed: the clock does not jump, and goes at most 1 % too fast or too slow.
//   - The first offset since Run began, of whichever worker, may step the clock by 24 hours, or by anything if the clock shows a time before
//     this program was written.
//   - A later one steps by 10 seconds at most once an hour, and by 24 hours at most once a day.
//   - Nothing sets the clock to before 2026 or after 2055. Offsets that come within 30 seconds of the last are not looked at.
//
// Each step and each refusal has a line in the log. A worker in an intruder's hands can do this and no more.
//
// # Reload
//
// The parent looks at the planned files every second. When Changed delivers, the worker reads the configuration with File,
// checks it, and calls Relink; only then does the parent compute its Plan again and send new listeners, links and files.
// What Relink refuses has changed nothing. A first worker that finds the configuration wrong exits with status 78 before it
// serves, which Run returns instead of trying again.
//
// # The VNet's NIC
//
// Linux takes a packet for any of its addresses on any of its NICs, with an address or without (the weak host model). So
// the NIC of a packet link is moved into an empty network namespace of its own, where the kernel has no address, no IPv6
// and no routes, and the packet socket is opened in there. The namespace is bound to RunDir/netns/VNET and outlives the
// parent; the next one adopts it. Release gives the NIC back.
//
// A NIC may be meant by its MAC address too, and is looked for where its VNet's namespace is and in the parent's.
//
// A TAP is made in the parent's own namespace, because its purpose is that a bridge there takes it.
package host
