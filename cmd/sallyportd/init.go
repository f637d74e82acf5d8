package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	_ "golang.org/x/crypto/x509roots/fallback" // an image has no roots of its own; where the system has some, they count

	"sallyport/appliance/config"
	"sallyport/host"
	"sallyport/host/boot"
	"sallyport/host/disk"
	"sallyport/host/metadata"
	"sallyport/host/source"
	"sallyport/netstack/dhcp"
)

// Where an image keeps things. All but /data is in memory.
const (
	imageRun    = "/run/sallyport"
	imageFolder = imageRun + "/etc"
	imageConfig = imageFolder + "/sallyport.yaml"
	imageMemory = imageRun + "/state" // the state of a machine without a data partition
	imageData   = "/data"
)

// called finds the command of a program that the kernel starts by a name of its own: /init of an image, and /sbin/poweroff
// and /sbin/reboot, which lead to the same file.
func called(args []string) []string {
	name := filepath.Base(args[0])
	if name == "init" && os.Getpid() == 1 || name == "poweroff" || name == "reboot" {
		return []string{"sallyportd", name} // what the kernel's command line has for process 1 is not for us
	}
	return args
}

func initCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "init", Hidden: true, Usage: "is started by the kernel of an image",
		Action: func(c *cli.Context) error {
			if os.Getpid() != 1 {
				return fail(exitUsage, "run: sallyportd serve", "init is for the kernel of an image to start, not for people")
			}
			return runImage(e)
		},
	}
}

// stopCommand is how the kernel asks for an end: it runs a program when the hypervisor wants one.
func stopCommand(name string, how boot.How) *cli.Command {
	return &cli.Command{
		Name: name, Hidden: true, Usage: "asks process 1 of an image for it",
		Action: func(c *cli.Context) error {
			err := boot.Ask(how)
			if errors.Is(err, boot.ErrNotOurs) {
				return fail(exitUsage, "use the host's own "+name, "%s is for the appliance's image: %w", name, err)
			}
			return err
		},
	}
}

// An image is a machine that this program is the only one of.
type image struct {
	log  *slog.Logger
	said map[string]*os.File // where the output of our other processes goes, by lines
	seen []string            // NICs that have been there
	code sync.Once
	end  func(boot.How) // stops the machine, in order

	grace atomic.Int64   // nanoseconds that flows have when the machine stops
	dog   *host.Watchdog // while no worker is watched, where the machine has one

	disks   disk.Disks
	data    disk.Data     // what is mounted
	lost    error         // why it is not known what the machine was started from
	given   []byte        // a document that a person has given and that is to be kept
	updater *updater      // nil where the machine was not started by a boot loader
	healthy chan struct{} // is closed when the first worker's self-test has passed
	passed  sync.Once     // closes it

	surveys  sync.Mutex
	networks []host.Network // as last said
}

// runImage is process 1. It returns only if the machine cannot even be prepared or stopped, which ends in a kernel panic
// and, as the kernel's command line says, in a restart.
func runImage(e env) error {
	log, err := boot.Start()
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	log.Info(software()+" starts", "build", build())
	m := &image{log: log, healthy: make(chan struct{}), said: map[string]*os.File{}}
	boot.Coldplug(log, m.watch)
	variables := boot.MountVariables()
	boot.Harden(log)
	if err := boot.Hostname(""); err != nil {
		log.Warn("the machine has no name", "cause", err)
	}
	for _, name := range []string{saysWorker, saysLease, saysFetch, saysSetup} {
		if m.said[name], err = relay(name); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var how atomic.Int32
	var once sync.Once
	m.end = func(h boot.How) {
		log.Info("the machine is asked to stop", "how", h.String())
		how.Store(int32(h))
		once.Do(func() {
			time.AfterFunc(time.Duration(m.grace.Load())+stopSlow, func() {
				log.Error("the machine has not come to an orderly end; it stops now")
				boot.Force(boot.How(how.Load()))
			})
		})
		stop()
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			if s == boot.PowerOff.Signal() {
				m.end(boot.PowerOff)
			} else {
				m.end(boot.Restart)
			}
		}
	}()
	go boot.Reap(context.WithoutCancel(ctx))
	boot.PowerButton(ctx, log, func() { m.end(boot.PowerOff) })
	m.openDisk(variables)
	if m.updater != nil {
		go m.updater.prove(ctx, m.healthy, onTrial)
	} else if m.lost != nil {
		go m.expire(ctx, onTrial)
	}
	if m.mountData(ctx, disk.Wish{}) {
		m.live(ctx)
	}
	return boot.Stop(boot.How(how.Load()), log)
}

