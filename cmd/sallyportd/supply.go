package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"sallyport/appliance/config"
	"sallyport/host"
)

// A supply gives the daemon what its process may not, or need not, open itself.
type supply interface {
	Listener(name string) (net.Listener, error)
	PacketConn(name string) (*net.UDPConn, error)
	Network(vnet string, v config.VNet) (network, error)
	File(path string) ([]byte, error)
	Changed() <-chan struct{}
	State() string
}

// workerSupply is what a parent gives.
type workerSupply struct {
	*host.Worker
	log *slog.Logger
}

func (s workerSupply) Network(name string, v config.VNet) (network, error) {
	if v.Link.Kind == config.LinkKernel {
		return kernelNetwork(v), nil
	}
	given, err := s.Link(name)
	if err != nil {
		return nil, err
	}
	for _, note := range given.Notes {
		s.log.Warn("the NIC is not at its best", "vnet", name, "why", note)
	}
	return attach(name, v, given)
}

// localSupply opens everything itself.
type localSupply struct {
	cfg     *config.Config
	changed chan struct{}
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

func newLocalSupply(path string, cfg *config.Config) (*localSupply, error) {
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &localSupply{cfg: cfg, changed: make(chan struct{}, 1), stop: stop}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	s.wg.Go(func() {
		defer signal.Stop(hup)
		watchFiles(ctx, hup, files(path, cfg), s.changed)
	})
	return s, nil
}

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

func (s *localSupply) Network(_ string, v config.VNet) (network, error) { return kernelNetwork(v), nil }

func (s *localSupply) File(path string) ([]byte, error) { return os.ReadFile(path) }
func (s *localSupply) Changed() <-chan struct{}         { return s.changed }
func (s *localSupply) State() string                    { return s.cfg.State }

func (s *localSupply) Close() {
	s.stop()
	s.wg.Wait()
}
