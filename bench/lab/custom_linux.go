package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"

	"sallyport/bench"
)

// A custom candidate comes from a file of --peers.
type custom struct {
	Name     string     `yaml:"name"`
	Says     string     `yaml:"says"`
	Programs []string   `yaml:"programs"`
	Gateway  [][]string `yaml:"gateway"`
	Client   [][]string `yaml:"client"`
	Address  string     `yaml:"address"`
}

var peerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

// readPeers reads a list of candidates. An unknown key is an error, and every fault is told.
func readPeers(path string) ([]*candidate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all, err := parsePeers(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

func parsePeers(b []byte) ([]*candidate, error) {
	var file struct {
		Peers []custom `yaml:"peers"`
	}
	if err := yaml.UnmarshalWithOptions(b, &file, yaml.Strict()); err != nil {
		return nil, err
	}
	var all []*candidate
	var errs []error
	for i, p := range file.Peers {
		if !peerName.MatchString(p.Name) {
			errs = append(errs, fmt.Errorf("peer %d: a name of letters, digits, dots and dashes must be given", i+1))
		}
		if p.Address == "" {
			errs = append(errs, fmt.Errorf("peer %d: address must be given: where the client dials", i+1))
		}
		for _, command := range append(p.Gateway, p.Client...) {
			if len(command) == 0 {
				errs = append(errs, fmt.Errorf("peer %d: a command is empty", i+1))
			}
		}
		all = append(all, p.candidate())
	}
	return all, errors.Join(errs...)
}

func (p custom) candidate() *candidate {
	return &candidate{
		Candidate: bench.Candidate{Name: p.Name, Kind: bench.Peer, Says: p.Says},
		custom:    true,
		programs:  p.Programs,
		prepare: func(_ context.Context, l *lab, c *candidate) error {
			dir, err := l.folder(p.Name)
			if err != nil {
				return err
			}
			cert, key, both, err := certificate(dir)
			if err != nil {
				return err
			}
			fill := strings.NewReplacer("{gateway}", gatewayService, "{target}", at(targetDirect, loadPort), "{port}", fmt.Sprint(l.port()),
				"{local}", fmt.Sprint(l.port()), "{dir}", dir, "{cert}", cert, "{key}", key, "{pem}", both)
			c.address = fill.Replace(p.Address)
			c.gateway, c.client = filled(fill, l.gateway, p.Gateway), filled(fill, l.client, p.Client)
			return nil
		},
	}
}

func filled(fill *strings.Replacer, at *space, commands [][]string) []command {
	var all []command
	for _, words := range commands {
		c := command{at: at}
		for _, w := range words {
			c.args = append(c.args, fill.Replace(w))
		}
		all = append(all, c)
	}
	return all
}
