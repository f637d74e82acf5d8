package policy

import (
	"errors"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"sallyport/appliance/policy/yamlfile"
)

// A Fault is one thing that is wrong with a file, and Faults is all of them.
type (
	Fault  = yamlfile.Fault
	Faults = yamlfile.Faults
)

// A File is one of the files that a policy is made of.
type File struct {
	Name string // in messages
	Data []byte
}

// isCedar reports whether the file holds policies in Cedar; any other is access.yaml, whatever its name.
func (f File) isCedar() bool { return strings.HasSuffix(f.Name, ".cedar") }

// fileForm is access.yaml as it is written.
type fileForm struct {
	Admins      []string            `yaml:"admins"`
	Bench       []string            `yaml:"bench"`
	AddressMode onOff               `yaml:"address_mode"`
	Zone        string              `yaml:"zone"`
	MOTD        string              `yaml:"motd"`
	Groups      map[string][]string `yaml:"groups"`
	Targets     []targetForm        `yaml:"targets"`
	Rules       []ruleForm          `yaml:"rules"`
	Tests       []testForm          `yaml:"tests"`
}

type targetForm struct {
	Name      string            `yaml:"name"`
	VNet      string            `yaml:"vnet"`
	Address   string            `yaml:"address"`
	Protocols offersForm        `yaml:"protocols"`
	Labels    map[string]string `yaml:"labels"`
	HostKeys  []string          `yaml:"host_keys"`
	HostCA    []string          `yaml:"host_ca"`
	RDP       desktopForm       `yaml:"rdp"`
}

type ruleForm struct {
	Name       string            `yaml:"name"`
	Who        []string          `yaml:"who"`
	Targets    []string          `yaml:"targets"`
	Labels     map[string]string `yaml:"labels"`
	Protocols  []string          `yaml:"protocols"`
	Ports      []portForm        `yaml:"ports"`
	Addresses  []netip.Prefix    `yaml:"addresses"`
	VNets      []string          `yaml:"vnets"`
	Idle       time.Duration     `yaml:"idle"`
	Lifetime   time.Duration     `yaml:"lifetime"`
	Grace      time.Duration     `yaml:"grace"`
	Bandwidth  bandwidthForm     `yaml:"bandwidth"`
	Record     bool              `yaml:"record"`
	Approval   string            `yaml:"approval"`
	Principals []string          `yaml:"principals"`
	Hint       string            `yaml:"hint"`
}

type testForm struct {
	Name      string        `yaml:"name"`
	User      string        `yaml:"user"`
	Groups    []string      `yaml:"groups"`
	Action    string        `yaml:"action"`
	Target    string        `yaml:"target"`
	VNet      string        `yaml:"vnet"`
	Protocol  string        `yaml:"protocol"`
	Port      portForm      `yaml:"port"`
	Address   netip.Addr    `yaml:"address"`
	Portal    bool          `yaml:"portal"`
	Source    netip.Addr    `yaml:"source"`
	Transport string        `yaml:"transport"`
	At        string        `yaml:"at"`
	MFAAge    time.Duration `yaml:"mfa_age"`
	Allow     bool          `yaml:"allow"`
	By        string        `yaml:"by"`
	Code      string        `yaml:"code"`
}

// Parse reads access.yaml and the *.cedar files beside it strictly. The error is Faults, with every fault of all files,
// unless o is incomplete.
func Parse(files []File, o Options) (*Policy, error) {
	p, _, err := read(files, o)
	if err != nil {
		return nil, err
	}
	p.ready()
	return p, nil
}

// read reads the files into a policy that is not ready yet, and access.yaml as it is written.
func read(files []File, o Options) (*Policy, *fileForm, error) {
	if o.AddressSyntax == nil || o.Forbidden == nil {
		return nil, nil, errors.New("policy: Options.AddressSyntax and Options.Forbidden must be set")
	}
	access, faults := findAccess(files)
	if faults != nil {
		return nil, nil, faults
	}
	c := &checker{options: o}
	c.File = yamlfile.Read(access.Name, access.Data, &c.form)
	p := c.policy(access.Name)
	faults = appendFaults(faults, c.Err())
	for _, file := range files {
		if !file.isCedar() {
			continue
		}
		f := &cedarFile{name: file.Name, names: &c.names}
		var text string
		var ok bool
		if f.File, text, ok = yamlfile.Plain(file.Name, file.Data); ok {
			p.statements = append(p.statements, f.read(text)...)
		}
		faults = appendFaults(faults, f.Err())
	}
	faults = append(faults, checkStatements(p.statements)...)
	if len(faults) > 0 {
		return nil, nil, faults
	}
	return p, &c.form, nil
}

