package host

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// A Plan is all that the worker is going to be given.
type Plan struct {
	Listen []Listen
	Links  []LinkPlan
	Files  []string // absolute paths outside State, of files and folders whose content the worker is given; watched for changes
	Count  []string // patterns of the names of files that count in such a folder (path/filepath.Match)
	State  string   // the worker's directory: made if needed, mode 0700, owned by the worker's user; may be empty
	Clock  bool     // whether the worker may say what time it is; see the package's text for what that lets it do
	RunAs  string   // the worker's user, by name or as "uid:gid"; default sallyport if it exists, else nobody; the parent's own if that is not root

	Grace time.Duration // that a worker may drain for; one that has not ended Parent.HungAfter later is killed
}

// A Listen is a socket that the parent opens and keeps open.
type Listen struct {
	Name    string `json:"name"`    // by which the worker asks for it
	Network string `json:"network"` // "tcp" or "udp"
	Address string `json:"address"` // as net.Listen takes it
}

// A LinkPlan says how a VNet is attached.
type LinkPlan struct {
	VNet      string
	Kind      Kind
	Interface string // the NIC's name or MAC address, or the name that the TAP gets
	DHCP      bool   // packet: also give a socket that sees only the replies of DHCP servers
	Queues    int    // packet: sockets that share the frames, by connection; 0 means one
}

// A Kind is a make of link that needs the parent.
type Kind string

// The kinds of links.
const (
	Packet Kind = "packet" // AF_PACKET on a NIC in a namespace of its own
	TAP    Kind = "tap"    // a TAP in the parent's namespace
)

// MaxQueues is the most that a link may have: as many descriptors travel with one message.
const MaxQueues = 16

// A name becomes part of a path and of messages; an interface name must also fit into 15 bytes.
var (
	validName      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)
	validInterface = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
)

// IsMAC says whether a NIC is meant by its address, such as "52:54:00:12:34:56" (EUI-48), and not by its name.
func IsMAC(nic string) bool {
	mac, err := net.ParseMAC(nic)
	return err == nil && len(mac) == 6 && nic[2] == ':'
}

// Validate reports every fault of the plan together.
func (p Plan) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var names, vnets, interfaces []string
	for _, l := range p.Listen {
		if !validName.MatchString(l.Name) {
			fault("listen: bad name %q", l.Name)
		}
		if l.Network != "tcp" && l.Network != "udp" {
			fault("listen %s: network %q is neither tcp nor udp", l.Name, l.Network)
		}
		if _, _, err := net.SplitHostPort(l.Address); err != nil {
			fault("listen %s: %w", l.Name, err)
		}
		names = append(names, l.Name)
	}
	for _, l := range p.Links {
		if !validName.MatchString(l.VNet) {
			fault("link: bad VNet name %q", l.VNet)
		}
		if !validInterface.MatchString(l.Interface) && !(l.Kind == Packet && IsMAC(l.Interface)) {
			fault("link %s: bad interface name %q", l.VNet, l.Interface)
		}
		if l.Kind != Packet && l.Kind != TAP {
			fault("link %s: kind %q is neither packet nor tap", l.VNet, l.Kind)
		}
		if l.Queues < 0 || l.Queues > MaxQueues {
			fault("link %s: %d queues; at most %d", l.VNet, l.Queues, MaxQueues)
		}
		vnets, interfaces = append(vnets, l.VNet), append(interfaces, l.Interface)
	}
	for _, f := range p.Files {
		if !filepath.IsAbs(f) {
			fault("file %q: not an absolute path", f)
		}
		if below(f, p.State) {
			fault("file %q: in the state directory %s, where the worker could put a link in its place", f, p.State)
		}
	}
	if p.State != "" && !filepath.IsAbs(p.State) {
		fault("state %q: not an absolute path", p.State)
	}
	for what, list := range map[string][]string{"listen": names, "VNet": vnets, "interface": interfaces} {
		if twice := repeated(list); twice != "" {
			fault("%s %s appears twice", what, twice)
		}
	}
	return errors.Join(errs...)
}

// below says whether a path is the directory's, or the directory itself.
func below(path, dir string) bool {
	if dir == "" {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func repeated(list []string) string {
	list = slices.Sorted(slices.Values(list))
	for i := range list[:max(len(list)-1, 0)] {
		if list[i] == list[i+1] {
			return list[i]
		}
	}
	return ""
}
