// Package policy decides who may reach what. It reads access.yaml and the *.cedar files beside it, and answers, for one
// request, with a grant and its limits or with a refusal that a person can act on. What nothing allows is denied.
//
//	p, err := policy.Parse(files, policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: fence.Check})
//	grant, err := p.Decide(policy.Request{User: "ann", Target: "db-1", Protocol: "ssh", Time: now})
//	addr := ... // resolve grant.Host inside grant.VNet
//	grant, err = p.DecideAddress(grant, addr)
//
// # Rules and policies
//
// The one engine is Cedar's. A rule of access.yaml is the short form of a permit and is compiled to one; the *.cedar files
// say what rules cannot: conditions on time, place and second factor, and forbid. Schema holds what they can speak of.
// Here a statement is either of them.
//
// # Two decisions
//
// Decide looks at people, names, protocols and ports and comes before any packet, so that a denied request causes no DNS
// query. What then depends on an address that is not known yet is given the benefit of the doubt. DecideAddress looks at
// the address that is about to be dialled and decides for good. A flow needs both.
//
// # Who learns what
//
// A target is visible to a person if any permit would let them connect to it, whatever the protocol, the time, the second
// factor and where they come from. Requests for an invisible target and for one that does not exist get the same answer,
// E_TARGET_UNKNOWN; only for visible targets does a refusal name a rule or policy, and only visible names are suggested.
//
// # Several statements
//
// The order of files and of what stands in them does not matter. A forbid wins over all permits, and a statement that
// cannot be evaluated denies. Where several permit, the strictest limits of all of them hold.
//
// A Policy does not change after Parse and is safe for use by many goroutines; a reload makes a new one.
package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The protocols that a target may offer. A tcp flow is opaque, so only a rule that says tcp allows it.
const (
	SSH = "ssh"
	RDP = "rdp"
	TCP = "tcp"
)

// benchLifetime ends a flow that measures.
const benchLifetime = 30 * time.Second

const maxMOTD = 300

// protocols lists those of targets, in the order in which they are tried and shown.
var protocols = []string{SSH, RDP, TCP}

// The transports, as clients come.
var transports = []string{"quic", "https", "websocket"}

// standardPort is the port of a protocol whose ports are not given; tcp has none.
var standardPort = map[string]uint16{SSH: 22, RDP: 3389}

// A Policy is what an access.yaml and the *.cedar files beside it say.
type Policy struct {
	addressMode bool
	motd        string
	groups      map[string][]string // as access.yaml has them
	memberOf    map[string][]string // the groups of each person
	targets     []Target            // sorted by name
	statements  []*statement        // in the order of the files
	index       *index
	vnets       []string
	zone        *time.Location
	tests       []testCase
	options     Options
}

// Options are what the policy needs of its surroundings. Both functions must be set.
type Options struct {
	// AddressSyntax reads s if it is an IP address in any spelling. An error means that s is neither an address nor a
	// name; isAddr then says which of them it looks like.
	AddressSyntax func(s string) (addr netip.Addr, isAddr bool, err error)

	// Forbidden returns why an address is never reachable, whatever the policy and whatever the VNet, or nil.
	Forbidden func(netip.Addr) error

	VNets     []string // those that the daemon has; a file that names another is refused. Default: any name will do
	Recording bool     // the appliance can record; without it what must be recorded is refused
}

// ready makes a policy without faults ready for requests.
func (p *Policy) ready() {
	p.memberOf = make(map[string][]string)
	for group, users := range p.groups {
		for _, user := range users {
			p.memberOf[user] = append(p.memberOf[user], group)
		}
	}
	for i, s := range p.statements {
		s.order = i
		s.compile()
	}
	p.index = newIndex(p.statements)
}

// A Target is a machine with the protocols that it offers, and the name that people ask for it by.
type Target struct {
	Name     string
	VNet     string
	Host     string            // its address, or the DNS name to resolve inside the VNet
	Offers   []Offer           // its protocols in the order ssh, rdp, tcp
	Labels   map[string]string // not to be changed
	HostKeys []string          // SSH host keys in authorized_keys form; none means that none is pinned
	HostCA   []string          // keys of authorities whose host certificates for Name are good, likewise
	Desktop  Desktop           // how the appliance speaks RDP to it
	Files    bool              // of Visible: the person may send it files by ssh or fetch some, at some time and in some way
}

// An Offer is a protocol and the ports on which a target speaks it.
type Offer struct {
	Protocol string
	Ports    []uint16 // at least one; the first is the default
}

// offer returns the target's ports for a protocol, none if it does not offer it.
func (t Target) offer(protocol string) []uint16 {
	for _, o := range t.Offers {
		if o.Protocol == protocol {
			return o.Ports
		}
	}
	return nil
}

