package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/config"
	"sallyport/host"
	"sallyport/host/metadata"
)

func serveCommand(e env) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the appliance",
		Description: "Started as root, a small parent keeps NICs, ports and secret files, and a\n" +
			"worker without any capability does the rest. SIGHUP reads the files again,\n" +
			"SIGTERM lets flows end and stops.",
		Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "run-dir", Value: "/run/sallyport", Usage: "keep namespaces in `DIR`"},
			&cli.StringFlag{Name: "cloud", Hidden: true, Usage: "tell `CLOUD` when the appliance serves; azure alone wants to know"}},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			path, cfg, err := loadAll(c)
			if err != nil {
				return withStatus(exitConfig, err)
			}
			if cfg.Machine.Interface != "" || cfg.Machine.Enrol != "" {
				return fail(exitConfig, "leave it out: here the host's own configuration gives addresses, and sallyportd enrol-code makes codes",
					"%s: machine is for the document of an image", path)
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
				Args:   []string{"sallyportd", "worker", "--config", path, "--cloud", c.String("cloud")},
			}
			return parent.Run(context.WithoutCancel(c.Context)) // which sees to the signals itself
		},
	}
}

func workerCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "worker", Hidden: true, Usage: "is started by serve",
		Flags: []cli.Flag{configFlag, cloudFlag},
		Action: func(c *cli.Context) error {
			w, err := host.Join()
			if err != nil {
				return fail(exitUsage, "run: sallyportd serve", "worker is for serve to start, not for people (%w)", err)
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
			cloud, err := metadata.Parse(c.String("cloud"))
			if err != nil {
				return fail(exitUsage, "", "%w", err)
			}
			return runDaemon(c.Context, cfg, workerSupply{w, logger(e), time.Now().Add(firstLease)}, cloud, logger(e))
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
	return runDaemon(ctx, cfg, s, metadata.None, log)
}

func logger(e env) *slog.Logger {
	return slog.New(slog.NewTextHandler(e.stderr, nil))
}

// needsParent says whether the configuration asks for what only root may have.
func needsParent(c *config.Config) bool {
	if os.Geteuid() == 0 {
		return true
	}
	if c.Listen.Link.Kind != config.LinkNone || len(c.Time.Servers) > 0 {
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

// plan is what the parent may give the worker.
func plan(path string) (host.Plan, error) {
	c, err := config.Load(path)
	if err != nil {
		return host.Plan{}, err
	}
	p := host.Plan{Files: files(path, c), Count: accessFiles, State: c.State, RunAs: runAs(c), Clock: len(c.Time.Servers) > 0, Grace: c.Drain.Grace}
	if listensOn(c) == "" {
		p.Listen = []host.Listen{{Name: "https", Network: "tcp", Address: c.Listen.Address}, {Name: "quic", Network: "udp", Address: c.Listen.Address}}
	}
	planLink(&p, publicStack, c.Listen.Link, c.Listen.Addresses)
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

// runAs is the worker's user.
func runAs(c *config.Config) string {
	if _, err := strconv.Atoi(c.RunAs); err == nil {
		return c.RunAs + ":" + c.RunAs // a user's number is its group's too
	}
	return c.RunAs
}

// planLink adds a link that needs the parent.
func planLink(p *host.Plan, name string, l config.Link, a config.Addresses) {
	switch l.Kind {
	case config.LinkPacket:
		p.Links = append(p.Links, host.LinkPlan{VNet: name, Kind: host.Packet, Interface: l.Packet, DHCP: a.DHCP,
			Queues: cmp.Or(l.Queues, min(max(runtime.NumCPU()/2, 1), 8))})
	case config.LinkTap:
		p.Links = append(p.Links, host.LinkPlan{VNet: name, Kind: host.TAP, Interface: l.Tap})
	}
}

// accessFiles are the names that count in a folder of access files.
var accessFiles = []string{"*.yaml", "*.cedar"}

// files are those that the worker is told the content of.
func files(path string, c *config.Config) []string {
	list := []string{path}
	if access := c.AccessPath(); access != "" {
		list = append(list, access)
	}
	if c.TLS.Cert != "" {
		list = append(list, c.TLS.Cert, c.TLS.Key)
	}
	if c.TLS.ACME.CA != "" {
		list = append(list, c.TLS.ACME.CA)
	}
	if c.Store.PasswordFile != "" {
		list = append(list, c.Store.PasswordFile)
	}
	if c.IdentityKey != "" {
		list = append(list, c.IdentityKey)
	}
	for _, p := range c.Identity.Providers {
		if p.ClientSecretFile != "" {
			list = append(list, p.ClientSecretFile)
		}
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
		Flags: []cli.Flag{&cli.StringFlag{Name: "run-dir", Value: "/run/sallyport", Usage: "the `DIR` that serve was given"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misused(c, fmt.Sprintf("takes the name of one VNet, not %d arguments", c.NArg()))
			}
			vnet, dir := c.Args().First(), c.String("run-dir")
			err := host.Release(dir, vnet)
			switch {
			case errors.Is(err, host.ErrName):
				return fail(exitUsage, "the configuration names the VNets, by 1 to 32 of a-z, 0-9 and -", "%q is not a VNet's name", vnet)
			case errors.Is(err, host.ErrRunning):
				return fail(1, "stop it first", "sallyportd is running and has the NIC of %s", vnet)
			case errors.Is(err, fs.ErrNotExist):
				return fail(1, "if serve was given another --run-dir, name it", "there is no NIC of a VNet %s in %s", vnet, filepath.Join(dir, "netns"))
			case errors.Is(err, fs.ErrPermission):
				return fail(1, "run it as root", "the NIC of %s is not yours to give back: %w", vnet, err)
			}
			return err
		},
	}
}

func checkCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say what is wrong with configuration and access file",
		Flags: []cli.Flag{configFlag,
			&cli.StringFlag{Name: "image", Usage: "check `FILE` instead, an image's document or user data"}},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if file := c.String("image"); file != "" {
				return checkImageDocument(file)
			}
			_, _, err := loadAll(c)
			return err
		},
	}
}

// loadAll reads the configuration that --config names and its access file, and says all that is wrong with both.
func loadAll(c *cli.Context) (path string, cfg *config.Config, err error) {
	path, cfg, err = load(c)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return path, nil, err
	}
	if cfg.AccessPath() == "" { // the database has them
		return path, cfg, err
	}
	files, unread := host.ReadFiles(cfg.AccessPath(), accessFiles)
	switch {
	case unread != nil && err != nil: // for a reason that is among the faults
		return path, nil, err
	case unread != nil:
		return path, nil, unreadable(unread)
	}
	options := policyOptions(cfg)
	if err != nil {
		options.VNets = nil // not all of them may have been understood
	}
	var more config.Faults
	if _, err := parsePolicy(cfg, files, options); errors.As(err, &more) {
		faults = append(faults, more...)
	} else if err != nil {
		return path, nil, err
	}
	if len(faults) > 0 {
		return path, nil, faults
	}
	return path, cfg, nil
}

// load reads the configuration that --config names.
func load(c *cli.Context) (path string, cfg *config.Config, err error) {
	if path, err = filepath.Abs(c.String("config")); err != nil {
		return "", nil, err
	}
	if cfg, err = config.Load(path); cfg == nil {
		err = unreadable(err)
	}
	return path, cfg, err
}

// unreadable says in one line that a file cannot be read.
func unreadable(err error) error {
	var file *fs.PathError
	if !errors.As(err, &file) {
		return err
	}
	hint := "name the configuration with --config FILE"
	if errors.Is(err, fs.ErrPermission) {
		hint = "run it as root, or as the user whom the file belongs to"
	}
	return fail(1, hint, "%s cannot be read: %w", file.Path, file.Err)
}
