// Package lab builds three machines out of network namespaces and measures candidates between them, in rounds.
//
//	report, err := lab.Run(ctx, lab.Options{Rounds: 5, Programs: "bin"})
//
// # The map
//
//	A client            B gateway                       C target
//	svc 10.50.0.1       svc 10.50.0.2
//	b0  10.50.1.1 ───── a0  10.50.1.2
//	                    c0  10.50.2.2 ───────────────── b0   10.50.2.3
//	                    c1  (of a link) ─────────────── b1   10.50.11.3
//	                    c2  …                           b2   10.50.12.3
//
// Nothing else: A reaches B by 10.50.0.2 and, for "direct", C by B's kernel, which forwards. Each link of Sallyport that
// takes a NIC away from the kernel has a cable of its own. All cables are veth pairs with MTU 1500 and all offloads on;
// congestion control is cubic everywhere.
//
// An impaired way is a second cable from A to B, in whose middle a fourth namespace delays and drops packets. The service
// addresses move from one cable to the other, so that candidates keep what they have open.
//
// # What is left behind
//
// Nothing: namespaces, processes, mounts and files carry the id of the process in their names and are gone when Run
// returns. What a killed run has left is removed by the next one. No sysctl of the machine is touched, only those of the
// namespaces. (The empty folder /run/sshd, without which no sshd starts, stays.)
//
// The package needs Linux, root and ip(8).
package lab
