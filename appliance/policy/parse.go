package policy

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// A Fault is one thing that is wrong with access.yaml, and Faults is all of them.
type (
	Fault  = yamlfile.Fault
	Faults = yamlfile.Faults
)

// fileForm is access.yaml as it is written.
type fileForm struct {
	Admins      []string            `yaml:"admins"`
	Bench       []string            `yaml:"bench"`
	AddressMode onOff               `yaml:"address_mode"`
	Groups      map[string][]string `yaml:"groups"`
	Targets     []targetForm        `yaml:"targets"`
	Rules       []ruleForm          `yaml:"rules"`
}

type targetForm struct {
	Name      string            `yaml:"name"`
	VNet      string            `yaml:"vnet"`
	Address   string            `yaml:"address"`
	Protocols offersForm        `yaml:"protocols"`
	Labels    map[string]string `yaml:"labels"`
	HostKeys  []string          `yaml:"host_keys"`
}

type ruleForm struct {
	Name      string            `yaml:"name"`
	Who       []string          `yaml:"who"`
	Targets   []string          `yaml:"targets"`
	Labels    map[string]string `yaml:"labels"`
	Protocols []string          `yaml:"protocols"`
	Ports     []portForm        `yaml:"ports"`
	Addresses []netip.Prefix    `yaml:"addresses"`
	VNets     []string          `yaml:"vnets"`
	Idle      time.Duration     `yaml:"idle"`
	Lifetime  time.Duration     `yaml:"lifetime"`
	Grace     time.Duration     `yaml:"grace"`
}

