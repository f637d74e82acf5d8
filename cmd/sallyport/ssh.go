package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
	"sallyport/transport"
)

func (c *command) ssh() *cli.Command {
	return &cli.Command{
		Name: "ssh", Usage: "run ssh to a target", ArgsUsage: "[ssh options] [user@]TARGET[:PORT] [-- command]",
		Description: `The real ssh runs, with its own options, keys and files; its exit status is
this command's.

  sallyport ssh web-1
  sallyport ssh -A -L 8080:localhost:80 root@web-1
  sallyport ssh web-1:2222 -- uptime`,
		SkipFlagParsing: true,
		Action: func(x *cli.Context) error {
			args := x.Args().Slice()
			if len(args) > 0 && asksHelp(args[:1]) {
				return cli.ShowSubcommandHelp(x)
			}
			call, err := parseSSH(args)
			if err != nil {
				return err
			}
			ssh, err := exec.LookPath("ssh")
			if err != nil {
				return usage("there is no ssh on this computer", "install the OpenSSH client, or use: sallyport tunnel "+call.target)
			}
			profile, pinned, err := c.look(x.Context, call)
			if err != nil {
				return err
			}
			words := []string{call.destination()}
			socket := identitySocket()
			if socket != "" {
				words = []string{"--identity-agent", socket, call.destination()}
			}
			must, may := c.sshOptions(profile, shellLine(words), call.alias(), pinned)
			if socket != "" {
				may = append(may, option{"IdentityAgent", socket})
			}
			argv := slices.Concat([]string{"ssh"}, flags(must), call.before, flags(may), []string{call.user + call.target}, call.after)
			return replaceBy(x.Context, c.Env, ssh, argv)
		},
	}
}

func (c *command) profileName() (string, error) {
	home, err := c.home()
	if err != nil {
		return "", err
	}
	p, err := home.Profile(c.appliance)
	if err != nil {
		return "", err
	}
	return p.Name, nil
}

// look makes sure that a call can go anywhere before ssh begins, for ssh could tell only by its own exit status, and
// finds out whether the appliance pins the target's host keys. A target that is not listed may still be an address:
// whether it can be reached a flow shows.
func (c *command) look(ctx context.Context, call sshCall) (profile string, pinned bool, err error) {
	d, p, err := c.dial()
	if err != nil {
		return "", false, err
	}
	defer d.Close()
	api := client.NewAPI(d)
	defer api.Close()
	targets, err := api.Targets(ctx)
	if err != nil {
		return "", false, err
	}
	for _, t := range targets {
		if !strings.EqualFold(t.Name, call.target) {
			continue
		}
		pinned = knows(t)
		if ports := t.Protocols["ssh"]; len(ports) > 0 && (call.port == 0 || slices.Contains(ports, int(call.port))) {
			return p.Name, pinned, nil
		}
	}
	flow, _, err := d.Open(ctx, frame.OpenRequest{Target: call.target, Port: call.port, Protocol: "ssh"}, nil)
	if err == nil {
		flow.Reset(frame.Reason{Code: frame.Closed, Sentence: "only a look"})
	}
	return p.Name, pinned, err
}

// pins asks for the host keys that the target must show one of; a target that is not listed has none.
func (c *command) pins(ctx context.Context, target string) (keys, authorities []string, err error) {
	err = c.ask(func(api *client.API) error {
		targets, err := api.Targets(ctx)
		for _, t := range targets {
			if strings.EqualFold(t.Name, target) {
				keys, authorities = t.HostKeys, t.HostCA
			}
		}
		return err
	})
	return keys, authorities, err
}

// knows says whether the appliance knows by which host keys a target is known.
func knows(t api.Target) bool { return len(t.HostKeys)+len(t.HostCA) > 0 }

// An sshCall is a command line for ssh, taken apart at its destination.
type sshCall struct {
	before []string // options
	user   string   // with @, or empty
	target string
	port   uint16 // 0: the target's own
	after  []string
}

// valued are ssh's options that take a value.
const valued = "BbcDEeFIiJLlmOopPQRSWw"