// expire restarts the machine when no worker has passed its self-test in time, where it is not known whether this version is
// on trial: if it is, the loader takes the version before in the end.
func (m *image) expire(ctx context.Context, patience time.Duration) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-m.healthy:
	case <-t.C:
		m.log.Error("nothing has passed its self-test, and it is not known whether this version is on trial; the machine restarts", "cause", m.lost)
		m.end(boot.Restart)
	}
}

// stopSlow is how long the machine may take to stop when flows have had their time: for a worker that hangs, an update that
// is being installed, and what is written out. A version on trial that gets stuck would keep the loader from going back.
const stopSlow = 2 * time.Minute

// Who else speaks in the kernel's log.
const saysWorker, saysLease, saysFetch, saysSetup = "worker", "lease", "fetch", "setup"

// relay makes the file that processes of one kind write their output to.
func relay(name string) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	go boot.Relay(read, kmsg, name) // for as long as the machine runs: this end of the pipe stays open
	return write, nil
}

// Between two looks for another configuration, and between two tries of one.
const anotherLook, anotherTry = 10 * time.Second, 5 * time.Second

// How long the steps may take before there is a worker, so that the watchdog sees one that is stuck: a file system of which
// much is to be written again, or is made on a slow disk; and a search that ends with ten minutes of waiting for a person.
const dataSlow, findSlow = 5 * time.Minute, setupCode + fetchAll + dataSlow

// watch opens the machine's watchdog.
func (m *image) watch() {
	if _, err := os.Stat(boot.Watchdog); err != nil {
		return
	}
	var err error
	if m.dog, err = host.OpenWatchdog(boot.Watchdog, m.log); err != nil {
		m.log.Error("nobody watches process 1", "cause", err)
	}
}

// run runs a parent, which has the watchdog meanwhile.
func (m *image) run(ctx context.Context, p host.Parent) error {
	if err := m.dog.Close(); err != nil {
		m.log.Error("watchdog", "cause", err)
	}
	m.dog = nil
	defer m.watch()
	return p.Run(ctx)
}