// findAccess returns the one file that is not Cedar's.
func findAccess(files []File) (access File, faults Faults) {
	found := false
	for _, f := range files {
		switch {
		case f.isCedar():
		case path.Base(f.Name) == "accounts.yaml":
			faults = append(faults, Fault{File: f.Name, Line: 1, Column: 1, Message: "accounts.yaml counts only where the access files are in the database",
				Hint: "use sallyport admin accounts, or set access: database in the configuration"})
		case found:
			faults = append(faults, Fault{File: f.Name, Line: 1, Column: 1, Message: "targets, groups and rules stand in one file, and " + access.Name + " is there too"})
		default:
			access, found = f, true
		}
	}
	if !found {
		faults = append(faults, Fault{File: "access.yaml", Line: 1, Column: 1, Message: "there is no such file beside the policies", Hint: "it says which targets there are"})
	}
	return access, faults
}

func appendFaults(all Faults, err error) Faults {
	var more Faults
	errors.As(err, &more)
	return append(all, more...)
}

// checkStatements wants a limited number of statements, and ids that tell them apart.
func checkStatements(all []*statement) (faults Faults) {
	if len(all) > maxPolicies {
		return Faults{all[maxPolicies].fault("there are %d policies; at most %d are read", len(all), maxPolicies)}
	}
	first := make(map[string]*statement, len(all))
	for _, s := range all {
		if other, twice := first[s.id]; twice && !(s.word == "rule" && other.word == "rule") { // which has its fault already
			faults = append(faults, s.fault("id %q is there twice; the first is at %s", s.id, other.place()))
			continue
		}
		first[s.id] = s
	}
	return faults
}

// Keys returns the keys that access.yaml may have, by the name of the list or mapping that they stand in. The tests
// of the docs compare with it.
func Keys() map[string][]string {
	return map[string][]string{
		"":        yamlfile.Keys(reflect.TypeFor[fileForm]()),
		"targets": yamlfile.Keys(reflect.TypeFor[targetForm]()),
		"rdp":     yamlfile.Keys(reflect.TypeFor[desktopForm]()),
		"rules":   yamlfile.Keys(reflect.TypeFor[ruleForm]()),
		"tests":   yamlfile.Keys(reflect.TypeFor[testForm]()),
	}
}

// A checker looks for what is wrong in an access.yaml whose types are right, and builds the policy.
type checker struct {
	*yamlfile.File
	names
	form    fileForm
	options Options
}

func (c *checker) policy(file string) *Policy {
	c.knowNames()
	if m := c.form.MOTD; len(m) > maxMOTD || strings.ContainsFunc(m, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.Fault(c.At("motd"), "", "motd must be one line of at most %d printable characters", maxMOTD)
	}
	p := &Policy{addressMode: bool(c.form.AddressMode), motd: c.form.MOTD, groups: c.form.Groups, vnets: c.vnets, zone: c.zone, options: c.options}
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
	named := make(map[string]int)
	for i, t := range c.form.Targets {
		p.targets = append(p.targets, c.target(i, t, named))
	}
	slices.SortFunc(p.targets, func(a, b Target) int { return strings.Compare(a.Name, b.Name) })
	if who := c.form.Admins; len(who) > 0 {
		p.statements = append(p.statements, c.own(file, "admins", who, Admin, ViewSession, KillSession))
	}
	if who := c.form.Bench; len(who) > 0 {
		p.statements = append(p.statements, c.own(file, "bench", who, Bench))
	}
	named = make(map[string]int)
	for i, r := range c.form.Rules {
		p.statements = append(p.statements, c.rule(file, i, r, named))
	}
	for i, t := range c.form.Tests {
		p.tests = append(p.tests, c.test(file, i, t))
	}
	return p
}

// knowNames collects what the file defines.
func (c *checker) knowNames() {
	c.groups, c.unread = c.form.Groups, !c.Parsed()
	c.targets = make(map[string]bool, len(c.form.Targets))
	for _, t := range c.form.Targets {
		c.targets[t.Name] = true
	}
	c.knowVNets()
	c.zone = time.UTC
	if c.Has("zone") {
		if zone, ok := zoneOf(c.File, c.form.Zone, "zone", c.At("zone")); ok {
			c.zone = zone
		}
	}
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

func (c *checker) checkUser(user string, steps ...any) { checkUser(c.File, user, c.At(steps...)) }

func (c *checker) checkVNet(vnet string, steps ...any) {
	c.names.checkVNet(c.File, vnet, c.At(steps...))
}

func (c *checker) checkWho(who string, steps ...any) {
	if group, isGroup := cutGroup(who); isGroup {
		c.checkGroup(c.File, group, c.At(steps...))
	} else if who != "*" {
		c.checkUser(who, steps...)
	}
}