// Parse reads access.yaml strictly. name is the file's name in messages. The error is Faults, with every fault of the
// file, unless o is incomplete.
func Parse(name string, data []byte, o Options) (*Policy, error) {
	if o.AddressSyntax == nil || o.Forbidden == nil {
		return nil, errors.New("policy: Options.AddressSyntax and Options.Forbidden must be set")
	}
	var form fileForm
	c := &checker{File: yamlfile.Read(name, data, &form), form: form, options: o}
	p := c.policy()
	if err := c.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Keys returns the keys that access.yaml may have, by the name of the list or mapping that they stand in. The tests
// of the docs compare with it.
func Keys() map[string][]string {
	return map[string][]string{
		"":        yamlfile.Keys(reflect.TypeFor[fileForm]()),
		"targets": yamlfile.Keys(reflect.TypeFor[targetForm]()),
		"rules":   yamlfile.Keys(reflect.TypeFor[ruleForm]()),
	}
}

// A checker looks for what is wrong in a file whose types are right, and builds the policy.
type checker struct {
	*yamlfile.File
	form    fileForm
	options Options
	vnets   []string // all that are known
}

func (c *checker) policy() *Policy {
	p := &Policy{admins: c.form.Admins, bench: c.form.Bench, addressMode: bool(c.form.AddressMode), groups: c.form.Groups, options: c.options}
	for i, user := range c.form.Admins {
		c.checkUser(user, "admins", i)
	}
	for i, who := range c.form.Bench {
		c.checkWho(who, "bench", i)
	}
	for name, users := range c.form.Groups {
		if !word.MatchString(name) {
			c.Fault(c.KeyAt("groups", name), "", "group name %q must be 1 to 32 of a-z, 0-9 and -", name)
		}
		for i, user := range users {
			c.checkUser(user, "groups", name, i)
		}
	}
	c.knowVNets()
	p.vnets = c.vnets
	named := make(map[string]int)
	for i, t := range c.form.Targets {
		p.targets = append(p.targets, c.target(i, t, named))
	}
	slices.SortFunc(p.targets, func(a, b Target) int { return strings.Compare(a.Name, b.Name) })
	named = make(map[string]int)
	for i, r := range c.form.Rules {
		p.rules = append(p.rules, c.rule(i, r, named))
	}
	return p
}

// knowVNets collects the VNets: those that the daemon has, or else all that the file names.
func (c *checker) knowVNets() {
	c.vnets = slices.Clone(c.options.VNets)
	if len(c.vnets) == 0 {
		for _, t := range c.form.Targets {
			c.vnets = append(c.vnets, t.VNet)
		}
		for _, r := range c.form.Rules {
			c.vnets = append(c.vnets, r.VNets...)
		}
	}
	slices.Sort(c.vnets)
	c.vnets = slices.Compact(c.vnets)
}

func (c *checker) checkUser(user string, steps ...any) {
	if !userName.MatchString(user) {
		c.Fault(c.At(steps...), "", "user name %q must be 1 to 64 of a-z, 0-9, dot, dash, _ and @", user)
	}
}

func (c *checker) checkVNet(vnet string, steps ...any) {
	switch {
	case !word.MatchString(vnet):
		c.Fault(c.At(steps...), "", "vnet name %q must be 1 to 32 of a-z, 0-9 and -", vnet)
	case !slices.Contains(c.vnets, vnet):
		c.Fault(c.At(steps...), spell.DidYouMean(vnet, c.vnets, "the daemon has "+strings.Join(c.vnets, ", ")), "there is no vnet %q", vnet)
	}
}

// checkLabels wants words, so that a label never holds what a terminal would act on.
func (c *checker) checkLabels(labels map[string]string, steps ...any) {
	for k, v := range labels {
		at := c.KeyAt(append(steps, k)...)
		if !isPlain(k, 64) || !isPlain(v, 256) {
			c.Fault(at, "", "label %q: a label and its value are 1 to 64 and 1 to 256 printable characters", k)
		}
	}
}

// isPlain reports whether s has 1 to limit bytes and prints as itself.
func isPlain(s string, limit int) bool {
	return s != "" && len(s) <= limit && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (c *checker) target(i int, t targetForm, named map[string]int) Target {
	c.checkTargetName(i, t.Name, named)
	if c.Has("targets", i, "vnet") {
		c.checkVNet(t.VNet, "targets", i, "vnet")
	} else {
		c.Fault(c.At("targets", i), "", "target %q has no vnet", t.Name)
	}
	if c.Has("targets", i, "address") {
		c.checkHost(t.Address, c.At("targets", i, "address"))
	} else {
		c.Fault(c.At("targets", i), "", "target %q has no address", t.Name)
	}
	if !c.Has("targets", i, "protocols") {
		c.Fault(c.At("targets", i), "such as protocols: ssh", "target %q has no protocols", t.Name)
	}
	c.checkLabels(t.Labels, "targets", i, "labels")
	for j, key := range t.HostKeys {
		if _, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil || len(options) > 0 || len(rest) > 0 {
			c.Fault(c.At("targets", i, "host_keys", j), `such as "ssh-ed25519 AAAA…", a line of ssh-keyscan without the host`, "this is not an SSH public key")
		}
	}
	host := t.Address
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	} else {
		host = strings.ToLower(host)
	}
	return Target{Name: t.Name, VNet: t.VNet, Host: host, Offers: t.Protocols, Labels: t.Labels, HostKeys: t.HostKeys}
}

func (c *checker) checkTargetName(i int, name string, named map[string]int) {
	if !c.Has("targets", i, "name") {
		c.Fault(c.At("targets", i), "", "target %d has no name", i+1)
		return
	}
	at := c.At("targets", i, "name")
	if first, twice := named[name]; twice {
		c.Fault(at, "", "target %q is there twice; the first is in line %d", name, c.At("targets", first, "name").Line)
		return
	}
	named[name] = i
	_, isAddr, err := c.options.AddressSyntax(name)
	switch {
	case isAddr, looksNumeric(name):
		c.Fault(at, "add a letter, such as db-"+name, "target name %q looks like an IP address", name)
	case err != nil, !targetName.MatchString(name), strings.Contains(name, ".."):
		c.Fault(at, "", "target name %q must be 1 to 63 of a-z, 0-9, dot and dash, and begin and end with a letter or digit", name)
	}
}

// checkHost wants an IP address in its plain spelling, or a DNS name.
func (c *checker) checkHost(host string, at yamlfile.Position) {
	addr, isAddr, err := c.options.AddressSyntax(host)
	switch {
	case isAddr && err != nil:
		c.Fault(at, "such as 10.0.5.4", "address %q is not a valid IP address", host)
	case isAddr:
		if plain, err := netip.ParseAddr(host); err != nil || plain != addr {
			c.Fault(at, "write it as "+addr.String(), "address %q is not in its plain spelling", host)
		} else if addr.Zone() != "" || addr.Is4In6() {
			c.Fault(at, "write it as "+addr.Unmap().WithZone("").String(), "address %q is not in its plain spelling", host)
		} else if err := c.options.Forbidden(addr); err != nil {
			c.Fault(at, "", "address %s is never reachable: %v", addr, err)
		}
	case err != nil, !isDNSName(host):
		c.Fault(at, "such as 10.0.5.4 or db-1.corp.example", "address %q is neither an IP address nor a DNS name", host)
	}
}

func (c *checker) rule(i int, r ruleForm, named map[string]int) rule {
	c.checkRuleName(i, r.Name, named)
	if len(r.Who) == 0 {
		c.Fault(c.At("rules", i), `such as who: [ann, group:ops] or who: ["*"]`, "rule %q does not say who", r.Name)
	}
	for j, who := range r.Who {
		c.checkWho(who, "rules", i, "who", j)
	}
	for j, pattern := range r.Targets {
		c.checkPattern(pattern, "rules", i, "targets", j)
	}
	for j, vnet := range r.VNets {
		c.checkVNet(vnet, "rules", i, "vnets", j)
	}
	c.checkLabels(r.Labels, "rules", i, "labels")
	for j, protocol := range r.Protocols {
		if !slices.Contains(protocols, protocol) {
			c.Fault(c.At("rules", i, "protocols", j), "known are ssh, rdp and tcp", "protocol %q is not known", protocol)
		}
	}
	for j, prefix := range r.Addresses {
		if prefix.IsValid() && prefix != prefix.Masked() {
			c.Fault(c.At("rules", i, "addresses", j), "write "+prefix.Masked().String(), "%s has bits beyond its prefix length", prefix)
		}
	}
	for _, key := range []string{"targets", "labels", "protocols", "ports", "addresses", "vnets"} {
		if c.Has("rules", i, key) && c.isEmpty(r, key) {
			c.Fault(c.KeyAt("rules", i, key), "leave the key out to mean all", "%s of rule %q is empty", key, r.Name)
		}
	}
	made := rule{
		name: r.Name, who: r.Who, targets: r.Targets, labels: r.Labels, protocols: r.Protocols,
		addresses: r.Addresses, vnets: r.VNets, idle: r.Idle, lifetime: r.Lifetime, grace: r.Grace,
	}
	for _, port := range r.Ports {
		made.ports = append(made.ports, uint16(port))
	}
	c.checkReach(i, made)
	return made
}

func (c *checker) isEmpty(r ruleForm, key string) bool {
	return map[string]int{
		"targets": len(r.Targets), "labels": len(r.Labels), "protocols": len(r.Protocols),
		"ports": len(r.Ports), "addresses": len(r.Addresses), "vnets": len(r.VNets),
	}[key] == 0
}

// checkReach wants a rule to be about something: targets, or addresses.
func (c *checker) checkReach(i int, r rule) {
	at := c.At("rules", i)
	switch {
	case r.namesTargets():
	case len(r.addresses) == 0:
		c.Fault(at, `give targets, labels or addresses; targets: ["*"] means all`, "rule %q reaches nothing", r.name)
	case len(r.vnets) == 0 && len(c.vnets) == 0:
		c.Fault(at, "give vnets", "rule %q does not say in which vnet its addresses lie", r.name)
	case len(r.ports) > 0 && len(r.protocols) != 1:
		c.Fault(at, "make one rule for each protocol", "rule %q is about addresses and has ports, so it must have one protocol", r.name)
	case len(r.ports) == 0 && slices.Contains(r.protocols, TCP):
		c.Fault(at, "such as ports: [5432]", "rule %q is about addresses and allows tcp, so it must have ports", r.name)
	}
}

func (c *checker) checkRuleName(i int, name string, named map[string]int) {
	if !c.Has("rules", i, "name") {
		c.Fault(c.At("rules", i), "the person who is refused sees it", "rule %d has no name", i+1)
		return
	}
	at := c.At("rules", i, "name")
	if first, twice := named[name]; twice {
		c.Fault(at, "", "rule %q is there twice; the first is in line %d", name, c.At("rules", first, "name").Line)
		return
	}
	named[name] = i
	if !isPlain(name, 64) || strings.Contains(name, `"`) {
		c.Fault(at, "", "rule name %q must be 1 to 64 printable characters without a quote", name)
	}
}

func (c *checker) checkWho(who string, steps ...any) {
	group, isGroup := cutGroup(who)
	if !isGroup {
		if who != "*" {
			c.checkUser(who, steps...)
		}
		return
	}
	if _, known := c.form.Groups[group]; !known {
		var names []string
		for name := range c.form.Groups {
			names = append(names, name)
		}
		c.Fault(c.At(steps...), spell.DidYouMean(group, names, "add it under groups"), "there is no group %q", group)
	}
}

// checkPattern wants a name without * to be the name of a target: a slip there would deny in silence.
func (c *checker) checkPattern(pattern string, steps ...any) {
	at := c.At(steps...)
	if !targetName.MatchString(strings.ReplaceAll(pattern, "*", "x")) {
		c.Fault(at, "such as db-1 or web-*", "%q is not a target name or pattern", pattern)
		return
	}
	if strings.Contains(pattern, "*") {
		return
	}
	var names []string
	for _, t := range c.form.Targets {
		names = append(names, t.Name)
	}
	if !slices.Contains(names, pattern) {
		c.Fault(at, spell.DidYouMean(pattern, names, "add it under targets"), "there is no target %q", pattern)
	}
}