// waitNICs waits until the NICs of a configuration are there, or ctx has ended.
func (m *image) waitNICs(ctx context.Context, cfg *config.Config) error {
	wanted := m.unseen(cfg)
	for {
		m.dog.Well(findSlow)
		again, stop := context.WithTimeout(ctx, findSlow/2)
		err := host.WaitNICs(again, wanted, m.missing)
		stop()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// live finds a configuration and serves by it, and by the next one where it is wrong, until ctx ends.
func (m *image) live(ctx context.Context) {
	var last source.Document
	for said := ""; ctx.Err() == nil; {
		m.dog.Well(findSlow)
		d, err := m.find(ctx)
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			m.log.Error("there is no configuration; the machine waits for one", "cause", err)
		case err == nil && !reflect.DeepEqual(d, last):
			last, said = d, ""
			m.log.Info("configuration", "from", d.From)
			if m.serve(ctx, d) {
				return
			}
			m.log.Error("the configuration is wrong; the machine waits for another, or for a restart", "from", d.From)
		}
		rest(ctx, anotherLook)
	}
}

// serve serves by a configuration. It returns whether ctx has ended; otherwise the configuration is wrong.
func (m *image) serve(ctx context.Context, d source.Document) (done bool) {
	if err := os.MkdirAll(imageRun, 0o755); err != nil { // the worker's state may lie in it
		m.tell(err)
		return false
	}
	if err := source.Unpack(d, imageFolder); err != nil {
		m.tell(err)
		return false
	}
	cfg, err := config.Load(imageConfig)
	if err != nil {
		m.tell(err)
		return false
	}
	if !m.decideData(ctx, cfg) {
		return true
	}
	m.keepGiven()
	state := imageState()
	if state == imageMemory {
		if err := boot.Memory(state); err != nil {
			m.log.Error("the state shares its memory with process 1", "cause", err)
		}
	}
	m.log.Info("state", "folder", state)
	if name := hostname(cfg.Name); name != "" {
		if err := boot.Hostname(name); err != nil {
			m.log.Warn("the machine keeps its name", "cause", err)
		}
	}
	if err := m.waitNICs(ctx, cfg); err != nil {
		return true
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if cfg.Machine.Addresses.DHCP {
		wg.Go(func() { m.lease(ctx, cfg.Machine) })
	} else if cfg.Machine.Interface != "" { // before there is a socket on one of them
		m.address(cfg.Machine, host.Addressing{Addresses: cfg.Machine.Addresses.Static, Gateways: cfg.Machine.Gateway}, cfg.Machine.DNS)
	}
	parent := host.Parent{
		Plan: func() (host.Plan, error) {
			p, err := plan(imageConfig)
			p.State = state
			m.grace.Store(int64(p.Grace))
			return p, err
		},
		Log: m.log, RunDir: imageRun, Output: m.said[saysWorker],
		Args:    []string{"sallyportd", "worker", "--config", imageConfig, "--cloud", string(metadata.Detect("/"))},
		Given:   m.survey,
		Healthy: func() { m.passed.Do(func() { close(m.healthy) }) },
	}
	if m.updater != nil {
		parent.Updater = m.updater
	}
	if _, err := os.Stat(boot.Watchdog); err == nil {
		parent.Watchdog, parent.Armed = boot.Watchdog, true
	}
	wg.Go(func() { m.firstDevice(ctx, cfg, state) })
	for ctx.Err() == nil {
		err := m.run(ctx, parent)
		var wrong *host.ExitError
		if ctx.Err() == nil && errors.As(err, &wrong) && wrong.Code == exitConfig {
			return false
		}
		if err != nil {
			m.log.Error("the appliance does not run", "cause", err)
		}
		rest(ctx, anotherTry)
	}
	return true
}

// survey says what the kernel has in each network namespace: where a stack of ours has the NIC, nothing.
func (m *image) survey() {
	m.surveys.Lock()
	defer m.surveys.Unlock()
	networks, err := host.Survey(imageRun)
	if err != nil {
		m.log.Warn("the kernel does not say what it has", "cause", err)
	}
	if reflect.DeepEqual(networks, m.networks) {
		return
	}
	m.networks = networks
	for _, n := range networks {
		m.log.Info("the kernel has", "vnet", cmp.Or(n.VNet, "none"), "interfaces", n.NICs, "addresses", n.Addresses, "routes", n.Routes)
	}
}

// tell says what is wrong with a configuration, one line a fault.
func (m *image) tell(err error) {
	for line := range strings.Lines(err.Error()) {
		m.log.Error(strings.TrimSpace(line))
	}
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// imageState is the folder of all that is kept: on the data partition, where there is one.
func imageState() string {
	var data, root syscall.Stat_t
	if syscall.Stat(imageData, &data) == nil && syscall.Stat("/", &root) == nil && data.Dev != root.Dev {
		return filepath.Join(imageData, "state")
	}
	return imageMemory
}

// hostname makes a name that people see one that a machine may have (RFC 1123 §2.1), or none.
func hostname(name string) string {
	name = strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name), "-")
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

// unseen are the NICs that a configuration names and that have not been there. One that has may be in a namespace of its
// own by now.
func (m *image) unseen(cfg *config.Config) []string {
	names := []string{cfg.Machine.Interface, cfg.Listen.Link.Packet}
	for _, v := range cfg.VNets {
		names = append(names, v.Link.Packet)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" || slices.Contains(m.seen, n) })
	m.seen = append(m.seen, names...)
	return names
}

func (m *image) missing(nics []string) {
	m.log.Error("the configuration names interfaces that are not there; the machine waits for them", "interfaces", nics)
}

// lease keeps a lease of the kernel's, on the NIC that people come in by, until ctx ends.
func (m *image) lease(ctx context.Context, c config.Machine) {
	l := host.Lessee{NIC: c.Interface, Args: []string{"sallyportd", "lease"}, Output: m.said[saysLease]}
	err := l.Run(ctx, func(line []byte) {
		var got leaseLine
		if err := json.Unmarshal(line, &got); err != nil {
			m.log.Warn("a lease that makes no sense", "interface", c.Interface, "cause", err)
			return
		}
		if got.Lease == nil {
			m.log.Warn("the machine has no address any more", "interface", c.Interface, "cause", got.Lost)
			m.address(c, host.Addressing{}, nil)
			return
		}
		a, dns := got.addressing(c)
		m.address(c, a, dns)
	})
	if err != nil {
		m.log.Error("the machine gets no address by DHCP", "interface", c.Interface, "cause", err)
	}
}

// address sets the kernel's addresses and name servers.
func (m *image) address(c config.Machine, a host.Addressing, dns []netip.Addr) {
	if err := host.Address(c.Interface, a); err != nil {
		m.log.Error("the kernel does not take its addresses", "interface", c.Interface, "cause", err)
		return
	}
	var conf strings.Builder
	for _, s := range dns {
		fmt.Fprintf(&conf, "nameserver %s\n", s)
	}
	if err := os.WriteFile("/etc/resolv.conf", []byte(conf.String()), 0o644); err != nil {
		m.log.Error("names will not be resolved", "cause", err)
	}
	m.log.Info("the machine's addresses", "interface", c.Interface, "addresses", a.Addresses, "gateway", a.Gateways, "dns", dns)
	m.survey()
}

// A leaseLine is what a lessee says: a lease, or why there is none any more.
type leaseLine struct {
	Lease *dhcp.Lease `json:"lease,omitempty"`
	Lost  string      `json:"lost,omitempty"`
}

// addressing is a lease as the kernel takes it. The process that has told it is not trusted: what is no address of a
// machine is left out.
func (l leaseLine) addressing(c config.Machine) (host.Addressing, []netip.Addr) {
	a := host.Addressing{Gateways: c.Gateway}
	if p := l.Lease.Address; p.IsValid() && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsMulticast() && !p.Addr().IsUnspecified() {
		a.Addresses = []netip.Prefix{p}
	}
	if r := l.Lease.Router; len(a.Gateways) == 0 && r.Is4() && !r.IsUnspecified() {
		a.Gateways = []netip.Addr{r}
	}
	if l.Lease.MTU >= 1280 && l.Lease.MTU <= 9000 {
		a.MTU = l.Lease.MTU
	}
	dns := c.DNS
	if len(dns) == 0 {
		dns = l.Lease.DNS[:min(len(l.Lease.DNS), 3)] // as many as a resolver reads
	}
	return a, dns
}

// leaseCommand is a lessee: it asks on the packet socket 3 and answers on 4.
func leaseCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "lease", Hidden: true, Usage: "is started by init",
		Action: func(c *cli.Context) error {
			mac, err := net.ParseMAC(c.Args().First())
			if err != nil || c.NArg() != 1 {
				return fail(exitUsage, "run: sallyportd serve", "lease is for init to start, not for people")
			}
			if err := host.Confine(); err != nil {
				return err
			}
			socket, answers := os.NewFile(3, "dhcp"), os.NewFile(4, "answers")
			defer socket.Close()
			defer answers.Close()
			out := json.NewEncoder(answers)
			return dhcp.Client{Conn: dhcp.File(socket), MAC: mac}.Run(c.Context, func(l *dhcp.Lease, why error) {
				line := leaseLine{Lease: l}
				if l == nil {
					line.Lost = why.Error()
				}
				out.Encode(line)
			})
		},
	}
}

// firstDevice shows a code on the console for the person who is to enrol first, once in the life of the machine, if no
// device is enrolled by then.
func (m *image) firstDevice(ctx context.Context, cfg *config.Config, state string) {
	if cfg.Machine.Enrol == "" {
		return
	}
	here := *cfg
	here.State = state
	for ctx.Err() == nil {
		var a firstAnswer
		if err := askDaemon(ctx, &here, http.MethodPost, "first-code", firstQuestion{cfg.Machine.Enrol}, &a); err != nil {
			rest(ctx, time.Second/2)
			continue
		}
		if a.Code == "" {
			return
		}
		if !a.wellFormed() {
			m.log.Error("no code to enrol by", "cause", nonsense(&here))
			return
		}
		m.code.Do(func() { m.show(cfg.Machine.Enrol, a.enrolAnswer) })
		return
	}
}

// show writes a code to the consoles, and nowhere else: the kernel's log is kept, and read by others.
func (m *image) show(user string, a enrolAnswer) {
	login := "sallyport login https://" + publicName(a.Listen) + " --user " + user
	if a.Pinned {
		login += " --fingerprint " + a.Fingerprint
	}
	boot.Display(fmt.Sprintf("\nNo device is enrolled yet. For %s, once, within ten minutes:\n  %s\n  code: %s\n\n", user, login, a.Code))
}
