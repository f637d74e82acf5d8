package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"sallyport/appliance"
	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/config"
	"sallyport/client"
	"sallyport/frame"
	"sallyport/host"
	"sallyport/host/metadata"
	"sallyport/netstack"
	"sallyport/netstack/link"
	"sallyport/transport"
)

func demoCommand(e env) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "show the main job: appliance, two targets in memory, client",
		Description: "Everything lives in this process and in a temporary folder. The targets'\n" +
			"shells are those of the user who runs the demo, and only certificates of the\ndemo's appliance open them.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "end after the transcript; 0 if each step did what it says"},
			&cli.BoolFlag{Name: "allow-root", Usage: "run as root too, whose shell the targets then give"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8443", Usage: "`ADDRESS`, or another port there"},
			&cli.BoolFlag{Name: "verbose", Usage: "show the appliance's log"},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if os.Geteuid() == 0 && !c.Bool("allow-root") {
				return fail(exitUsage, "run it as an ordinary user, or add --allow-root", "the demo's targets would give root's shell")
			}
			d, err := newDemo(e, c.String("listen"), c.Bool("verbose"))
			if err != nil {
				return err
			}
			defer d.close()
			// A terminal that is closed, or a reader that has read enough, must not leave the demo's folder behind.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGHUP)
			defer stop()
			return d.run(ctx, c.Bool("once"))
		},
	}
}

// Where things are in the demo's VNet.
const (
	demoPrefix = "10.99.0.0/16"
	demoOwn    = "10.99.0.4/16"
)

var demoMachines = []struct{ name, addr string }{{"demo-1", "10.99.0.11"}, {"demo-2", "10.99.0.12"}}

// A demo is an appliance with everything around it.
type demo struct {
	out      io.Writer
	dir      string
	tcp      net.Listener
	udp      *net.UDPConn
	log      *slog.Logger
	key      ssh.Signer // ann's, certified
	machines []*machine
	far      *netstack.Stack // the machines' end of the VNet
	near     *netstack.Stack // the appliance's
	steps    int             // of the transcript
}

func newDemo(e env, listen string, verbose bool) (d *demo, err error) {
	d = &demo{out: e.stdout, log: slog.New(slog.DiscardHandler)}
	if verbose {
		d.log = logger(e)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
		return d, err
	}
	if d.tcp, d.udp, err = listenBoth(listen); err != nil {
		return d, err
	}
	return d, d.makeVNet()
}

// listenBoth opens one port for TCP and UDP: the asked one, or any if that is busy.
func listenBoth(address string) (net.Listener, *net.UDPConn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	var last error
	for _, a := range []string{address, net.JoinHostPort(host, "0"), net.JoinHostPort(host, "0"), net.JoinHostPort(host, "0")} {
		tcp, err := net.Listen("tcp", a)
		if err != nil {
			last = err
			continue
		}
		at := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
		if err == nil {
			return tcp, udp, nil
		}
		last = err
		tcp.Close()
	}
	return nil, nil, last
}

// makeVNet joins two stacks: the appliance's, and one that has both machines' addresses.
func (d *demo) makeVNet() (err error) {
	near, far := link.Pipe(link.PipeOptions{})
	prefix := []netip.Prefix{netip.MustParsePrefix(demoPrefix)}
	if d.near, err = netstack.New(netstack.Config{Name: "demo", Link: near, Prefixes: prefix,
		Addresses: []netip.Prefix{netip.MustParsePrefix(demoOwn)}}); err != nil {
		return err
	}
	machines := netstack.Config{Name: "machines", Link: far, Prefixes: prefix, Serve: []uint16{22}}
	for _, m := range demoMachines {
		machines.Addresses = append(machines.Addresses, netip.PrefixFrom(netip.MustParseAddr(m.addr), 16))
	}
	if d.far, err = netstack.New(machines); err != nil {
		return err
	}
	for _, m := range demoMachines {
		made, err := newMachine(m.name)
		if err != nil {
			return err
		}
		d.machines = append(d.machines, made)
	}
	return nil
}

