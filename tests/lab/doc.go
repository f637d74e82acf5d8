// Package lab builds small internets out of network namespaces for the end-to-end tests: a person's machine, a router,
// the appliance and the VNets behind it, with real servers and real clients in them.
//
//	l := lab.New(t)
//	sshd := l.SSHD(l.VNet.Namespace, lab.SSHDOptions{})
//	cmd := l.Client.Command(ctx, "sallyport", "ssh", sshd.Addr.String())
//
// # The map
//
//	client            router                    appliance              VNet
//	eth0 ─────────── client0  appliance0 ────── eth0   vnet0 ───────── eth0
//	10.77.1.2/24     10.77.1.1  10.77.2.1/24    10.77.2.2  (none)      10.99.0.10/16
//	fd77:1::2/64     fd77:1::1  fd77:2::1/64    fd77:2::2  (none)      fd99::10/64
//
// The client and the appliance have a default route; the VNet has none. AddVNet adds further VNets, whose addresses may
// be the same as another's: each hangs on a NIC of its own (vnet1, vnet2, …) of the appliance.
//
// Wire lays a link into one of the cables that delays, drops and otherwise spoils packets.
//
// # What is left behind
//
// Nothing: every namespace, process, mount and user is removed when the test ends. Each carries the test's process id in
// its name, and what a killed test left is swept by the next one that calls New.
//
// The package needs Linux and root. It fails a test that cannot have them, it does not skip it.
package lab
