package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"sallyport/appliance/config"
	"sallyport/host"
)

// A supply gives the daemon what its process may not, or need not, open itself.
type supply interface {
	Listener(name string) (net.Listener, error)
	PacketConn(name string) (*net.UDPConn, error)
	// Network attaches a VNet whose stack listens on the given ports, which are few.
	Network(vnet string, v config.VNet, serve []uint16) (network, error)
	File(path string) ([]byte, error)
	// Files are a file by its name, or those of a folder that count.
	Files(path string) (map[string][]byte, error)
	Changed() <-chan struct{}
	State() string
	// Updates is who changes the version of the image; nil where nobody can.
	Updates() parentUpdates
	// Serving has whoever watches over the process ask test whether it still does its work, until Draining.
	Serving(test func(context.Context) error)
	Draining()
	// SetClock has the parent correct this machine's clock.
	SetClock(offset time.Duration) error
}

// firstLease is how long the daemon waits, at its start and for all VNets together, for DHCP servers to answer.
const firstLease = 10 * time.Second

// workerSupply is what a parent gives.
type workerSupply struct {
	*host.Worker
	log    *slog.Logger
	leased time.Time // when waiting for leases ends
}

func (s workerSupply) Updates() parentUpdates { return s.Worker }

func (s workerSupply) Network(name string, v config.VNet, serve []uint16) (network, error) {
	n := &vnet{name: name, config: v, serve: serve, log: s.log}
	switch v.Link.Kind {
	case config.LinkKernel:
		return kernelNetwork(v), nil
	case config.LinkWireGuard:
		n.open = func() (opened, error) {
			return openTunnel(s, v.Link.WireGuard, func() (net.PacketConn, error) { return s.PacketConn(tunnelSocket(name)) })
		}
	default:
		n.open, n.relink = func() (opened, error) { return openGiven(s.Worker, name, v, s.log) }, relinkGiven(s.Worker, name)
	}
	return n, n.start(s.leased)
}

// tunnelBuffer is what a tunnel's socket may queue: its packets come in bursts.
const tunnelBuffer = 8 << 20

// localSupply opens everything itself.
type localSupply struct {
	cfg     *config.Config
	log     *slog.Logger
	changed chan struct{}
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	manager  host.Manager
	draining context.CancelFunc
}

func newLocalSupply(path string, cfg *config.Config, log *slog.Logger) (*localSupply, error) {
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &localSupply{cfg: cfg, log: log, changed: make(chan struct{}, 1), ctx: ctx, stop: stop}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	s.wg.Go(func() {
		defer signal.Stop(hup)
		watchFiles(ctx, hup, files(path, cfg), s.changed)
	})
	return s, nil
}

func (s *localSupply) Updates() parentUpdates { return nil }

func (s *localSupply) Listener(name string) (net.Listener, error) {
	if name == "metrics" {
		return net.Listen("tcp", s.cfg.Metrics.Listen)
	}
	return net.Listen("tcp", s.cfg.Listen.Address)
}

func (s *localSupply) PacketConn(string) (*net.UDPConn, error) {
	address, err := net.ResolveUDPAddr("udp", s.cfg.Listen.Address)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", address)
}

func (s *localSupply) Network(name string, v config.VNet, serve []uint16) (network, error) {
	if v.Link.Kind == config.LinkKernel {
		return kernelNetwork(v), nil
	}
	n := &vnet{name: name, config: v, serve: serve, log: s.log, open: func() (opened, error) { // a tunnel: what else there is needs a parent
		return openTunnel(s, v.Link.WireGuard, func() (net.PacketConn, error) {
			c, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(v.Link.WireGuard.ListenPort)})
			if err == nil { // as much as the kernel allows; a parent would force it
				err = errors.Join(c.SetReadBuffer(tunnelBuffer), c.SetWriteBuffer(tunnelBuffer))
			}
			return c, err
		})
	}}
	return n, n.start(time.Now())
}

func (s *localSupply) File(path string) ([]byte, error) { return os.ReadFile(path) }
func (s *localSupply) Files(path string) (map[string][]byte, error) {
	return host.ReadFiles(path, accessFiles)
}
func (s *localSupply) Changed() <-chan struct{} { return s.changed }
func (s *localSupply) State() string            { return s.cfg.State }

// Serving tells the service manager, if there is one, that the appliance serves, and goes on telling it so.
func (s *localSupply) Serving(test func(context.Context) error) {
	ctx, stop := context.WithCancel(s.ctx)
	s.draining = stop
	s.wg.Go(func() { s.manager.Watch(ctx, test) })
}

func (s *localSupply) Draining() {
	s.draining()
	s.manager.Stopping()
}

// SetClock never sets it: where the configuration names time servers there is a parent.
func (s *localSupply) SetClock(time.Duration) error { return errors.ErrUnsupported }

func (s *localSupply) Close() {
	s.stop()
	s.wg.Wait()
}