func parseSSH(args []string) (sshCall, error) {
	var call sshCall
	var port string
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		if args[0] == "--" {
			args = args[1:]
			break
		}
		n := 1
		for i, letter := range args[0][1:] {
			if !strings.ContainsRune(valued, letter) {
				continue
			}
			value := args[0][i+2:]
			if value == "" {
				if len(args) < 2 {
					return call, usage(fmt.Sprintf("ssh's option -%c needs a value", letter), "")
				}
				value, n = args[1], 2
			}
			if letter == 'p' {
				port = value
			}
			break
		}
		call.before = append(call.before, args[:n]...)
		args = args[n:]
	}
	if len(args) == 0 {
		return call, usage("ssh needs a target", "try: sallyport ssh TARGET; sallyport ls shows them")
	}
	destination := args[0]
	call.after = args[1:]
	if at := strings.LastIndexByte(destination, '@'); at >= 0 {
		call.user, destination = destination[:at+1], destination[at+1:]
	}
	var err error
	if call.target, call.port, err = client.ParseTarget(destination); err != nil {
		return call, err
	}
	if strings.HasPrefix(call.user, "-") {
		return call, frame.Refuse("E_NAME", "a user's name does not begin with a dash", "")
	}
	if port != "" && call.port == 0 {
		call.port, err = client.ParsePort(port)
	}
	return call, err
}

// An option is a line of ssh's configuration.
type option struct{ key, value string }

func flags(options []option) []string {
	var args []string
	for _, o := range options {
		args = append(args, "-o", o.key+"="+o.value)
	}
	return args
}

// destination is where the flow goes.
func (s sshCall) destination() string {
	if s.port == 0 {
		return s.target
	}
	return net.JoinHostPort(s.target, strconv.Itoa(int(s.port)))
}

// alias is what ssh calls the target among its known hosts.
func (s sshCall) alias() string {
	if s.port == 0 || s.port == 22 {
		return s.target
	}
	return fmt.Sprintf("[%s]:%d", s.target, s.port)
}

// sshOptions make ssh use this program as its way to a destination, which is quoted already. Where the appliance pins
// host keys, nothing else counts. What may be otherwise is only good advice: ssh's keepalives are off, for a paused
// session is meant to stay and the transport has its own.
func (c *command) sshOptions(profile, destination, alias string, pinned bool) (must, may []option) {
	self := []string{c.Self, "--appliance", profile}
	if c.mode != transport.Auto {
		self = append(self, "--transport", string(c.mode))
	}
	if c.keepTransport {
		self = append(self, "--keep-transport")
	}
	if c.noAgent {
		self = append(self, "--no-agent")
	}
	must = []option{{"ProxyCommand", shellLine(self) + " proxy " + destination}, {"HostKeyAlias", alias}}
	if pinned {
		must = append(must, option{"KnownHostsCommand", argvLine(self) + " known-hosts %H"}, option{"UserKnownHostsFile", "none"},
			option{"GlobalKnownHostsFile", "none"}, option{"StrictHostKeyChecking", "yes"})
	}
	return must, []option{{"CheckHostIP", "no"}, {"ServerAliveInterval", "0"}}
}

// argvLine joins words as ssh splits KnownHostsCommand, which no shell sees.
func argvLine(words []string) string {
	var quoted []string
	for _, w := range words {
		if plain(w) {
			quoted = append(quoted, w)
			continue
		}
		quoted = append(quoted, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(w)+`"`)
	}
	return strings.Join(quoted, " ")
}

// plain says that no shell and no ssh sees anything but letters in w.
func plain(w string) bool {
	return w != "" && strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:") == ""
}

func (c *command) knownHosts() *cli.Command {
	return &cli.Command{
		Name: "known-hosts", Usage: "print pinned host keys, for ssh's KnownHostsCommand",
		ArgsUsage: "TARGET[:PORT]",
		Action: func(x *cli.Context) error {
			arg, err := only(x, "target")
			if err != nil {
				return err
			}
			target, port, err := client.ParseTarget(arg)
			if err != nil {
				return err
			}
			keys, authorities, err := c.pins(x.Context, target)
			if err != nil {
				return err
			}
			alias := sshCall{target: target, port: port}.alias()
			for _, k := range keys {
				if _, err := fmt.Fprintln(c.Stdout, alias, frame.Clip(k, 16<<10)); err != nil {
					return err
				}
			}
			for _, k := range authorities {
				if _, err := fmt.Fprintln(c.Stdout, "@cert-authority", alias, frame.Clip(k, 16<<10)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