// A Request is one person's wish to reach one target.
type Request struct {
	User      string
	Groups    []string   // that the identity provider names, beside those of access.yaml; only those that it knows count
	Target    string     // as typed: a target's name or, in address mode, an IP address
	VNet      string     // where an address lies; may be empty when only one VNet is possible
	Protocol  string     // ssh, rdp or tcp; empty means the target's protocol on Port. Or bench, and Target is its service
	Port      uint16     // 0 means the target's default for Protocol
	Address   netip.Addr // that the target's name resolves to, if it is known already
	Opaque    bool       // a native client's own bytes, in which nothing can be held back and nothing recorded
	Source    netip.Addr // where the person comes from
	Transport string     // quic, https or websocket
	MFA       time.Time  // when a second factor was used to sign in; zero: none was
	Time      time.Time
	Program   string // of the appliance's, that speaks the target's protocol itself; empty where the flow is opaque
	Guest     *Guest // who comes by a link of User's; nil: User comes
}

// A Guest is somebody who has no rights of their own, and may do what the maker of a link may and may share. Source,
// transport and second factor of the Request are the guest's, those here the maker's when they made the link: that they
// may share is asked as of then, in the groups and by the rules of now.
type Guest struct {
	Name      string // whom the grant is for; empty: nobody comes yet
	Source    netip.Addr
	Transport string
	MFA       bool
	MFAAge    time.Duration
	Approval  string // a group of which somebody must agree; may be empty
}

// A Grant is what the policy allowed for one request.
type Grant struct {
	User       string
	Target     string // the target's name, or the address in address mode
	VNet       string
	Host       string // the address to dial, or the DNS name to resolve inside the VNet
	Port       uint16
	Protocol   string
	Rule       string        // the first rule or policy that allows it
	Policies   []string      // the ids of all that do
	Channels   []string      // of the protocol, that may be used
	Idle       time.Duration // ends the flow when no byte moves; 0 means no limit
	Lifetime   time.Duration // ends the flow, however busy; 0 means no limit
	Grace      time.Duration // ends the flow when it has been without a connection for so long; 0 means the appliance's own limit
	Bandwidth  int64         // bits a second, each way; 0 means no limit
	Record     bool          // it must be recorded
	Principals []string      // the users on the target that a certificate may be for; nil: nothing is said of them
	Approval   []string      // a person of each of these groups must agree first
	Timed      bool          // the answer may change with the time or the age of the second factor: ask again
	Expires    time.Time     // Request.Time + Lifetime; zero without a Lifetime
	HostKeys   []string      // SSH host keys that the target must show one of; none means that none is pinned
	HostCA     []string      // or a certificate by one of these
	Desktop    Desktop       // how the appliance speaks RDP to it

	request Request    // what was asked
	address netip.Addr // that has been decided on
}

// MOTD is the message of the day: a line that people are told when they come in. It may be empty.
func (p *Policy) MOTD() string { return p.motd }

// IsAdmin reports whether user may administer the appliance when nothing is known of where and how they signed in. It says
// nothing about targets.
func (p *Policy) IsAdmin(user string, groups ...string) bool {
	_, err := p.Allows(Admin, Request{User: user, Groups: groups, Time: time.Now()})
	return err == nil
}

// Visible returns the targets that user may see, sorted by name, each with those of its protocols and ports that they may
// reach, at some time and in some way. A target may be visible without any.
func (p *Policy) Visible(user string, groups ...string) []Target {
	var visible []Target
	for _, t := range p.targets {
		if s := p.subject(Request{User: user, Groups: groups}, targetEntity(t)); len(s.seenBy()) > 0 {
			t.Offers = s.usable(t)
			t.Files = s.mayFiles(t)
			visible = append(visible, t)
		}
	}
	return visible
}

// Targets returns all targets, sorted by name, for administrators.
func (p *Policy) Targets() []Target {
	return slices.Clone(p.targets)
}

// AddressMode reports whether people may ask for addresses instead of names.
func (p *Policy) AddressMode() bool {
	return p.addressMode
}

// Zone is the time zone of the file, in which its administrators write times.
func (p *Policy) Zone() *time.Location {
	return p.zone
}

// Target finds a target by name.
func (p *Policy) Target(name string) (Target, bool) { return p.target(name) }

// target finds a target by name.
func (p *Policy) target(name string) (Target, bool) {
	i, found := slices.BinarySearchFunc(p.targets, name, func(t Target, name string) int {
		return strings.Compare(t.Name, name)
	})
	if !found {
		return Target{}, false
	}
	return p.targets[i], true
}

// seenBy returns the permits that make the subject's resource visible.
func (s *subject) seenBy() []*statement {
	return s.question(visible, "", 0, netip.Addr{}).ask(Connect).permits
}

// usable returns what a person may reach of what the target offers.
func (s *subject) usable(t Target) (offers []Offer) {
	for _, o := range t.Offers {
		var ports []uint16
		for _, port := range o.Ports {
			if s.question(offered, o.Protocol, port, netip.Addr{}).ask(Connect).allowed() {
				ports = append(ports, port)
			}
		}
		if len(ports) > 0 {
			offers = append(offers, Offer{o.Protocol, ports})
		}
	}
	return offers
}

// mayFiles reports whether a person may send or fetch files on the first of the ports of ssh that they may use.
func (s *subject) mayFiles(usable Target) bool {
	ports := usable.offer(SSH)
	if len(ports) == 0 {
		return false
	}
	q := s.question(offered, SSH, ports[0], netip.Addr{})
	return q.ask(Upload).allowed() || q.ask(Download).allowed()
}
