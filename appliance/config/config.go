// Package config reads the daemon's configuration, a YAML file, and reports everything that is wrong with it at once.
//
//	c, err := config.Load("/etc/sallyport/sallyport.yaml") // err is Faults: one line a fault, with line and column
//	fmt.Println(c.Listen.Address, c.VNets["hub"].Link.Kind)
//
// # What it checks
//
// Spelling and types of every key; what the values mean together, such as a gateway that no link reaches; and, in
// Load, that the files it names are there and that no one else can read the secret ones. It does not look at the
// machine: whether a NIC exists is known when it is opened.
//
// # What the daemon supports
//
// The format is complete before the daemon is. A form that this package reads and the daemon cannot serve yet is the
// daemon's to refuse.
//
// A Config is values only: nothing in it changes after Load, and many goroutines may read it. schema.json is the same
// format as a JSON Schema, for editors.
package config

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"
)

// Config is sallyport.yaml. Relative paths are relative to its folder; in a parsed Config all are joined with it.
type Config struct {
	Name     string          `yaml:"name"`        // what people see; default "sallyport"
	Listen   Listen          `yaml:"listen"`      // where people come in; default address ":443"
	TLS      TLS             `yaml:"tls"`         // the certificate; must be given
	State    string          `yaml:"state"`       // the folder of all that is kept; default /var/lib/sallyport
	Store    Store           `yaml:"store"`       // the database; default: one of its own in State
	Uplink   string          `yaml:"uplink"`      // how the appliance itself reaches services: kernel, listen or a VNet's name; default kernel
	VNets    map[string]VNet `yaml:"vnets"`       // the networks of the targets, by name; at least one
	Access   string          `yaml:"access"`      // the policy file, a folder of such files, or InDatabase; default access.yaml
	Seed     string          `yaml:"access_seed"` // the file or folder that an empty database begins with; only with InDatabase
	Metrics  Metrics         `yaml:"metrics"`     // for Prometheus; default none
	RunAs    string          `yaml:"run_as"`      // user name or number of the worker when the parent starts as root; default sallyport if there is such a user, else nobody
	Drain    Drain           `yaml:"drain"`
	Grants   Grants          `yaml:"grants"`
	Limits   Limits          `yaml:"limits"`
	Audit    Audit           `yaml:"audit"`
	SSH      SSH             `yaml:"ssh"`
	Update   Update          `yaml:"update"`
	Identity Identity        `yaml:"identity"` // how people sign in; default: they do not, and devices enrol with codes
	Time     Time            `yaml:"time"`     // how this machine's clock is kept; default: by others
	Banner   string          `yaml:"banner"`   // a line that people are told when they connect; default none
	Files    Files           `yaml:"files"`    // of a document for an image, which takes them out of it; refused here
	Machine  Machine         `yaml:"machine"`  // what the appliance image does for its kernel; only there

	IdentityKey string `yaml:"identity_key"` // a file with the key that a fleet is known by, readable by its owner only; default: one of its own in State
}

// Machine is what is to be said of a machine that has nothing but the appliance, and that nobody else sets up.
type Machine struct {
	Interface string       `yaml:"interface"` // the NIC of the kernel's sockets, by name or MAC address; with Listen.Address, and else the kernel has none
	Addresses Addresses    `yaml:"addresses"` // the kernel's, on it
	Gateway   []netip.Addr `yaml:"gateway"`   // at most one for each of IPv4 and IPv6; with DHCP the server's, unless they are given
	DNS       []netip.Addr `yaml:"dns"`       // for the appliance itself; with DHCP the server's, unless they are given
	Enrol     string       `yaml:"enrol"`     // the person for whom the console shows an enrolment code while no device is enrolled; default nobody
	Data      string       `yaml:"data"`      // where State is: DataAttached; default: on a data partition that is there or is made
}

// DataAttached is Machine.Data where somebody attaches a disk for State, which the machine waits for.
const DataAttached = "attached"

// Files is what an image's document carries for the folder that it is unpacked into.
type Files struct{}

