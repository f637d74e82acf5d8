package policy

import (
	"regexp"
	"slices"
	"strings"

	"sallyport/appliance/policy/yamlfile"
)

// onOff is address_mode: the words on and off, which some YAML writers turn into true and false.
type onOff bool

func (o *onOff) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	switch {
	case n.Kind == yamlfile.Bool:
		*o = onOff(strings.EqualFold(n.Text, "true"))
	case n.Kind == yamlfile.String && n.Text == "on":
		*o = true
	case n.Kind == yamlfile.String && n.Text == "off":
		*o = false
	default:
		f.Fault(n.Position, "", "%s must be on or off", what)
	}
}

// portForm is a port in the file.
type portForm uint16

func (p *portForm) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	if port, ok := f.Whole(n, what); ok {
		if port < 1 || port > 65535 {
			f.Fault(n.Position, "", "%s is %d; a port is 1 to 65535", what, port)
			return
		}
		*p = portForm(port)
	}
}

// bandwidthForm is a rate in the file, in bits a second.
type bandwidthForm int64

func (b *bandwidthForm) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	if n.Kind == yamlfile.Integer {
		f.Fault(n.Position, bandwidthHint, "%s is %s without a unit", what, n.Text)
		return
	}
	if !f.Want(n, yamlfile.String, what) {
		return
	}
	bits, ok := parseBandwidth(n.Text)
	if !ok {
		f.Fault(n.Position, bandwidthHint, "%s is %q, which is not a rate", what, n.Text)
	}
	*b = bandwidthForm(bits)
}

// offersForm is protocols of a target: "ssh", [ssh, rdp], or {ssh: 22, rdp: [3389, 3390], tcp: 5432}.
type offersForm []Offer

func (o *offersForm) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	switch n.Kind {
	case yamlfile.String:
		o.add(f, n.Position, n.Text, nil, what)
	case yamlfile.List:
		for _, item := range n.Items {
			if f.Want(item, yamlfile.String, what) {
				o.add(f, item.Position, item.Text, nil, what)
			}
		}
	case yamlfile.Map:
		for _, k := range n.Keys {
			o.add(f, k.Position, k.Name, k.Value, what)
		}
	default:
		f.Fault(n.Position, "such as ssh, or {ssh: 22, tcp: [5432]}", "%s must name protocols, not be %s", what, n.Kind)
		return
	}
	if len(n.Items) == 0 && len(n.Keys) == 0 && n.Kind != yamlfile.String {
		f.Fault(n.Position, "such as protocols: ssh", "%s is empty", what)
	}
	slices.SortStableFunc(*o, func(a, b Offer) int {
		return slices.Index(protocols, a.Protocol) - slices.Index(protocols, b.Protocol)
	})
}

// add appends a protocol whose ports are a number, a list, or nothing for the standard port.
func (o *offersForm) add(f *yamlfile.File, at yamlfile.Position, protocol string, ports *yamlfile.Node, what string) {
	if !slices.Contains(protocols, protocol) {
		f.Fault(at, "known are ssh, rdp and tcp", "%s: protocol %q is not known", what, protocol)
		return
	}
	if slices.ContainsFunc(*o, func(other Offer) bool { return other.Protocol == protocol }) {
		f.Fault(at, "", "%s: %s is there twice", what, protocol)
		return
	}
	offer := Offer{Protocol: protocol}
	what += "." + protocol
	switch {
	case ports != nil && ports.Kind == yamlfile.List:
		var list []portForm
		f.Decode(ports, &list, what)
		for _, port := range list {
			if slices.Contains(offer.Ports, uint16(port)) {
				f.Fault(ports.Position, "", "%s has port %d twice", what, port)
			}
			offer.Ports = append(offer.Ports, uint16(port))
		}
		if len(ports.Items) == 0 {
			f.Fault(at, "", "%s has no port", what)
		}
	case ports != nil && ports.Kind != yamlfile.Null:
		var port portForm
		f.Decode(ports, &port, what)
		offer.Ports = []uint16{uint16(port)}
	case standardPort[protocol] == 0:
		f.Fault(at, "such as tcp: [5432]", "%s has no standard port", what)
	default:
		offer.Ports = []uint16{standardPort[protocol]}
	}
	*o = append(*o, offer)
}

var dnsLabel = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// isDNSName reports whether s is a host name that can be asked for as it stands.
func isDNSName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > maxName || looksNumeric(s) {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !dnsLabel.MatchString(label) {
			return false
		}
	}
	return true
}
