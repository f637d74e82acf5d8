package policy

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// fakes stand in for the fence: a parser that knows a few odd spellings, and a short list of denials.
var fakes = Options{AddressSyntax: fakeSyntax, Forbidden: fakeForbidden}

func fakeSyntax(s string) (netip.Addr, bool, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr, true, nil
	}
	if n, err := strconv.ParseUint(s, 0, 32); err == nil {
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), true, nil
	}
	if looksNumeric(s) {
		return netip.Addr{}, true, errors.New("too many parts")
	}
	if strings.Contains(s, "１") {
		return netip.Addr{}, false, errors.New("full-width digits")
	}
	return netip.Addr{}, false, nil
}

func fakeForbidden(addr netip.Addr) error {
	addr = addr.Unmap()
	if nat64.Contains(addr) || contains(unreachable, addr) || addr.IsLoopback() || addr.IsMulticast() || addr.IsUnspecified() {
		return errors.New("denied by the fence")
	}
	return nil
}

// parse wants a policy out of data.
func parse(t testing.TB, data string) *Policy {
	t.Helper()
	p, err := parseOne(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parseOne reads an access.yaml that stands alone.
func parseOne(data string) (*Policy, error) {
	return Parse([]File{{"access.yaml", []byte(data)}}, fakes)
}

const sample = `
admins: [root@corp]
address_mode: on
groups:
  ops: [ann, bob]
targets:
  - name: db-09
    vnet: hub
    address: 10.0.5.9
    protocols: {ssh: [22], rdp: 3389, tcp: [5432, 5433]}
    labels: {env: prod}
  - name: web-1
    vnet: hub
    address: web-1.corp.example
    protocols: [ssh]
    labels: {env: prod, tier: web}
    host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"]
  - name: web-2
    vnet: lab
    address: fd00:1::2
    protocols: {ssh: [2222, 22]}
  - name: secret-1
    vnet: hub
    address: 10.0.9.9
    protocols: ssh
rules:
  - {name: ops databases, who: ["group:ops"], targets: [db-09], protocols: [ssh, rdp], idle: 15m, lifetime: 8h}
  - {name: everyone's web, who: ["*"], targets: ["web-*"], lifetime: 2h}
  - {name: short prod, who: [ann], labels: {env: prod}, protocols: [ssh], idle: 30m, lifetime: 1h}
  - {name: web network, who: [bob], targets: [web-1], addresses: [10.0.6.0/24]}
  - {name: lab range, who: [ann], addresses: [10.0.7.0/24], vnets: [hub], protocols: [tcp], ports: [5432, 5433]}
  - {name: lab ssh, who: [ann], addresses: [10.0.7.0/24, "fd00:7::/64"], vnets: [hub, lab]}
  - {name: secret keepers, who: [eve], targets: [secret-1], protocols: [rdp]}
`