// Listen is where people come in, in one of three forms: the kernel's sockets (Address), a VNet's own stack (VNet),
// or a NIC that the appliance has a stack of its own on (Link).
type Listen struct {
	Address       string         `yaml:"address"`        // address and port of the kernel's sockets, UDP and TCP
	ProxyProtocol []netip.Prefix `yaml:"proxy_protocol"` // sources whose PROXY protocol v2 header is believed; with Address

	VNet string `yaml:"vnet"` // the VNet whose stack listens
	Port uint16 `yaml:"port"` // with VNet or Link; default 443

	// Balanced is the address of a load balancer that passes packets on as they are, with VNet or Link; default none.
	Balanced netip.Addr `yaml:"balanced"`

	Link      Link         `yaml:"link"`
	Addresses Addresses    `yaml:"addresses"` // with Link
	Gateway   []netip.Addr `yaml:"gateway"`   // with Link
	DNS       []netip.Addr `yaml:"dns"`       // with Link, for the appliance itself, where it is the Uplink
}

// TLS is the certificate, in one of three forms.
type TLS struct {
	Cert       string `yaml:"cert"`        // PEM file of the certificate and its chain; read again when it changes
	Key        string `yaml:"key"`         // PEM file of its key, readable by its owner only
	SelfSigned bool   `yaml:"self_signed"` // makes a certificate whose key, kept in State, clients pin
	ACME       ACME   `yaml:"acme"`
}

// ACME has certificates made by a certificate authority.
type ACME struct {
	Domains   []string `yaml:"domains"`
	Email     string   `yaml:"email"`     // where the authority writes to; default none
	Directory string   `yaml:"directory"` // the authority; default Let's Encrypt
	CA        string   `yaml:"ca"`        // PEM file of the roots that the authority's own server is verified by; default the system's
}

// A VNet is a private network that the appliance is attached to.
type VNet struct {
	Link      Link           `yaml:"link"`
	Addresses Addresses      `yaml:"addresses"` // the appliance's own, on this link
	Gateway   []netip.Addr   `yaml:"gateway"`   // at most one for each of IPv4 and IPv6
	Prefixes  []netip.Prefix `yaml:"prefixes"`  // where flows may go; nothing else is reachable
	DNS       []netip.Addr   `yaml:"dns"`       // resolvers inside the VNet
	Deny      []netip.Prefix `yaml:"deny"`      // where flows may not go, besides what is compiled in
}

// A LinkKind says how a network is attached.
type LinkKind string

const (
	LinkNone      LinkKind = ""          // none is given
	LinkPacket    LinkKind = "packet"    // AF_PACKET on a NIC
	LinkTap       LinkKind = "tap"       // a TAP device
	LinkWireGuard LinkKind = "wireguard" // a WireGuard tunnel that ends in this process
	LinkKernel    LinkKind = "kernel"    // the host's sockets, for trying out
)

// A Link is an attachment. Kind says which of the other fields counts.
type Link struct {
	Kind      LinkKind  `yaml:"-"`
	Packet    string    `yaml:"packet"` // a NIC's name or MAC address
	Queues    int       `yaml:"queues"` // of packet: sockets that share the NIC's frames; default one for every two CPUs, 8 at most
	Tap       string    `yaml:"tap"`    // a TAP device's name
	WireGuard WireGuard `yaml:"wireguard"`
	Kernel    Kernel    `yaml:"kernel"`
}

// Kernel is the kernel link, which has no keys.
type Kernel struct{}

// WireGuard is a tunnel.
type WireGuard struct {
	PrivateKeyFile string `yaml:"private_key_file"` // a file of one base64 key, readable by its owner only
	ListenPort     uint16 `yaml:"listen_port"`      // UDP; default any
	MTU            int    `yaml:"mtu"`              // of the packets inside; default 1420
	Peers          []Peer `yaml:"peers"`
}

