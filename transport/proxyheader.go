package transport

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/pires/go-proxyproto"
)

// behindBalancers believes what the configured balancers say of where a connection comes from: each of their
// connections must begin with a PROXY protocol header of version 2. Nobody else's is looked at: it is no TLS, and its
// connection ends.
func (s *Server) behindBalancers(l net.Listener) net.Listener {
	if len(s.Balancers) == 0 {
		return l
	}
	return &proxyproto.Listener{
		Listener:          l,
		ReadHeaderTimeout: s.login(),
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			from := addrPort(o.Upstream).Addr()
			if slices.ContainsFunc(s.Balancers, func(p netip.Prefix) bool { return p.Contains(from) }) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
		ValidateHeader: func(h *proxyproto.Header) error {
			if h.Version != 2 {
				return errors.New("only version 2 of the PROXY protocol is understood")
			}
			return nil
		},
	}
}
