package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

func protocolFlag() cli.Flag {
	return &cli.StringFlag{Name: "protocol", Value: "ssh", Usage: "speak `PROTOCOL`: ssh, rdp or tcp"}
}

// request reads a target argument and the protocol.
func request(target, protocol string) (frame.OpenRequest, error) {
	switch protocol {
	case "ssh", "rdp", "tcp":
	default:
		return frame.OpenRequest{}, usage("there is no protocol "+frame.Clip(protocol, 32), "use ssh, rdp or tcp")
	}
	name, port, err := client.ParseTarget(target)
	return frame.OpenRequest{Target: name, Port: port, Protocol: protocol}, err
}

func (c *command) proxy() *cli.Command {
	return &cli.Command{
		Name: "proxy", Usage: "connect stdin and stdout to a target, as ssh's ProxyCommand", ArgsUsage: "TARGET[:PORT]",
		Description: "  ssh -o ProxyCommand='sallyport proxy db-1' ann@db-1",
		Flags:       []cli.Flag{protocolFlag(), &cli.StringFlag{Name: "identity-agent", Usage: "be an SSH agent with a certificate for the target at `SOCKET`", Hidden: true}},
		Action: func(x *cli.Context) error {
			target, err := only(x, "target")
			if err != nil {
				return err
			}
			req, err := request(target, x.String("protocol"))
			if err != nil {
				return err
			}
			if _, byHand := terminal(c.Stdin); byHand {
				return usage("this is for ssh's ProxyCommand", "try: sallyport ssh "+req.Target)
			}
			d, _, err := c.dial()
			if err != nil {
				return err
			}
			defer d.Close()
			if socket := x.String("identity-agent"); socket != "" {
				stop, err := client.ServeIdentity(x.Context, d, req, socket)
				if err != nil {
					c.say("no certificate is offered: " + err.Error())
				} else {
					defer stop()
				}
			}
			// ssh may leave before the machine has said its last word. The runtime would end us by SIGPIPE then, and over
			// QUIC the appliance would wait for us until the connection's idle limit.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return client.Proxy(x.Context, d, req, c.Stdin, c.Stdout)
		},
	}
}