// A Peer is the other end of a tunnel.
type Peer struct {
	PublicKey        WireGuardKey   `yaml:"public_key"`
	PresharedKeyFile string         `yaml:"preshared_key_file"` // like private_key_file; default none
	Endpoint         string         `yaml:"endpoint"`           // host and port; default: it calls us
	Allowed          []netip.Prefix `yaml:"allowed"`            // what lies behind it
	Keepalive        time.Duration  `yaml:"keepalive"`          // default none
}

// A WireGuardKey is a Curve25519 key.
type WireGuardKey [32]byte

// ParseWireGuardKey reads a key as wg writes it: 44 characters of base64.
func ParseWireGuardKey(s string) (k WireGuardKey, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, fmt.Errorf("a WireGuard key is 44 characters of base64")
	}
	return WireGuardKey(b), nil
}

// String is the key as wg writes it.
func (k WireGuardKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Addresses are those of the appliance on a link: by DHCP, or these.
type Addresses struct {
	DHCP   bool
	Static []netip.Prefix
}

// Store is the database that several appliances share.
type Store struct {
	URL          string `yaml:"url"`           // of a PostgreSQL database, without a password; default: a file in State
	PasswordFile string `yaml:"password_file"` // a file of one line, readable by its owner only; default: none
}

// Update is whose updates an appliance takes that runs from the image.
type Update struct {
	Keys []UpdateKey `yaml:"keys"` // besides those that the image has been built with; at most MaxUpdateKeys
}

// MaxUpdateKeys bounds Update.Keys: the key in use, its successor, and room for who builds images of their own.
const MaxUpdateKeys = 4

// An UpdateKey is an Ed25519 public key.
type UpdateKey [32]byte

// Metrics is where Prometheus reads.
type Metrics struct {
	Listen string `yaml:"listen"` // address and port; default: no metrics
}

// Audit is how the audit log is kept. It lies in the folder audit of State.
type Audit struct {
	Sync     time.Duration `yaml:"sync"`      // by when an event is on disk; default 100ms
	Wait     bool          `yaml:"wait"`      // nothing is confirmed before its event is on disk
	KeepDays int           `yaml:"keep_days"` // default 365
	KeepMB   int           `yaml:"keep_mb"`   // default 4096
	Export   []Export      `yaml:"export"`
}

// An Export is a receiver of the audit log, in one of five forms.
type Export struct {
	Name      string `yaml:"name"`       // unique; how far it has come is kept by it
	File      string `yaml:"file"`       // lines are added to this file
	Syslog    string `yaml:"syslog"`     // host and port of a receiver by RFC 5424 over TLS
	Webhook   string `yaml:"webhook"`    // URL that lines are posted to
	OTLP      string `yaml:"otlp"`       // URL of an OpenTelemetry receiver's /v1/logs
	Database  bool   `yaml:"database"`   // the database of Store, by the appliance's Name
	CA        string `yaml:"ca"`         // PEM file of the roots that the receiver is verified by; default the system's
	TokenFile string `yaml:"token_file"` // of a bearer token, with Webhook and OTLP; readable by its owner only
}

// Time is how this machine's clock is kept.
type Time struct {
	Servers []string `yaml:"servers"` // NTP servers, host or host:port, that the Uplink leads to; at most MaxTimeServers; default none
}

// MaxTimeServers is how many NTP servers may be asked.
const MaxTimeServers = 8

// Drain is how the daemon ends.
type Drain struct {
	Grace time.Duration `yaml:"grace"` // how long flows may go on once people are told; default 30s
}

// Grants are what people may open flows by while the database is away.
type Grants struct {
	Cache time.Duration `yaml:"cache"` // how old one may be; default 5m
}

// SSH is what holds for SSH.
type SSH struct {
	FirstUse string `yaml:"first_use"` // of the first host key of a target: FirstUseAccept or FirstUseConfirm; default accept
}

// What is done with the first host key that a target shows, if the access file names none.
const (
	FirstUseAccept  = "accept"  // it is the target's
	FirstUseConfirm = "confirm" // an administrator must confirm it before anybody gets to the target
)

// Limits keep one person or one bad day from taking all.
type Limits struct {
	Flows           int           `yaml:"flows"`           // open at once; default 10000
	FlowsPerUser    int           `yaml:"flows_per_user"`  // default 256
	Unauthenticated int           `yaml:"unauthenticated"` // connections that have not said who they are; default 64
	DialTimeout     time.Duration `yaml:"dial_timeout"`    // for a target to answer; default 10s
	ResolveTimeout  time.Duration `yaml:"resolve_timeout"` // for the VNet's DNS to answer; default 5s
	Grace           time.Duration `yaml:"grace"`           // that a flow lives without a connection; default 60m
	Detached        int           `yaml:"detached"`        // flows without a connection at once; default 2000
	Approval        time.Duration `yaml:"approval"`        // that a request waits for somebody's yes; default 10m
	Approved        time.Duration `yaml:"approved"`        // that a yes may last at most; default 8h
	GuestLink       time.Duration `yaml:"guest_link"`      // that one may be good at most; default 24h
	Bench           int           `yaml:"bench"`           // people who measure at once; default 2
	BenchMbit       int           `yaml:"bench_mbit"`      // Mbit/s that each of them may move; default 500
}

// InDatabase is Config.Access where the access files are versions in the database, and sallyport admin apply changes them.
const InDatabase = "database"

// AccessPath is the file or folder that access files are read from; empty where there is none.
func (c *Config) AccessPath() string {
	if c.Access == InDatabase {
		return c.Seed
	}
	return c.Access
}

const (
	defaultPort   = 443
	defaultState  = "/var/lib/sallyport"
	defaultAccess = "access.yaml"
)

func (c Config) withDefaults() Config {
	c.Name = cmp.Or(c.Name, "sallyport")
	if c.Listen.VNet == "" && c.Listen.Link.Kind == LinkNone {
		c.Listen.Address = cmp.Or(c.Listen.Address, ":443")
	} else {
		c.Listen.Port = cmp.Or(c.Listen.Port, defaultPort)
	}
	c.State = cmp.Or(c.State, defaultState)
	c.Uplink = cmp.Or(c.Uplink, "kernel")
	c.Access = cmp.Or(c.Access, defaultAccess)
	c.Grants.Cache = cmp.Or(c.Grants.Cache, 5*time.Minute)
	c.SSH.FirstUse = cmp.Or(c.SSH.FirstUse, FirstUseAccept)
	c.Drain.Grace = cmp.Or(c.Drain.Grace, 30*time.Second)
	c.Identity = c.Identity.withDefaults()
	c.Audit.Sync = cmp.Or(c.Audit.Sync, 100*time.Millisecond)
	c.Audit.KeepDays = cmp.Or(c.Audit.KeepDays, 365)
	c.Audit.KeepMB = cmp.Or(c.Audit.KeepMB, 4096)
	c.Limits.Flows = cmp.Or(c.Limits.Flows, 10_000)
	c.Limits.FlowsPerUser = cmp.Or(c.Limits.FlowsPerUser, 256)
	c.Limits.Unauthenticated = cmp.Or(c.Limits.Unauthenticated, 64)
	c.Limits.DialTimeout = cmp.Or(c.Limits.DialTimeout, 10*time.Second)
	c.Limits.ResolveTimeout = cmp.Or(c.Limits.ResolveTimeout, 5*time.Second)
	c.Limits.Grace = cmp.Or(c.Limits.Grace, time.Hour)
	c.Limits.Detached = cmp.Or(c.Limits.Detached, 2000)
	c.Limits.Approval = cmp.Or(c.Limits.Approval, 10*time.Minute)
	c.Limits.Approved = cmp.Or(c.Limits.Approved, 8*time.Hour)
	c.Limits.GuestLink = cmp.Or(c.Limits.GuestLink, 24*time.Hour)
	c.Limits.Bench = cmp.Or(c.Limits.Bench, 2)
	c.Limits.BenchMbit = cmp.Or(c.Limits.BenchMbit, 500)
	return c
}
