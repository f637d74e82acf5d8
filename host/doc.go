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
// its Plan alone: the only request that the worker can make is to compute the Plan again (Relink), and the parser for it
// is the whole surface of the parent towards the worker.
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
// SIGTERM, which asks the worker to drain; Run returns when it has ended. A service manager that signals both processes
// makes the worker see SIGTERM twice, which must mean no more than once.
//
// # Reload
//
// The parent looks at the planned files every second. When Changed delivers, the worker reads the configuration with File,
// checks it, and calls Relink; only then does the parent compute its Plan again and send new listeners, links and files.
// What Relink refuses has changed nothing. A first worker that finds the configuration wrong exits with status 78, which
// Run returns instead of trying again.
//
// # The VNet's NIC
//
// Linux takes a packet for any of its addresses on any of its NICs, with an address or without (the weak host model). So
// the NIC of a packet link is moved into an empty network namespace of its own, where the kernel has no address, no IPv6
// and no routes, and the packet socket is opened in there. The namespace is bound to RunDir/netns/VNET and outlives the
// parent; the next one adopts it. Release gives the NIC back.
//
// A TAP is made in the parent's own namespace, because its purpose is that a bridge there takes it.
package host