func (d *demo) close() {
	for _, s := range []*netstack.Stack{d.near, d.far} {
		if s != nil {
			s.Close()
		}
	}
	if d.tcp != nil {
		d.tcp.Close()
		d.udp.Close()
	}
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// configuration is the appliance's. Its format has no word for a VNet in memory: demoSupply brings it.
func (d *demo) configuration() (*config.Config, error) {
	cfg, err := config.Parse(filepath.Join(d.dir, "sallyport.yaml"), fmt.Appendf(nil, `
name: demo
listen: {address: %q}
tls: {self_signed: true}
state: state
access: access
drain: {grace: 1s}
vnets:
  demo: {link: {kernel: {}}, prefixes: [%s]}
`, d.tcp.Addr().String(), demoPrefix))
	if err == nil { // which wants a name, since passkeys belong to names; the demo has none
		cfg.Identity = config.Identity{URL: "https://" + d.tcp.Addr().String(), Lasts: 12 * time.Hour, Refresh: 15 * time.Minute, Token: 10 * time.Minute}
	}
	return cfg, err
}

func (d *demo) access() string {
	var b strings.Builder
	b.WriteString("admins: [ann]\nbench: [ann]\ntargets:\n")
	for i, m := range demoMachines {
		fmt.Fprintf(&b, "  - {name: %s, vnet: demo, address: %s, protocols: {ssh: 22}, labels: {env: demo}, host_keys: [%q]}\n",
			m.name, m.addr, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(d.machines[i].host))))
	}
	b.WriteString("  - {name: vault, vnet: demo, address: 10.99.0.12, protocols: {ssh: 22}, labels: {env: demo, tier: secret}}\n")
	b.WriteString("  - {name: payroll, vnet: demo, address: 10.99.0.13, protocols: {ssh: 22}}\n")
	b.WriteString("rules:\n  - {name: demo targets, who: [ann], labels: {env: demo}, protocols: [ssh], share: true}\n")
	return b.String()
}

// demoPolicy is one that a rule cannot say.
const demoPolicy = `@id("secrets need a second factor")
@hint("sign in with a second factor")
forbid (principal, action in Action::"use", resource in Label::"tier=secret")
unless { context.mfa };
`

// demoSupply gives the daemon the demo's sockets and its VNet in memory.
type demoSupply struct{ *demo }

func (demoSupply) Updates() parentUpdates { return nil }

func (s demoSupply) Listener(string) (net.Listener, error)   { return s.tcp, nil }
func (s demoSupply) PacketConn(string) (*net.UDPConn, error) { return s.udp, nil }
func (s demoSupply) Network(string, config.VNet, serving) (network, error) {
	return fenced{s.near, s.near.Fence()}, nil
}
func (s demoSupply) File(path string) ([]byte, error) { return os.ReadFile(path) }
func (s demoSupply) Files(path string) (map[string][]byte, error) {
	return host.ReadFiles(path, accessFiles)
}
func (s demoSupply) Changed() <-chan struct{} { return nil }
func (s demoSupply) State() string            { return filepath.Join(s.dir, "state") }

// Nobody watches over a demo.
func (s demoSupply) Serving(func(context.Context) error) {}
func (s demoSupply) Draining()                           {}
func (s demoSupply) SetClock(time.Duration) error        { return errors.ErrUnsupported }

