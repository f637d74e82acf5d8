package config

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sallyport/appliance/policy/yamlfile"
)

// A sample is a file with something wrong. The schema knows shapes only, so it takes some that the parser refuses.
type sample struct {
	what, data string
	want       string // the parser's faults
	shape      bool   // the schema sees it too
}

func with(old, new string) string { return strings.Replace(minimal[1:], old, new, 1) }

var samples = []sample{
	{"empty", "", "c:1:1: there is no vnet; such as vnets: {hub: {link: {packet: eth1}, …}}\n" +
		"c:1:1: there is no certificate under tls; give cert and key, or self_signed: true, or acme", true},
	{"three unknown keys", with("tls", "nme: x\nlissen: {}\ntls") + "    gatway: []\n", `c:1:1: unknown key "nme"; did you mean "name"?
c:2:1: unknown key "lissen"; did you mean "listen"?
c:11:5: unknown key "gatway" in vnets.hub; did you mean "gateway"?`, true},
	{"bad CIDR", with("10.0.0.0/16", "10.0.0.0/33"), `c:7:16: vnets.hub.prefixes[0] is "10.0.0.0/33", which is not an address with a prefix length; such as 10.0.0.0/16`, false},
	{"no CIDR", with("10.0.0.0/16", "10.0.0.0"), `c:7:16: vnets.hub.prefixes[0] is "10.0.0.0", which is not an address with a prefix length; such as 10.0.0.0/16`, true},
	{"host bits", with("10.0.0.0/16", "10.0.0.1/16"), `c:7:16: 10.0.0.1/16 has bits beyond its prefix length; write 10.0.0.0/16`, false},
	{"prefix twice", with("10.0.0.0/16", "10.0.0.0/16, 10.0.0.0/16"), `c:7:29: 10.0.0.0/16 is there twice`, false},
	{"loopback prefix", with("10.0.0.0/16", "10.0.0.0/16, 127.0.0.0/8"), `c:7:29: flows can never go to 127.0.0.0/8: loopback, link-local and multicast addresses are denied; leave it out`, false},
	{"address outside the prefixes", with("10.0.0.4/24", "10.2.0.4/8"), `c:5:17: address 10.2.0.4 lies in none of the prefixes of vnet "hub"; add its network to prefixes or mend it`, false},
	{"network address", with("10.0.0.4/24", "10.0.0.0/24"), `c:5:17: 10.0.0.0 is the network's own address or its broadcast address`, false},
	{"broadcast address", with("10.0.0.4/24", "10.0.0.255/24"), `c:5:17: 10.0.0.255 is the network's own address or its broadcast address`, false},
	{"first use of a host key", with("tls", "ssh: {first_use: ask}\ntls"), `c:1:18: ssh.first_use must be accept or confirm`, true},
	{"NIC by half a MAC", with("packet: eth1", `packet: "52:54:00:00"`), `c:4:20: "52:54:00:00" is not the name of a network interface; such as eth1`, true},
	{"machine without an interface", with("tls", "machine: {addresses: dhcp}\ntls"), `c:1:11: machine.addresses is for an interface, and there is none; say machine: {interface: eth0, …}, or leave it out`, true},
	{"machine without addresses", with("tls", "machine: {interface: eth0}\ntls"), `c:1:11: machine has no addresses; such as addresses: [10.0.0.4/24], or dhcp`, true},
	{"machine with a VNet's NIC", with("tls", "machine: {interface: eth1, addresses: dhcp}\ntls"), `c:1:22: interface "eth1" is the link of vnets.hub too; give each its own, or listen on the vnet: listen: {vnet: …}`, false},
	{"machine beside a stack", with("tls", "machine: {interface: eth0, addresses: dhcp}\nlisten: {vnet: hub}\ntls"),
		`c:1:22: machine.interface is for listen.address, and people come in by a stack of the appliance's own; leave it out: the kernel needs no address`, false},
	{"data nowhere", with("tls", "machine: {data: memory}\ntls"), `c:1:17: machine.data must be attached; or leave it out: then the image's own disk has the data`, true},
	{"code for nobody", with("tls", `machine: {enrol: " "}`+"\ntls"), `c:1:18: machine.enrol is " ", which is nobody's name`, false},
	{"files", with("tls", "files:\n  access.yaml: |\n    x\ntls"), `c:1:1: only the document of an image has files in it; write each of them beside this one, or check with --image`, false},
	{"banner of two lines", with("tls", `banner: "a\nb"`+"\ntls"), `c:1:9: banner must be one line of at most 500 printable characters`, false},
	{"time server that is none", with("tls", "time: {servers: [http://ntp.example]}\ntls"), `c:1:18: time server "http://ntp.example" is not a host, or a host and a port; such as ntp.example`, false},
	{"time server twice", with("tls", "time: {servers: [ntp.example, ntp.example]}\ntls"), `c:1:31: ntp.example is there twice`, false},
	{"many time servers", with("tls", "time: {servers: [a, b, c, d, e, f, g, h, i]}\ntls"), `c:1:17: there are 9 time servers; four are plenty, and at most 8 are asked`, true},
	{"identity without a URL", with("tls", "identity: {lasts: 1h}\ntls"), `c:1:12: identity.url is "", which is not the appliance's address; such as https://bastion.example`, true},
	{"identity at a path", with("tls", "identity: {url: https://a.example:8443/b}\ntls"),
		`c:1:17: identity.url is "https://a.example:8443/b", which goes on behind the address: the appliance has all of a name; write https://a.example:8443`, true},
	{"identity in clear", with("tls", "identity: {url: http://a.example}\ntls"), `c:1:17: identity.url is "http://a.example", which is not the appliance's address; such as https://bastion.example`, true},
	{"identity by a name that DNS has otherwise", with("tls", "identity: {url: https://bücher.example}\ntls"),
		`c:1:17: identity.url is "https://bücher.example", and browsers write its name otherwise; write it as DNS has it, with xn--`, false},
	{"passkeys of an address", with("tls", "identity: {url: https://192.0.2.1}\ntls"), `c:1:17: identity.url has an IP address; passkeys belong to names; such as https://bastion.example`, false},
	{"sign-in for ever", with("tls", "identity: {url: https://a.example, lasts: 9999h}\ntls"), `c:1:43: identity.lasts must be 1m0s to 2160h0m0s`, false},
	{"provider in clear", with("tls", "identity: {url: https://a.example, providers: [{name: a, issuer: http://id.example, client_id: c}]}\ntls"),
		`c:1:66: the issuer "http://id.example" is not an https URL; such as https://id.corp.example`, false},
	{"provider without a client", with("tls", "identity: {url: https://a.example, providers: [{name: a, issuer: https://id.example}]}\ntls"),
		`c:1:49: provider "a" has no client_id; the provider gives you one when you register the appliance`, true},
	{"provider twice", with("tls", "identity: {url: https://a.example, providers: [{name: a, issuer: https://id.example, client_id: c}, {name: a, issuer: https://id.example, client_id: c}]}\ntls"),
		`c:1:108: there are two providers "a"`, false},
	{"provider without openid", with("tls", "identity: {url: https://a.example, providers: [{name: a, issuer: https://id.example, client_id: c, scopes: [email]}]}\ntls"),
		`c:1:108: the scopes of provider "a" are without openid; add openid`, false},
	{"user names of a strange claim", with("tls", "identity: {url: https://a.example, providers: [{name: a, issuer: https://id.example, client_id: c, user: nick}]}\ntls"),
		`c:1:106: user names come from preferred_username, email or sub, not from "nick"`, true},
	{"guests for months", with("tls", "limits: {guest_link: 1000h}\ntls"), `c:1:22: limits.guest_link must be 1m to 720h`, false},
	{"approval for days", with("tls", "limits: {approved: 72h}\ntls"), `c:1:20: limits.approved must be at most 24h`, false},
	{"audit kept for no time", with("tls", "audit: {keep_days: 0}\ntls"), `c:1:20: audit.keep_days must be 1 to 1000000`, true},
	{"audit synced too late", with("tls", "audit: {sync: 1m}\ntls"), `c:1:15: audit.sync must be at most 10s; a loss of power may cost as much`, false},
	{"receiver of no form", with("tls", "audit: {export: [{name: a}]}\ntls"), `c:1:25: receiver "a" must have one of file, syslog, webhook, otlp and database`, true},
	{"receiver of two forms", with("tls", "audit: {export: [{name: a, file: a, syslog: a.example:1}]}\ntls"), `c:1:25: receiver "a" must have one of file, syslog, webhook, otlp and database`, true},
	{"receiver without a name", with("tls", "audit: {export: [{file: a}]}\ntls"), `c:1:19: the receiver's name "" must be 1 to 32 of a-z, 0-9 and -; such as siem`, true},
	{"two receivers of a name", with("tls", "audit: {export: [{name: a, file: a}, {name: a, file: b}]}\ntls"), `c:1:45: there are two receivers "a"`, false},
	{"receiver at no URL", with("tls", "audit: {export: [{name: a, webhook: a.example}]}\ntls"), `c:1:37: "a.example" is not a URL; such as https://siem.example/in`, true},
	{"receiver at no port", with("tls", "audit: {export: [{name: a, syslog: a.example}]}\ntls"), `c:1:36: "a.example" is not a host and a port; such as siem.example:6514`, false},
	{"token for syslog", with("tls", "audit: {export: [{name: a, syslog: a.example:1, token_file: t}]}\ntls"), `c:1:61: only webhook and otlp take a token; leave it out`, false},
	{"no queues", with("packet: eth1", "packet: eth1, queues: 0"), `c:4:34: queues must be 1 to 16; leave it out for one for every two CPUs`, true},
	{"too many queues", with("packet: eth1", "packet: eth1, queues: 17"), `c:4:34: queues must be 1 to 16; leave it out for one for every two CPUs`, true},
	{"queues of a TAP", with("packet: eth1", "tap: eth1, queues: 2"), `c:4:31: only a packet link has queues; leave it out`, true},
	{"queues of nothing", with("packet: eth1", "queues: 2"), `c:4:12: vnets.hub.link must have one of packet, tap, wireguard and kernel; such as {packet: eth1}`, true},
	{"gateway not on the link", with("10.0.0.1,", "10.0.1.1,"), `c:6:15: gateway 10.0.1.1 is not on the link; it must lie in the network of one of the addresses`, false},
	{"gateway is the appliance", with("10.0.0.1,", "10.0.0.4,"), `c:6:15: gateway 10.0.0.4 is the appliance's own address`, false},
	{"two gateways of a family", with("10.0.0.1,", "10.0.0.1, 10.0.0.3,"), `c:6:25: there is a gateway of this family already`, true},
	{"no gateway address", with("10.0.0.1,", "router,"), `c:6:15: vnets.hub.gateway[0] is "router", which is not an IP address; such as 10.0.0.4`, true},
	{"both kinds of certificate", with("self_signed: true", "self_signed: true, cert: a, key: b"), `c:1:1: tls has more than one kind of certificate; give cert and key, or self_signed: true, or acme`, true},
	{"cert without key", with("self_signed: true", "cert: a"), `c:1:1: tls has no key`, true},
	{"self_signed: false", with("self_signed: true", "self_signed: false"), `c:1:1: there is no certificate under tls; give cert and key, or self_signed: true, or acme`, true},
	{"acme without domains", with("self_signed: true", "acme: {}"), `c:1:7: tls.acme has no domains; such as domains: [bastion.example]`, true},
	{"acme for a local name", with("self_signed: true", "acme: {domains: [localhost]}"), `c:1:24: "localhost" is not a public DNS name in lower case`, false},
	{"yes is not true", with("self_signed: true", "self_signed: yes"), `c:1:20: tls.self_signed must be true or false, not text`, true},
	{"unknown uplink", with("tls", "uplink: hubb\ntls"), `c:1:9: there is no uplink "hubb"; did you mean "hub"?`, false},
	{"uplink that does not listen", with("tls", "uplink: listen\ntls"), `c:1:9: uplink is listen, but the kernel listens; write uplink: kernel`, false},
	{"authority by name, uplink without dns", strings.Replace(with("tls: {self_signed: true}", "uplink: hub\ntls: {acme: {domains: [bastion.example]}}"), "    dns: [10.0.0.2]\n", "", 1),
		`c:1:9: uplink hub has no name server to look up the ACME authority at; list name servers in vnets.hub.dns`, false},
	{"authority by name, listen without dns", with("tls: {self_signed: true}", "uplink: listen\nlisten: {link: {packet: eth0}, addresses: [192.0.2.4/24]}\ntls: {acme: {domains: [bastion.example]}}"),
		`c:1:9: uplink listen has no name server to look up the ACME authority at; list name servers in listen.dns`, false},
	{"listen on a vnet with dns", with("tls", "listen: {vnet: hub, dns: [10.0.0.2]}\ntls"), `c:1:21: listen.dns does not go with listen.vnet; leave it out`, true},
	{"listen with a bad DNS server", with("tls", "listen: {link: {packet: eth0}, addresses: dhcp, dns: [0.0.0.0]}\ntls"), `c:1:55: 0.0.0.0 cannot be a DNS server`, false},
	{"listen on an unknown vnet", with("tls", "listen: {vnet: hup}\ntls"), `c:1:16: there is no vnet "hup"; did you mean "hub"?`, false},
	{"listen in two forms", with("tls", "listen: {vnet: hub, address: \":443\"}\ntls"), `c:1:1: listen must have one of address, vnet and link`, true},
	{"listen on a vnet with a proxy", with("tls", "listen: {vnet: hub, proxy_protocol: [10.0.0.0/8]}\ntls"), `c:1:21: listen.proxy_protocol does not go with listen.vnet; leave it out`, true},
	{"a balancer of the kernel's sockets", with("tls", "listen: {address: \":443\", balanced: 203.0.113.7}\ntls"), `c:1:27: listen.balanced does not go with listen.address; leave it out`, true},
	{"a balancer at no address", with("tls", "listen: {vnet: hub, balanced: lb.example}\ntls"), `c:1:31: listen.balanced is "lb.example", which is not an IP address; such as 10.0.0.4`, true},
	{"a balancer on loopback", with("tls", "listen: {vnet: hub, balanced: 127.0.0.1}\ntls"), `c:1:31: 127.0.0.1 is not the address of a load balancer; it is where people come to`, false},
	{"a balancer that is the appliance", with("tls", "listen: {vnet: hub, balanced: 10.0.0.4}\ntls"), `c:1:31: 10.0.0.4 is the appliance's own address already; leave it out`, false},
	{"listen with a port of its own", with("tls", "listen: {address: \":443\", port: 444}\ntls"), `c:1:27: listen.port does not go with listen.address; leave it out`, true},
	{"listen on port 0 of a vnet", with("tls", "listen: {vnet: hub, port: 0}\ntls"), `c:1:27: listen.port is 0; a port is 1 to 65535`, true},
	{"listen on too high a port", with("tls", "listen: {vnet: hub, port: 65536}\ntls"), `c:1:27: listen.port is 65536; it must be at most 65535`, true},
	{"listen on a name", with("tls", "listen: {address: \"localhost:443\"}\ntls"), `c:1:19: listen.address is "localhost:443", which is not an address and a port; such as ":443" or "192.0.2.1:443"`, true},
	{"listen on no port", with("tls", "listen: {address: \"192.0.2.1:99999\"}\ntls"), `c:1:19: listen.address is "192.0.2.1:99999", which is not an address and a port; such as ":443" or "192.0.2.1:443"`, false},
	{"listen on a vnet's NIC", with("tls", "listen: {link: {packet: eth1}, addresses: dhcp}\ntls"), `c:1:25: interface "eth1" is the link of vnets.hub too; give each its own, or listen on the vnet: listen: {vnet: …}`, false},
	{"listen on a link without addresses", with("tls", "listen: {link: {packet: eth0}}\ntls"), `c:1:10: listen has no addresses; such as addresses: [10.0.0.4/24], or dhcp`, false},
	{"no link", with("    link: {packet: eth1}\n", ""), `c:3:3: vnet "hub" has no link; such as link: {packet: eth1}`, true},
	{"two links", with("{packet: eth1}", "{packet: eth1, tap: t0}"), `c:4:12: vnets.hub.link must have one of packet, tap, wireguard and kernel; such as {packet: eth1}`, true},
	{"link without a name", with("{packet: eth1}", "{packet: \"\"}"), `c:4:20: "" is not the name of a network interface; such as eth1`, true},
	{"name of a link that is none", with("{packet: eth1}", "{packet: ../eth1}"), `c:4:20: "../eth1" is not the name of a network interface; such as eth1`, true},
	{"kernel with addresses", with("{packet: eth1}", "{kernel: {}}"), `c:5:16: vnets.hub has the kernel's addresses; leave addresses and gateway out`, false},
	{"no prefixes", with("    prefixes: [10.0.0.0/16, \"fd00:1::/48\"]\n", ""), `c:3:3: vnet "hub" has no prefixes; list the networks that flows may go to, such as [10.0.0.0/16]`, true},
	{"no addresses", with("    addresses: [10.0.0.4/24, \"fd00:1::4/64\"]\n", ""), `c:4:5: vnets.hub has no addresses; such as addresses: [10.0.0.4/24], or dhcp`, false},
	{"empty addresses", with("[10.0.0.4/24, \"fd00:1::4/64\"]", "[]"), `c:5:16: vnets.hub.addresses is empty; give an address such as 10.0.0.4/24, or dhcp`, true},
	{"static is no word", with("[10.0.0.4/24, \"fd00:1::4/64\"]", "static"), `c:5:16: vnets.hub.addresses must be dhcp or a list; such as [10.0.0.4/24]`, true},
	{"multicast DNS server", with("[10.0.0.2]", "[224.0.0.1]"), `c:8:11: 224.0.0.1 cannot be a DNS server`, false},
	{"bad vnet name", with("  hub:", "  Hub_1:"), `c:3:3: vnet name "Hub_1" must be 1 to 32 of a-z, 0-9 and -`, true},
	{"reserved vnet name", with("  hub:", "  kernel:"), `c:3:3: vnet name "kernel" has a meaning of its own under uplink; choose another`, true},
	{"vnet twice", minimal[1:] + "  hub: {}\n", `c:9:3: key "hub" is given twice; the first is in line 3`, true},
	{"NIC twice", minimal[1:] + "  lab: {link: {tap: eth1}, addresses: dhcp, prefixes: [10.0.0.0/8]}\n", `c:9:21: interface "eth1" is the link of vnets.hub too; give each its own, or listen on the vnet: listen: {vnet: …}`, false},
	{"WireGuard without anything", with("{packet: eth1}", "{wireguard: {}}"), `c:4:23: the tunnel has no private_key_file; wg genkey makes one
c:4:23: the tunnel has no peers`, true},
	{"WireGuard by DHCP", minimal[1:] + `  lab:
    link: {wireguard: {private_key_file: k, peers: [{public_key: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", allowed: [10.0.0.0/8]}]}}
    addresses: dhcp
    prefixes: [10.0.0.0/8]
`, `c:11:16: there is no DHCP in a WireGuard tunnel; list the addresses`, false},
	{"WireGuard to nobody", minimal[1:] + `  lab:
    link: {wireguard: {private_key_file: k, mtu: 1000, peers: [{public_key: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", allowed: [10.0.0.0/16], keepalive: 1500ms}]}}
    addresses: [10.200.0.1/32]
    prefixes: [10.0.3.0/24, 10.0.0.0/8]
    dns: [10.0.0.2, 10.1.0.2]
`, `c:10:50: the tunnel's mtu must be 1280 to 9000; 1420 fits into Ethernet's 1500
c:10:160: keepalive must be whole seconds, 65535 at most; such as 25s
c:12:29: no peer is allowed all of 10.0.0.0/8; add it to allowed of the peer that it lies behind
c:13:21: no peer is allowed 10.1.0.2; add it to allowed of the peer that it lies behind`, true},
	{"WireGuard key", with("{packet: eth1}", "{wireguard: {private_key_file: k, peers: [{public_key: AAAA, allowed: [10.0.0.0/8], endpoint: \"x:0\"}]}}"),
		`c:4:66: vnets.hub.link.wireguard.peers[0].public_key: a WireGuard key is 44 characters of base64; wg pubkey prints one
c:4:105: endpoint "x:0" is not a host and a port; such as vpn.example:51820
c:7:29: no peer is allowed all of fd00:1::/48; add it to allowed of the peer that it lies behind`, true},
	{"update key", with("tls", "update: {keys: [AAAA]}\ntls"), `c:1:17: update.keys[0]: a key is 44 characters of base64; sallyport-image update-key prints one`, true},
	{"update keys", with("tls", "update: {keys: ["+strings.Repeat(`"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", `, 5)+"]}\ntls"), `c:1:16: update.keys are 5; at most 4; leave out what signs no more`, true},
	{"metrics without port", with("tls", "metrics: {listen: localhost}\ntls"), `c:1:19: metrics.listen is "localhost", which is not an address and a port; such as "127.0.0.1:9090"`, true},
	{"grace without unit", with("tls", "drain: {grace: 30}\ntls"), `c:1:16: drain.grace is 30 without a unit; write a number and its unit, such as 15m, 8h or 1h30m`, true},
	{"grace of zero", with("tls", "drain: {grace: 0s}\ntls"), `c:1:16: drain.grace is "0s", which is not a length of time; write a number and its unit, such as 15m, 8h or 1h30m`, false},
	{"limit of zero", with("tls", "limits: {flows: 0}\ntls"), `c:1:17: limits.flows must be 1 to 1000000`, true},
	{"limit too high", with("tls", "limits: {flows: 1000001}\ntls"), `c:1:17: limits.flows must be 1 to 1000000`, true},
	{"negative limit", with("tls", "limits: {flows: -1}\ntls"), `c:1:17: limits.flows is -1; it must be a whole number from 0 to 2147483647 in plain decimal`, true},
	{"name that is a number", with("tls", "name: 42\ntls"), `c:1:7: name must be text, not a whole number; put it in quotes: "42"`, true},
	{"empty name", with("tls", "name: \"\"\ntls"), `c:1:7: name "" must be 1 to 64 printable characters`, true},
	{"name with an escape", with("tls", "name: \"a\\eb\"\ntls"), `c:1:7: name "a\x1bb" must be 1 to 64 printable characters`, false},
	{"run_as", with("tls", "run_as: \"a b\"\ntls"), `c:1:9: run_as is "a b", which is neither a user's name nor a number`, true},
	{"state is the root", with("tls", "state: /\ntls"), `c:1:8: state must be a folder of its own; such as /var/lib/sallyport`, false},
	{"store of another kind", with("tls", "store: {url: \"mysql://db/x\"}\ntls"), `c:1:14: store.url is not the URL of a PostgreSQL database; such as postgres://sallyport@db.example/sallyport?sslmode=verify-full`, true},
	{"store without a database", with("tls", "store: {url: \"postgres://db/\"}\ntls"), `c:1:14: store.url is not the URL of a PostgreSQL database; such as postgres://sallyport@db.example/sallyport?sslmode=verify-full`, false},
	{"store with a password", with("tls", "store: {url: \"postgres://ann:hunter2@db/x\"}\ntls"), `c:1:14: store.url holds a password; put it into a file and name that as store.password_file`, false},
	{"store with a password elsewhere", with("tls", "store: {url: \"postgres://db/x?password=hunter2\"}\ntls"), `c:1:14: store.url holds a password; put it into a file and name that as store.password_file`, false},
	{"password for no store", with("tls", "store: {password_file: pw}\ntls"), `c:1:9: store.password_file is for a database that store.url names; give store.url too`, true},
	{"store before listening", with("tls: {self_signed: true}", "uplink: listen\nlisten: {link: {packet: eth0}, addresses: dhcp}\nstore: {url: \"postgres://db/x\"}\ntls: {self_signed: true}"), `c:3:14: the database is needed before the appliance listens, and uplink is listen; write uplink: kernel, or a VNet's name`, false},
	{"state is empty", with("tls", "state: \"\"\ntls"), `c:1:8: state is empty`, true},
	{"no file for the identity key", with("tls", "identity_key: \"\"\ntls"), `c:1:15: identity_key is empty`, true},
	{"access is empty", with("tls", "access: \"\"\ntls"), `c:1:9: access is empty`, true},
	{"a list for the file", "- a\n", `c:1:1: the file must be a mapping, not a list`, true},
	{"a key without a value", with("tls: {self_signed: true}", "tls:"), `c:1:1: tls has no value; give it one or leave the key out`, true},
}

