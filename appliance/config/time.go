package config

import (
	"net/netip"
	"slices"
)

func (c *checker) checkTime() {
	if n := len(c.Time.Servers); n > MaxTimeServers {
		c.Fault(c.At("time", "servers"), "four are plenty, and at most 8 are asked", "there are %d time servers", n)
	}
	for i, s := range c.Time.Servers {
		_, notAddress := netip.ParseAddr(s)
		switch at := c.At("time", "servers", i); {
		case notAddress != nil && !dnsHost.MatchString(s) && !isEndpoint(s):
			c.Fault(at, "such as ntp.example", "time server %q is not a host, or a host and a port", s)
		case slices.Contains(c.Time.Servers[:i], s):
			c.Fault(at, "", "%s is there twice", s)
		}
	}
}
