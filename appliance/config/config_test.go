package config

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const minimal = `
tls: {self_signed: true}
vnets:
  hub:
    link: {packet: eth1}
    addresses: [10.0.0.4/24, "fd00:1::4/64"]
    gateway: [10.0.0.1, "fe80::1"]
    prefixes: [10.0.0.0/16, "fd00:1::/48"]
    dns: [10.0.0.2]
`

const full = `
name: bastion one
listen: {address: "192.0.2.1:8443", proxy_protocol: [198.51.100.0/24]}
tls: {cert: server.crt, key: /etc/server.key}
state: state
store: {url: "postgres://sallyport@db.example/sallyport", password_file: db.password}
uplink: lab
vnets:
  hub:
    link: {tap: t0}
    addresses: dhcp
    prefixes: [10.0.0.0/8]
    deny: [10.9.0.0/16]
  lab:
    link:
      wireguard:
        private_key_file: wg.key
        listen_port: 51820
        peers:
          - public_key: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
            preshared_key_file: psk
            endpoint: vpn.example:51820
            allowed: [10.0.0.0/8]
            keepalive: 25s
    addresses: [10.1.0.2/32]
    prefixes: [10.1.0.0/16]
  here:
    link: {kernel: {}}
    prefixes: [127.0.0.0/8, 192.168.0.0/16]
access: policy/access.yaml
metrics: {listen: "127.0.0.1:9090"}
run_as: sallyport
drain: {grace: 5m}
limits: {flows: 100, flows_per_user: 10, unauthenticated: 20, dial_timeout: 3s, resolve_timeout: 2s, grace: 5m, detached: 50, approval: 1m, approved: 1h, guest_link: 48h, bench: 4, bench_mbit: 1000}
ssh: {first_use: confirm}
update: {keys: ["AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="]}
identity_key: fleet.key
banner: what you do here is written down
time: {servers: [ntp.example, "192.0.2.1:1123", "2001:db8::1"]}
identity:
  url: https://bastion.example
  lasts: 8h
  refresh: 5m
  token: 2m
  providers:
    - {name: corp, issuer: "https://id.corp.example", client_id: sallyport, client_secret_file: corp.secret, scopes: [openid, groups], user: email, groups: roles, mfa: {amr: [mfa], acr: [gold]}}
  local: {password_alone: true}
audit:
  sync: 1s
  wait: true
  keep_days: 30
  keep_mb: 100
  export:
    - {name: siem, syslog: "siem.example:6514", ca: siem.pem}
    - {name: copy, file: audit.jsonl}
    - {name: hook, webhook: "https://hook.example/in", token_file: hook.token}
    - {name: otel, otlp: "https://otel.example/v1/logs"}
`

