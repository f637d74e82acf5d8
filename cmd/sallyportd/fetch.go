package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/config"
	"sallyport/host"
	"sallyport/host/metadata"
	"sallyport/host/source"
)

// How long the cloud is asked: its DHCP and its metadata service may be slow after a boot.
const (
	fetchLease  = 30 * time.Second
	fetchAnswer = 60 * time.Second
	fetchAll    = fetchLease + fetchAnswer + 10*time.Second
)

// cloudFlag says which cloud to ask, or to tell that the appliance serves.
var cloudFlag = &cli.StringFlag{Name: "cloud", Usage: "the machine is one of `CLOUD`: azure, aws or gcp"}

// fetchCommand prints the user data that the cloud has for this machine. With a NIC it sends a child for it, as init does;
// without it is that child.
func fetchCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "fetch", Hidden: true, Usage: "print the machine's user data; init starts it",
		Flags: []cli.Flag{cloudFlag,
			&cli.StringFlag{Name: "interface", Usage: "as root, ask over `NIC`, which nobody else may be using"},
			&cli.StringFlag{Name: "run-dir", Value: "/run/sallyport", Usage: "keep a namespace in `DIR` meanwhile"},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			cloud, err := metadata.Parse(c.String("cloud"))
			if err != nil {
				return fail(exitUsage, "see: sallyportd fetch --help", "%w", err)
			}
			if cloud == metadata.None {
				return misused(c, "needs --cloud")
			}
			if nic := c.String("interface"); nic != "" {
				d, err := fetchDocument(c.Context, cloud, nic, c.String("run-dir"), nil, logger(e))
				if err != nil {
					return err
				}
				_, err = e.stdout.Write(d.Config)
				return err
			}
			n, err := joinErrand(logger(e), nil, fetchLease)
			if err != nil {
				return err
			}
			defer n.Close()
			data, err := metadata.Client{Cloud: cloud, Dial: ownDoor(n, cloud.Endpoints()), Total: fetchAnswer}.UserData(c.Context)
			if errors.Is(err, metadata.ErrNone) {
				return nil
			}
			if err != nil {
				return err
			}
			_, err = host.ErrandText().Write(data)
			return err
		},
	}
}

// joinErrand makes this process the child of an Errand and attaches a stack to its NIC, with an address by DHCP, on which
// the ports are served. No flow goes by it: it has no prefixes.
func joinErrand(log *slog.Logger, serve []uint16, wait time.Duration) (*vnet, error) {
	w, err := host.Join()
	if err != nil {
		return nil, fail(exitUsage, "", "this is for init to start, not for people (%w)", err)
	}
	v := config.VNet{Link: config.Link{Kind: config.LinkPacket}, Addresses: config.Addresses{DHCP: true}}
	n := &vnet{name: host.ErrandLink, config: v, serve: serving{ports: serve}, log: log,
		open: func() (opened, error) { return openGiven(w, host.ErrandLink, v, log) }, relink: relinkGiven(w, host.ErrandLink)}
	return n, n.start(time.Now().Add(wait))
}

// ownDoor dials out of a network to the listed addresses and nowhere else.
func ownDoor(out outlet, list []netip.AddrPort) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, to) {
			return nil, fmt.Errorf("%s is not one of the cloud's own addresses", to)
		}
		return out.dialOwn(ctx, "tcp", to)
	}
}

// fetchDocument sends a confined child over the NIC to the cloud's metadata service. An error that is source.ErrNone means
// that the service answers and has nothing for this machine. output is the child's, if it is not nil.
func fetchDocument(ctx context.Context, cloud metadata.Cloud, nic, runDir string, output *os.File, log *slog.Logger) (source.Document, error) {
	d := source.Document{From: "user data of " + string(cloud)}
	text, err := host.Errand{Args: []string{"sallyportd", "fetch", "--cloud", string(cloud)},
		Interface: nic, RunDir: runDir, Timeout: fetchAll, Limit: source.MaxDocument, Output: output, Log: log}.Run(ctx)
	if err != nil {
		return source.Document{}, fmt.Errorf("%s: %w", d.From, err)
	}
	if d.Config, err = source.User(text); err != nil {
		return source.Document{}, fmt.Errorf("%s: %w", d.From, err)
	}
	return d, nil
}

// reportAgain is how long the daemon waits after a round of attempts to tell the cloud that it serves.
const reportAgain = time.Minute

// reportReady tells the cloud that the machine serves, by the network that people come in by, until it has been told.
func (d *daemon) reportReady(ctx context.Context) {
	var out outlet = fenced{} // the kernel's
	switch stack := listensOn(d.cfg); stack {
	case "":
	case publicStack:
		out = d.public
	default:
		out = d.networks[stack]
	}
	c := metadata.Client{Cloud: d.cloud, Dial: ownDoor(out, d.cloud.Endpoints())}
	for {
		err := c.ReportReady(ctx)
		if err == nil {
			d.log.Info("the cloud knows that the machine is ready", "cloud", d.cloud)
			return
		}
		if ctx.Err() != nil {
			return
		}
		d.log.Warn("the cloud does not know yet that the machine is ready", "cloud", d.cloud, "cause", err)
		select {
		case <-time.After(reportAgain):
		case <-ctx.Done():
			return
		}
	}
}
