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
// lives; an agent that holds sessions for many commands is another Dialer.
//
// # Errors
//
// Explain turns whatever came back into what the person is told and the command's exit status; it is the one table.
package client