// run starts the machines and the appliance, plays the transcript, and stays until ctx ends.
func (d *demo) run(ctx context.Context, once bool) (err error) {
	folder := filepath.Join(d.dir, "access")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{"access.yaml": d.access(), "secrets.cedar": demoPolicy} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	cfg, err := d.configuration()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, m := range demoMachines {
		l, err := d.far.Listen(ctx, "tcp", net.JoinHostPort(m.addr, "22"))
		if err != nil {
			return err
		}
		defer l.Close()
		wg.Go(func() { d.machines[i].serve(l) })
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	wg.Go(func() { ended <- runDaemon(ctx, cfg, demoSupply{d}, metadata.None, d.log) })

	if err := d.transcript(ctx, cfg, once); err != nil {
		select {
		case daemonErr := <-ended:
			err = errors.Join(err, daemonErr)
		default:
		}
		return fmt.Errorf("the demo failed: %w", err)
	}
	if once {
		return nil
	}
	fmt.Fprintln(d.out, "\nThe appliance stays up. Ctrl-C ends it and removes everything.")
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// transcript does what a person would do, and says what happened.
func (d *demo) transcript(ctx context.Context, cfg *config.Config, once bool) error {
	address := d.tcp.Addr().String()
	fmt.Fprintf(d.out, `Sallyport demo

  appliance  https://%s (QUIC and HTTPS on the same port)
  VNet       %s, in memory; the kernel has no address in it
  targets    demo-1 and demo-2, SSH on port 22, reachable through the appliance only
`, address, demoPrefix)

	home, err := d.enrol(ctx, cfg)
	if err != nil {
		return err
	}
	command := "uname -sr; echo \"hello from $SALLYPORT_DEMO\""
	for _, mode := range []transport.Mode{transport.QUIC, transport.HTTPS} {
		d.step("a command on demo-1, over %s", strings.ToUpper(string(mode)))
		d.line("$ sallyport --transport %s ssh demo-1 -- '%s'", mode, command)
		out, err := d.ssh(ctx, home, mode, "demo-1", command, nil)
		if err != nil {
			return err
		}
		d.line("%s", strings.TrimRight(out, "\n"))
		if !strings.Contains(out, "hello from demo-1") {
			return fmt.Errorf("demo-1 answered %q", out)
		}
	}
	if err := d.copyFile(ctx, home); err != nil {
		return err
	}
	for _, refused := range []struct{ what, target, code, moral string }{
		{"a request that no rule allows", "payroll", "E_TARGET_UNKNOWN", "what ann may not see is to her as if it were not there"},
		{"a request that a policy denies", "vault", "E_DENIED", "she may see it, and is told which policy says no"},
	} {
		if err := d.refusal(ctx, home, refused.what, refused.target, refused.code, refused.moral); err != nil {
			return err
		}
	}
	if err := d.audit(ctx, home); err != nil {
		return err
	}
	if once {
		return nil
	}
	link, err := askForCode(ctx, cfg, api.AskCode{User: "ann", Valid: appliance.CodeLife})
	if err != nil {
		return err
	}
	d.step("now by hand, in another terminal")
	d.line("export SALLYPORT_HOME=%s", home.Dir())
	d.line("export PATH=%s:$PATH", filepath.Dir(d.sibling()))
	d.line("sallyport ls")
	d.line("sallyport ssh ann@demo-1")
	d.line("sallyport share demo-1 --for 30m")
	d.line("sallyport sessions")
	d.line("sallyport audit --follow")
	d.line("sallyport admin policy why --user ann --target vault")
	d.line("sallyport doctor")
	d.line("sallyport bench demo-1")
	d.step("or in a browser: terminals, files, and what an administrator sees")
	d.line("https://%s/login/code#%s", address, link.Code)
	d.line("(opens signed in as ann, once, within %v; the browser warns first, since the demo's certificate is its own)", appliance.CodeLife)
	return nil
}

func (d *demo) step(format string, args ...any) {
	d.steps++
	fmt.Fprintf(d.out, "\n%d. %s\n", d.steps, fmt.Sprintf(format, args...))
}

func (d *demo) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(d.out, "   "+strings.ReplaceAll(text, "\n", "\n   "))
}

// sibling is the person's command, as it was built beside this one.
func (d *demo) sibling() string {
	self, err := os.Executable()
	if err != nil {
		return "sallyport"
	}
	return filepath.Join(filepath.Dir(self), "sallyport")
}

// enrol makes a code and logs a device in with it.
func (d *demo) enrol(ctx context.Context, cfg *config.Config) (client.Home, error) {
	d.step("ann's device is enrolled with a one-time code")
	var answer enrolAnswer
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if answer, err = askForCode(ctx, cfg, api.AskCode{User: "ann", Valid: appliance.CodeLife}); err == nil {
			break
		}
		if ctx.Err() != nil || time.Since(begin) > 10*time.Second {
			return client.Home{}, err
		}
	}
	home, err := client.OpenHome(filepath.Join(d.dir, "home"))
	if err != nil {
		return home, err
	}
	url := "https://" + d.tcp.Addr().String()
	d.line("the appliance makes the code (sallyportd enrol-code), ann's device proves its new key with it (sallyport login)")
	profile, err := client.Login(ctx, home, client.LoginOptions{
		URL: url, Code: answer.Code, User: "ann", Device: "demo", Profile: "demo", Fingerprint: answer.Fingerprint})
	if err != nil {
		return home, err
	}
	d.line("signed in to %s as %s, device %s", profile.Name, profile.User, profile.Device)
	return home, d.certify(ctx, cfg, home)
}

// certify has the machines trust the appliance's authority, and the appliance sign a key of ann's.
func (d *demo) certify(ctx context.Context, cfg *config.Config, home client.Home) error {
	var answer caAnswer
	if err := askDaemon(ctx, cfg, http.MethodGet, "ca?", nil, &answer); err != nil {
		return err
	}
	var authorities []ssh.PublicKey
	for _, line := range answer.Lines {
		authority, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return err
		}
		authorities = append(authorities, authority)
	}
	for _, m := range d.machines {
		m.trust(authorities)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	profile, err := home.Profile("demo")
	if err != nil {
		return err
	}
	dialer, err := client.NewDirect(home, profile, client.Options{Transport: transport.QUIC})
	if err != nil {
		return err
	}
	defer dialer.Close()
	a := client.NewAPI(dialer)
	defer a.Close()
	signed, err := a.SSHCertificate(ctx, api.AskSSHCertificate{Target: demoMachines[0].name, Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))})
	if err != nil {
		return err
	}
	cert, _, _, _, err := ssh.ParseAuthorizedKey([]byte(signed.Certificate))
	if err != nil {
		return err
	}
	certificate, ok := cert.(*ssh.Certificate)
	if !ok {
		return errors.New("the appliance's SSH certificate is none")
	}
	d.key, err = ssh.NewCertSigner(certificate, signer)
	d.line("the appliance certifies an SSH key of hers: the targets trust its certificates, and nothing else")
	return err
}

