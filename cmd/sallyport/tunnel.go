package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

func (c *command) tunnel() *cli.Command {
	return &cli.Command{
		Name: "tunnel", Usage: "open local ports that lead to targets", ArgsUsage: "TARGET[:PORT] …",
		Description: `Each target gets a port of 127.0.0.1 until Ctrl-C; every connection to it is
a flow of its own. On Linux only your own programs can connect; elsewhere, so
can whoever else can run programs on this computer.

  sallyport tunnel web-1
  sallyport tunnel db-1:5432 --protocol tcp --listen 5432
  sallyport tunnel web-1 web-2 --json`,
		Flags: []cli.Flag{
			protocolFlag(),
			&cli.StringFlag{Name: "listen", Usage: "open `[HOST:]PORT` here, for one target; default: any"},
		},
		Action: func(x *cli.Context) error {
			if x.NArg() == 0 {
				return misused(x, "takes one target or more")
			}
			if x.NArg() > 1 && x.IsSet("listen") {
				return usage("--listen is for one target", "run sallyport tunnel once for each, or leave --listen out")
			}
			var requests []frame.OpenRequest
			for _, target := range x.Args().Slice() {
				req, err := request(target, x.String("protocol"))
				if err != nil {
					return err
				}
				requests = append(requests, req)
			}
			d, err := c.dialAlone()
			if err != nil {
				return err
			}
			defer d.Close()
			if err := granted(x.Context, d, requests...); err != nil {
				return err
			}
			return c.tunnels(x.Context, d, requests, x.String("listen"))
		},
	}
}

// granted asks the appliance whether flows will be granted, so that a person hears of a refusal when the port would be
// opened and not when somebody connects.
func granted(ctx context.Context, d client.Dialer, requests ...frame.OpenRequest) error {
	api := client.NewAPI(d)
	defer api.Close()
	for _, req := range requests {
		if _, err := api.Grant(ctx, req); err != nil {
			return err
		}
	}
	return nil
}

// tunnels serves a port for each request until ctx ends.
func (c *command) tunnels(ctx context.Context, d client.Dialer, requests []frame.OpenRequest, listen string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	errs := make(chan error, len(requests))
	for _, req := range requests {
		l, err := client.ListenLocal(ctx, listen)
		if err != nil {
			return err
		}
		c.announce(l.Addr(), req)
		t := client.Tunnel{Dialer: d, Request: req, Failed: func(err error) { c.fail(err) }}
		wg.Go(func() { errs <- t.Serve(ctx, l) })
	}
	return <-errs
}

// announce tells where a tunnel begins.
func (c *command) announce(at net.Addr, req frame.OpenRequest) {
	if c.json {
		writeJSON(c.Stdout, map[string]any{"listen": at.String(), "target": req.Target, "port": req.Port, "protocol": req.Protocol}, "")
		return
	}
	target := req.Target
	if req.Port != 0 {
		target = net.JoinHostPort(target, fmt.Sprint(req.Port))
	}
	c.say(fmt.Sprintf("%s leads to %s (%s)", at, target, req.Protocol))
	if tcp, ok := at.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		c.say("other computers can connect to it")
	}
}