func TestDefaults(t *testing.T) {
	got, err := Parse("/etc/sallyport/sallyport.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Name: "sallyport", Listen: Listen{Address: ":443"}, TLS: TLS{SelfSigned: true}, State: "/var/lib/sallyport", Uplink: "kernel",
		VNets: map[string]VNet{"hub": {
			Link:      Link{Kind: LinkPacket, Packet: "eth1"},
			Addresses: Addresses{Static: []netip.Prefix{netip.MustParsePrefix("10.0.0.4/24"), netip.MustParsePrefix("fd00:1::4/64")}},
			Gateway:   []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")},
			Prefixes:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00:1::/48")},
			DNS:       []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		}},
		Access: "/etc/sallyport/access.yaml", Drain: Drain{30 * time.Second}, Grants: Grants{5 * time.Minute}, SSH: SSH{"accept"},
		Limits: Limits{10000, 256, 64, 10 * time.Second, 5 * time.Second, time.Hour, 2000, 10 * time.Minute, 8 * time.Hour, 24 * time.Hour, 2, 500},
		Audit:  Audit{Sync: 100 * time.Millisecond, KeepDays: 365, KeepMB: 4096},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

// TestURLOfIdentity: what browsers say in Origin is compared to the letter, so the address is in force as they write it.
func TestURLOfIdentity(t *testing.T) {
	for written, want := range map[string]string{
		"https://a.example": "https://a.example", "HTTPS://Bastion.Example": "https://bastion.example", "https://a.example/": "https://a.example",
		"https://a.example:443/": "https://a.example", "https://a.example:8443": "https://a.example:8443", "https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
		"https://[2001:DB8:0::1]:443": "https://[2001:db8::1]",
	} {
		data := with("tls", "identity: {url: \""+written+"\", providers: [{name: corp, issuer: https://id.example, client_id: c}]}\ntls")
		c, err := Parse("c", []byte(data))
		if err != nil || c.Identity.URL != want {
			t.Errorf("%s: %q, %v", written, c.Identity.URL, err)
		}
		if err := matchesSchema(compileSchema(t), data); err != nil {
			t.Errorf("the schema refuses %s: %v", written, err)
		}
	}
}

func TestFull(t *testing.T) {
	got, err := Parse("conf/sallyport.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix
	want := &Config{
		Name:   "bastion one",
		Listen: Listen{Address: "192.0.2.1:8443", ProxyProtocol: []netip.Prefix{prefix("198.51.100.0/24")}},
		TLS:    TLS{Cert: "conf/server.crt", Key: "/etc/server.key"}, State: "conf/state", Uplink: "lab",
		Store: Store{URL: "postgres://sallyport@db.example/sallyport", PasswordFile: "conf/db.password"},
		VNets: map[string]VNet{
			"hub": {Link: Link{Kind: LinkTap, Tap: "t0"}, Addresses: Addresses{DHCP: true},
				Prefixes: []netip.Prefix{prefix("10.0.0.0/8")}, Deny: []netip.Prefix{prefix("10.9.0.0/16")}},
			"lab": {Link: Link{Kind: LinkWireGuard, WireGuard: WireGuard{PrivateKeyFile: "conf/wg.key", ListenPort: 51820, Peers: []Peer{{
				PublicKey:        WireGuardKey{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32},
				PresharedKeyFile: "conf/psk", Endpoint: "vpn.example:51820", Allowed: []netip.Prefix{prefix("10.0.0.0/8")}, Keepalive: 25 * time.Second}}}},
				Addresses: Addresses{Static: []netip.Prefix{prefix("10.1.0.2/32")}}, Prefixes: []netip.Prefix{prefix("10.1.0.0/16")}},
			"here": {Link: Link{Kind: LinkKernel}, Prefixes: []netip.Prefix{prefix("127.0.0.0/8"), prefix("192.168.0.0/16")}},
		},
		Access: "conf/policy/access.yaml", Metrics: Metrics{"127.0.0.1:9090"}, RunAs: "sallyport", Drain: Drain{5 * time.Minute}, Grants: Grants{5 * time.Minute}, SSH: SSH{"confirm"},
		Update: Update{[]UpdateKey{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32}}},
		Limits: Limits{100, 10, 20, 3 * time.Second, 2 * time.Second, 5 * time.Minute, 50, time.Minute, time.Hour, 48 * time.Hour, 4, 1000},
		Time:   Time{Servers: []string{"ntp.example", "192.0.2.1:1123", "2001:db8::1"}},
		Banner: "what you do here is written down", IdentityKey: "conf/fleet.key",
		Identity: Identity{URL: "https://bastion.example", Lasts: 8 * time.Hour, Refresh: 5 * time.Minute, Token: 2 * time.Minute, Local: Local{true}, Providers: []Provider{
			{"corp", "https://id.corp.example", "sallyport", "conf/corp.secret", []string{"openid", "groups"}, "email", "roles", MFA{[]string{"mfa"}, []string{"gold"}}}}},
		Audit: Audit{time.Second, true, 30, 100, []Export{{Name: "siem", Syslog: "siem.example:6514", CA: "conf/siem.pem"}, {Name: "copy", File: "conf/audit.jsonl"},
			{Name: "hook", Webhook: "https://hook.example/in", TokenFile: "conf/hook.token"}, {Name: "otel", OTLP: "https://otel.example/v1/logs"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestListenForms(t *testing.T) {
	for listen, want := range map[string]Listen{
		"{vnet: hub}":                             {VNet: "hub", Port: 443},
		"{vnet: hub, port: 8443}":                 {VNet: "hub", Port: 8443},
		"{link: {packet: eth0}, addresses: dhcp}": {Link: Link{Kind: LinkPacket, Packet: "eth0"}, Addresses: Addresses{DHCP: true}, Port: 443},
		"{address: \":0\"}":                       {Address: ":0"},
	} {
		c, err := Parse("c", []byte("uplink: kernel\nlisten: "+listen+minimal))
		if err != nil {
			t.Errorf("%s: %v", listen, err)
		} else if !reflect.DeepEqual(c.Listen, want) {
			t.Errorf("%s: %+v", listen, c.Listen)
		}
	}
}

// A fake file that exists with these bits.
type fakeFile struct {
	fs.FileInfo
	mode fs.FileMode
}

func (f fakeFile) Mode() fs.FileMode { return f.mode }

func fakeStat(files map[string]fs.FileMode) func(string) (fs.FileInfo, error) {
	return func(path string) (fs.FileInfo, error) {
		mode, there := files[path]
		if !there {
			return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
		}
		return fakeFile{mode: mode}, nil
	}
}

func TestFiles(t *testing.T) {
	files := map[string]fs.FileMode{
		"/c/server.crt": 0o644, "/etc/server.key": 0o600, "/c/wg.key": 0o600, "/c/psk": 0o400, "/c/db.password": 0o600, "/c/policy/access.yaml": 0o644,
		"/c/siem.pem": 0o644, "/c/hook.token": 0o600, "/c/corp.secret": 0o600, "/c/fleet.key": 0o600,
	}
	if _, err := ParseFiles("/c/s", []byte(full), fakeStat(files)); err != nil {
		t.Errorf("all is there: %v", err)
	}
	files["/c/policy/access.yaml"] = 0o755 | fs.ModeDir
	if _, err := ParseFiles("/c/s", []byte(full), fakeStat(files)); err != nil {
		t.Errorf("a folder of access files: %v", err)
	}
	files["/c/db.password"], files["/c/corp.secret"] = 0o644, 0o644
	files["/etc/server.key"], files["/c/wg.key"], files["/c/psk"] = 0o640, 0o604, 0o600|fs.ModeDir
	delete(files, "/c/server.crt")
	delete(files, "/c/policy/access.yaml")
	_, err := ParseFiles("/c/s", []byte(full), fakeStat(files))
	const want = `/c/s:4:13: there is no file /c/server.crt
/c/s:4:30: /etc/server.key can be read by others (mode 0640); chmod 600 /etc/server.key
/c/s:6:74: /c/db.password can be read by others (mode 0644); chmod 600 /c/db.password
/c/s:17:27: /c/wg.key can be read by others (mode 0604); chmod 600 /c/wg.key
/c/s:21:33: /c/psk is not a file
/c/s:30:9: there is no file /c/policy/access.yaml
/c/s:46:97: /c/corp.secret can be read by others (mode 0644); chmod 600 /c/corp.secret`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sallyport.yaml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "there is no file "+filepath.Join(dir, "access.yaml")) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "access.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || c.Access != filepath.Join(dir, "access.yaml") {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add(full)
	for _, s := range samples {
		f.Add(s.data)
	}
	f.Fuzz(func(t *testing.T, data string) {
		watchdog := time.AfterFunc(10*time.Second, func() { panic("Parse takes more than ten seconds") })
		defer watchdog.Stop()
		c, err := Parse("c", []byte(data))
		if err != nil {
			var faults Faults
			if c != nil || !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("%v, %v", c, err)
			}
			for _, fault := range faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Message == "" {
					t.Fatalf("a fault without a place or a message: %+v", fault)
				}
			}
			return
		}
		for name, v := range c.VNets {
			if v.Link.Kind == LinkNone || len(v.Prefixes) == 0 || !vnetName.MatchString(name) {
				t.Fatalf("%s: %+v", name, v)
			}
		}
	})
}