// ssh runs a command on a machine through the appliance and returns what it printed.
func (d *demo) ssh(ctx context.Context, home client.Home, mode transport.Mode, target, command string, stdin io.Reader) (string, error) {
	profile, err := home.Profile("demo")
	if err != nil {
		return "", err
	}
	dialer, err := client.NewDirect(home, profile, client.Options{Transport: mode})
	if err != nil {
		return "", err
	}
	defer dialer.Close()
	flow, _, err := dialer.Open(ctx, frame.OpenRequest{Target: target, Protocol: "ssh"}, nil)
	if err != nil {
		return "", err
	}
	defer flow.Close()
	stop := context.AfterFunc(ctx, func() { flow.Close() })
	defer stop()
	var host ssh.PublicKey
	for i, m := range demoMachines {
		if m.name == target {
			host = d.machines[i].host
		}
	}
	conn, channels, requests, err := ssh.NewClientConn(flow, target, &ssh.ClientConfig{
		User: "ann", Auth: []ssh.AuthMethod{ssh.PublicKeys(d.key)}, HostKeyCallback: ssh.FixedHostKey(host), Timeout: 10 * time.Second})
	if err != nil {
		return "", err
	}
	c := ssh.NewClient(conn, channels, requests)
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	session.Stdin = stdin
	var out bytes.Buffer
	session.Stdout = &out
	err = session.Run(command)
	return out.String(), err
}

// copyFile copies a file to a machine and back, and compares.
func (d *demo) copyFile(ctx context.Context, home client.Home) error {
	const size = 8 << 20
	d.step("a file of 8 MiB to demo-2 and back")
	data := make([]byte, size)
	rand.Read(data)
	path := filepath.Join(d.dir, "copy")
	begin := time.Now()
	if _, err := d.ssh(ctx, home, transport.HTTPS, "demo-2", "cat > "+path, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("copy to demo-2: %w", err)
	}
	back, err := d.ssh(ctx, home, transport.QUIC, "demo-2", "cat "+path, nil)
	if err != nil {
		return fmt.Errorf("copy from demo-2: %w", err)
	}
	took := time.Since(begin)
	sent, got := sha256.Sum256(data), sha256.Sum256([]byte(back))
	if sent != got {
		return errors.New("the copy differs")
	}
	d.line("there over HTTPS, back over QUIC: SHA-256 %x… both times, %v", sent[:8], took.Round(time.Millisecond))
	return nil
}

// refusal asks for what is not allowed.
func (d *demo) refusal(ctx context.Context, home client.Home, what, target, code, moral string) error {
	d.step("%s", what)
	d.line("$ sallyport ssh %s", target)
	_, err := d.ssh(ctx, home, transport.Auto, target, "true", nil)
	failure := client.Explain(err)
	if err == nil || string(failure.Code) != code {
		return fmt.Errorf("%s was not refused as it should be: %v", target, err)
	}
	for _, l := range failure.Lines() {
		d.line("sallyport: %s", l)
	}
	d.line("(exit status %d; %s)", failure.Exit(), moral)
	return nil
}

// audit shows what the appliance has written down of the person's requests.
func (d *demo) audit(ctx context.Context, home client.Home) error {
	d.step("what the audit log says of that")
	d.line("the flows in it; sallyport audit --user ann shows all, sallyport audit --json every field")
	profile, err := home.Profile("demo")
	if err != nil {
		return err
	}
	dialer, err := client.NewDirect(home, profile, client.Options{Transport: transport.QUIC})
	if err != nil {
		return err
	}
	defer dialer.Close()
	api := client.NewAPI(dialer)
	defer api.Close()
	page, err := api.Audit(ctx, client.AuditQuery{User: "ann"})
	if err != nil {
		return err
	}
	kinds := map[string]int{}
	for _, line := range page.Events {
		var e audit.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		kinds[e.Kind]++
		if e.Target != "" {
			d.line("%s  %-18s %s  %s %s", e.Time.Format(time.TimeOnly), e.Kind, e.Target, e.Code, strings.Join(e.Policies, ", "))
		}
	}
	if kinds[audit.DecisionRefused] < 2 || kinds[audit.FlowOpen] < 4 || kinds[audit.FlowEnd] < kinds[audit.FlowOpen] {
		return fmt.Errorf("the audit log has %v", kinds)
	}
	d.line("(each line holds the hash of the one before; sallyport audit verify finds what was changed)")
	return nil
}