func TestFaults(t *testing.T) {
	for _, s := range samples {
		t.Run(s.what, func(t *testing.T) {
			_, err := Parse("c", []byte(s.data))
			if err == nil {
				t.Fatal("no fault")
			}
			if got := err.Error(); got != s.want {
				t.Errorf("got\n%s\nwant\n%s\nof\n%s", got, s.want, s.data)
			}
		})
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// matchesSchema is what an editor would say of a file.
func matchesSchema(schema *jsonschema.Schema, data string) error {
	var value any
	if err := yaml.Unmarshal([]byte(data), &value); err != nil {
		return err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return err
	}
	decoded, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	return schema.Validate(decoded)
}

func TestSchemaAgreesWithParser(t *testing.T) {
	schema := compileSchema(t)
	good := []string{minimal, full}
	for _, listen := range []string{"{vnet: hub}", "{vnet: hub, port: 8443}", "{vnet: hub, balanced: 203.0.113.7}", "{link: {tap: t1}, addresses: dhcp}", "{address: \":0\"}", "{address: \"[::1]:443\"}"} {
		good = append(good, with("tls", "listen: "+listen+"\ntls"))
	}
	for _, tls := range []string{"{cert: a, key: b}", "{acme: {domains: [a.example]}}"} {
		good = append(good, with("{self_signed: true}", tls))
	}
	for _, data := range good {
		if _, err := Parse("c", []byte(data)); err != nil {
			t.Errorf("the parser refuses:\n%s\n%v", data, err)
		}
		if err := matchesSchema(schema, data); err != nil {
			t.Errorf("the schema refuses:\n%s\n%v", data, err)
		}
	}
	for _, s := range samples {
		if err := matchesSchema(schema, s.data); s.shape != (err != nil) {
			t.Errorf("%s: the schema says %v, want a fault: %v", s.what, err, s.shape)
		}
	}
}

// structs are those of the file, by the path of their schema.
var structs = map[string]reflect.Type{
	"":                                     reflect.TypeFor[Config](),
	"properties/store":                     reflect.TypeFor[Store](),
	"properties/identity":                  reflect.TypeFor[Identity](),
	"properties/identity/properties/local": reflect.TypeFor[Local](),
	"properties/identity/properties/providers/items":                reflect.TypeFor[Provider](),
	"properties/identity/properties/providers/items/properties/mfa": reflect.TypeFor[MFA](),
	"properties/metrics":                     reflect.TypeFor[Metrics](),
	"properties/update":                      reflect.TypeFor[Update](),
	"properties/drain":                       reflect.TypeFor[Drain](),
	"properties/grants":                      reflect.TypeFor[Grants](),
	"properties/time":                        reflect.TypeFor[Time](),
	"properties/ssh":                         reflect.TypeFor[SSH](),
	"properties/limits":                      reflect.TypeFor[Limits](),
	"$defs/listen":                           reflect.TypeFor[Listen](),
	"$defs/tls":                              reflect.TypeFor[TLS](),
	"$defs/tls/properties/acme":              reflect.TypeFor[ACME](),
	"$defs/vnet":                             reflect.TypeFor[VNet](),
	"$defs/link":                             reflect.TypeFor[Link](),
	"$defs/wireguard":                        reflect.TypeFor[WireGuard](),
	"$defs/wireguard/properties/peers/items": reflect.TypeFor[Peer](),
}

func TestSchemaHasEveryKey(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, typ := range structs {
		at := doc
		for step := range strings.SplitSeq(path, "/") {
			if step != "" {
				at, _ = at[step].(map[string]any)
			}
		}
		properties, _ := at["properties"].(map[string]any)
		keys := yamlfile.Keys(typ)
		for _, key := range keys {
			if properties[key] == nil {
				t.Errorf("%s: the schema lacks %s", typ, key)
			}
		}
		if len(properties) != len(keys) || at["additionalProperties"] != false {
			t.Errorf("%s: the schema has other keys too: %v", typ, properties)
		}
	}
}

const docs = "../../docs/configuration.md"

func TestDocsHaveEveryKey(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range structs {
		for _, key := range yamlfile.Keys(typ) {
			if !regexp.MustCompile("(?m)^\\| `([a-z_.]+\\.)?" + key + "` \\|").Match(text) {
				t.Errorf("docs/configuration.md has no row for %s of %s", key, typ)
			}
		}
	}
}

func TestExamplesInDocsParse(t *testing.T) {
	schema, examples := compileSchema(t), 0
	parses := func(data string) {
		t.Helper()
		examples++
		if _, err := Parse("c", []byte(data)); err != nil {
			t.Errorf("%s\n%v", data, err)
		}
		if err := matchesSchema(schema, data); err != nil {
			t.Errorf("%s\n%v", data, err)
		}
	}
	for _, page := range []string{docs, "../../docs/sign-in.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
			data := string(block[1])
			if !strings.Contains(data, "vnets:") { // a part of a file
				data = minimal + data
				if strings.Contains(string(block[1]), "tls:") {
					data = strings.Replace(data, "tls: {self_signed: true}\n", "", 1)
				}
			}
			parses(data)
		}
	}
	if examples < 6 {
		t.Errorf("only %d examples are in the docs", examples)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "    # /etc/sallyport/sallyport.yaml\n")
	text, _, ended := strings.Cut(text, "\n\n")
	if !found || !ended {
		t.Fatal("the README has no configuration")
	}
	parses(strings.ReplaceAll("\n"+text, "\n    ", "\n"))
}
