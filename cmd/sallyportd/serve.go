package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/config"
	"sallyport/host"
)

func serveCommand(e env) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the appliance",
		Description: "Started as root, a small parent keeps NICs, ports and secret files, and a worker without any\n" +
			"capability does the rest. SIGHUP reads the files again, SIGTERM lets flows end and stops.",
		Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "run-dir", Value: "/run/sallyport", Usage: "keep namespaces in `DIR`"}},
		Action: func(c *cli.Context) error {
			path, err := filepath.Abs(c.String("config"))
			if err != nil {
				return err
			}
			cfg, err := config.Load(path)
			if err == nil {
				err = supported(cfg)
			}
			if err != nil {
				return &exit{exitConfig, err, "name the configuration with --config FILE; sallyportd check says what is wrong with it"}
			}
			log := logger(e)
			if !needsParent(cfg) {
				return serveAlone(c.Context, path, cfg, log)
			}
			if err := host.Rights(); err != nil {
				return fail(exitUsage, "start it as root, or as docs/sallyportd.service does; kernel links and ports above 1023 need neither",
					"this configuration needs NICs or low ports: %w", err)
			}
			parent := host.Parent{
				Plan:   func() (host.Plan, error) { return plan(path) },
				Log:    log,
				RunDir: c.String("run-dir"),
				Args:   []string{"sallyportd", "worker", "--config", path},
			}
			return parent.Run(context.WithoutCancel(c.Context)) // which sees to the signals itself
		},
	}
}

func workerCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "worker", Hidden: true, Usage: "is started by serve",
		Flags: []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			w, err := host.Join()
			if err != nil {
				return fail(exitUsage, "sallyportd serve starts it", "this command is not for people: %w", err)
			}
			defer w.Close()
			path := c.String("config")
			data, err := w.File(path)
			if err != nil {
				return err
			}
			cfg, err := config.Parse(path, data)
			if err != nil {
				return &exit{exitConfig, err, ""}
			}
			return runDaemon(c.Context, cfg, workerSupply{w, logger(e), time.Now().Add(firstLease)}, logger(e))
		},
	}
}

// serveAlone runs the appliance in this process, which opens its ports itself.
func serveAlone(ctx context.Context, path string, cfg *config.Config, log *slog.Logger) error {
	s, err := newLocalSupply(path, cfg, log)
	if err != nil {
		return err
	}
	defer s.Close()
	return runDaemon(ctx, cfg, s, log)
}

func logger(e env) *slog.Logger {
	return slog.New(slog.NewTextHandler(e.stderr, nil))
}

// needsParent says whether the configuration asks for what only root may have.
func needsParent(c *config.Config) bool {
	if os.Geteuid() == 0 {
		return true
	}
	if c.Listen.Link.Kind != config.LinkNone {
		return true
	}
	if _, port, err := net.SplitHostPort(c.Listen.Address); err == nil {
		if n, err := strconv.Atoi(port); err != nil || n < 1024 {
			return true
		}
	}
	for _, v := range c.VNets {
		switch port := v.Link.WireGuard.ListenPort; v.Link.Kind {
		case config.LinkKernel:
		case config.LinkWireGuard: // a UDP socket, and nothing of the kernel's besides
			if port != 0 && port < 1024 {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// supported refuses what the configuration's format has and this version does not do.
func supported(c *config.Config) error {
	if len(c.TLS.ACME.Domains) > 0 && c.Uplink != "kernel" {
		return fail(1, "write uplink: kernel, or give cert and key", "ACME over the uplink %s is not supported by this version", c.Uplink)
	}
	return nil
}

// plan is what the parent may give the worker.
func plan(path string) (host.Plan, error) {
	c, err := config.Load(path)
	if err != nil {
		return host.Plan{}, err
	}
	p := host.Plan{Files: files(path, c), State: c.State, RunAs: c.RunAs}
	if listensOn(c) == "" {
		p.Listen = []host.Listen{{Name: "https", Network: "tcp", Address: c.Listen.Address}, {Name: "quic", Network: "udp", Address: c.Listen.Address}}
	}
	planLink(&p, publicStack, c.Listen.Link, c.Listen.Addresses)
	if _, err := strconv.Atoi(c.RunAs); err == nil {
		p.RunAs += ":" + c.RunAs // a user's number is its group's too
	}
	if c.Metrics.Listen != "" {
		p.Listen = append(p.Listen, host.Listen{Name: "metrics", Network: "tcp", Address: c.Metrics.Listen})
	}
	for name, v := range c.VNets {
		planLink(&p, name, v.Link, v.Addresses)
		if v.Link.Kind == config.LinkWireGuard {
			p.Listen = append(p.Listen, host.Listen{Name: tunnelSocket(name), Network: "udp", Address: fmt.Sprintf(":%d", v.Link.WireGuard.ListenPort)})
		}
	}
	return p, nil
}

// planLink adds a link that needs the parent.
func planLink(p *host.Plan, name string, l config.Link, a config.Addresses) {
	switch l.Kind {
	case config.LinkPacket:
		p.Links = append(p.Links, host.LinkPlan{VNet: name, Kind: host.Packet, Interface: l.Packet, DHCP: a.DHCP})
	case config.LinkTap:
		p.Links = append(p.Links, host.LinkPlan{VNet: name, Kind: host.TAP, Interface: l.Tap})
	}
}

// files are those that the worker is told the content of.
func files(path string, c *config.Config) []string {
	list := []string{path, c.Access}
	if c.TLS.Cert != "" {
		list = append(list, c.TLS.Cert, c.TLS.Key)
	}
	if c.TLS.ACME.CA != "" {
		list = append(list, c.TLS.ACME.CA)
	}
	for _, v := range c.VNets {
		if v.Link.Kind == config.LinkWireGuard {
			list = append(list, v.Link.WireGuard.PrivateKeyFile)
			for _, p := range v.Link.WireGuard.Peers {
				if p.PresharedKeyFile != "" {
					list = append(list, p.PresharedKeyFile)
				}
			}
		}
	}
	return list
}

func releaseCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "release", ArgsUsage: "VNET", Usage: "give a VNet's NIC back to the host",
		Flags: []cli.Flag{&cli.StringFlag{Name: "run-dir", Value: "/run/sallyport", Usage: "the folder that serve was given"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return fail(exitUsage, "sallyportd release VNET", "release wants the name of one VNet")
			}
			return host.Release(c.String("run-dir"), c.Args().First())
		},
	}
}

func checkCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "read the configuration and the access file, and say everything that is wrong with them",
		Flags: []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			path, err := filepath.Abs(c.String("config"))
			if err != nil {
				return err
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if err := supported(cfg); err != nil {
				return err
			}
			data, err := os.ReadFile(cfg.Access)
			if err != nil {
				return err
			}
			_, err = parsePolicy(cfg, data)
			return err
		},
	}
}
