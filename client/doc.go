// Package client is how a person's command reaches targets: what it keeps of its appliances, how it signs in, and how
// it gets flows and what it does with them.
//
//	home, err := client.OpenHome("")                   // the person's folder
//	err = client.Login(ctx, home, client.LoginOptions{URL: "bastion.example", Code: typed})
//	profile, err := home.Profile("")                   // the default appliance
//	d, err := client.NewDirect(home, profile, client.Options{})
//	defer d.Close()
//	targets, err := client.NewAPI(d).Targets(ctx)
//	err = client.Proxy(ctx, d, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, os.Stdin, os.Stdout)
//
// # The seam
//
// Commands know a Dialer, never a transport. Direct holds a transport session of its own for as long as the process
// lives. Shared uses the sessions that an Agent, another process of the same person, holds for many commands.
//
// # The agent
//
// A Shared asks the Agent over a local socket for a carrier; then frames go between command and appliance as they are,
// and the Agent passes bytes on without looking:
//
//	command ── frame.Stream ── local socket ── Agent ── QUIC stream, or HTTPS connection ── appliance
//
// So half-close, limits, refusals and reasons are the appliance's own, and the Agent holds no more of a flow than it is
// about to write. It costs a tenth of a bulk flow's speed, and nothing on a flow that waits for the network. A flow whose
// carrier breaks asks the Agent why.
//
// # Flows that outlive their connection
//
// A keeper holds each flow up: it notices when the way to the appliance dies, and moves the flow to another connection. A
// seat knows where the flow is, on a session of the Agent's or of a Direct, which reconnects.
//
// # Errors
//
// Explain turns whatever came back into what the person is told and the command's exit status; it is the one table.
package client
