package config

import (
	"io/fs"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"sallyport/appliance/policy/yamlfile"
)

var (
	vnetName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	nicName  = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)
	nicMAC   = regexp.MustCompile(`^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$`)
	unixUser = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,9})$`)
	dnsHost  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// A checker looks for what is wrong in a file whose types are right, and joins its paths with its folder.
type checker struct {
	*yamlfile.File
	Config
	folder string
	stat   func(string) (fs.FileInfo, error)
	nics   map[string]string // the key that names each NIC
}

func (c *checker) check() {
	c.nics = make(map[string]string)
	if c.Has("name") && !isPlain(c.Text("name")) {
		c.Fault(c.At("name"), "", "name %q must be 1 to 64 printable characters", c.Text("name"))
	}
	if c.Has("files") {
		c.Fault(c.KeyAt("files"), "write each of them beside this one, or check with --image", "only the document of an image has files in it")
	}
	c.checkVNets()
	c.checkListen()
	c.checkTLS()
	c.checkUplink()
	c.checkStore()
	if len(c.Update.Keys) > MaxUpdateKeys {
		c.Fault(c.At("update", "keys"), "leave out what signs no more", "update.keys are %d; at most %d", len(c.Update.Keys), MaxUpdateKeys)
	}
	if c.Has("identity_key") {
		c.path(&c.IdentityKey, true, "identity_key")
	}
	if c.Has("metrics", "listen") && !parseHostPort(c.Metrics.Listen) {
		c.Fault(c.At("metrics", "listen"), `such as "127.0.0.1:9090"`, "metrics.listen is %q, which is not an address and a port", c.Metrics.Listen)
	}
	if c.RunAs != "" && !unixUser.MatchString(c.RunAs) {
		c.Fault(c.At("run_as"), "", "run_as is %q, which is neither a user's name nor a number", c.RunAs)
	}
	c.checkLimits()
	c.checkApprovals()
	if c.Grants.Cache > time.Hour {
		c.Fault(c.At("grants", "cache"), "what was decided so long ago may be wrong by now", "grants.cache must be at most 1h")
	}
	c.checkAudit()
	c.checkIdentity()
	c.checkBanner()
	c.checkMachine()
	c.checkTime()
	c.checkSSH()
	c.checkState()
	c.accessPath()
}

// isPlain reports whether s has 1 to 64 bytes and prints as itself.
func isPlain(s string) bool {
	return s != "" && len(s) <= 64 && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (c *checker) checkStore() {
	const example = "such as postgres://sallyport@db.example/sallyport?sslmode=verify-full"
	if c.Has("store", "password_file") {
		c.path(&c.Store.PasswordFile, true, "store", "password_file")
		if !c.Has("store", "url") {
			c.Fault(c.KeyAt("store", "password_file"), "give store.url too", "store.password_file is for a database that store.url names")
		}
	}
	if !c.Has("store", "url") {
		return
	}
	at := c.At("store", "url")
	u, err := url.Parse(c.Store.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || strings.Trim(u.Path, "/") == "" {
		c.Fault(at, example, "store.url is not the URL of a PostgreSQL database") // which may hold a password: it is not shown
		return
	}
	if _, secret := u.User.Password(); secret || u.Query().Has("password") {
		c.Fault(at, "put it into a file and name that as store.password_file", "store.url holds a password")
	}
	if c.Uplink == "listen" && c.Listen.Link.Kind != LinkNone {
		c.Fault(at, "write uplink: kernel, or a VNet's name", "the database is needed before the appliance listens, and uplink is listen")
	}
}

func (c *checker) checkLimits() {
	for key, n := range map[string]int{
		"flows": c.Limits.Flows, "flows_per_user": c.Limits.FlowsPerUser, "unauthenticated": c.Limits.Unauthenticated,
		"detached": c.Limits.Detached, "bench": c.Limits.Bench, "bench_mbit": c.Limits.BenchMbit,
	} {
		if n > 1_000_000 || c.Text("limits", key) == "0" { // withDefaults has replaced a 0
			c.Fault(c.At("limits", key), "", "limits.%s must be 1 to 1000000", key)
		}
	}
}

// checkApprovals keeps what somebody says yes to within what is remembered, and what people let others do within a month.
func (c *checker) checkApprovals() {
	for key, d := range map[string]time.Duration{"approval": c.Limits.Approval, "approved": c.Limits.Approved} {
		if d > 24*time.Hour {
			c.Fault(c.At("limits", key), "", "limits.%s must be at most 24h", key)
		}
	}
	if c.Limits.GuestLink > 30*24*time.Hour || c.Limits.GuestLink < time.Minute {
		c.Fault(c.At("limits", "guest_link"), "", "limits.guest_link must be 1m to 720h")
	}
}

func (c *checker) checkSSH() {
	if first := c.SSH.FirstUse; first != FirstUseAccept && first != FirstUseConfirm {
		c.Fault(c.At("ssh", "first_use"), "", "ssh.first_use must be accept or confirm")
	}
}

func (c *checker) checkBanner() {
	if len(c.Banner) > 500 || strings.ContainsFunc(c.Banner, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.Fault(c.At("banner"), "", "banner must be one line of at most 500 printable characters")
	}
}

// checkMachine checks what holds for the image only.
func (c *checker) checkMachine() {
	m := c.Machine
	if m.Enrol != "" && !isPlain(m.Enrol) {
		c.Fault(c.At("machine", "enrol"), "", "machine.enrol is %q, which is nobody's name", m.Enrol)
	}
	if c.Has("machine", "data") && m.Data != DataAttached {
		c.Fault(c.At("machine", "data"), "or leave it out: then the image's own disk has the data", "machine.data must be %s", DataAttached)
	}
	if m.Interface == "" {
		for _, key := range []string{"addresses", "gateway", "dns"} {
			if c.Has("machine", key) {
				c.Fault(c.KeyAt("machine", key), "say machine: {interface: eth0, …}, or leave it out", "machine.%s is for an interface, and there is none", key)
			}
		}
		return
	}
	c.checkNIC(m.Interface, true, c.At("machine", "interface"), "machine")
	c.checkAddresses(Link{Kind: LinkPacket, Packet: m.Interface}, m.Addresses, m.Gateway, []any{"machine"})
	c.checkDNS(m.DNS, "machine", "dns")
	if c.Listen.Address == "" {
		c.Fault(c.At("machine", "interface"), "leave it out: the kernel needs no address", "machine.interface is for listen.address, and people come in by a stack of the appliance's own")
	}
}
