package lab

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"sallyport/bench"
)

// Links, Doors and Transports are what Sallyport can be measured with. By a door people come in: the kernel's sockets; a
// stack of the appliance's own on the public NIC; or the VNet's stack, where the machine has one NIC.
var (
	Links      = []string{"packet", "tap", "wireguard", "kernel"}
	Doors      = []string{"kernel", "stack", "vnet"}
	Transports = []string{"https", "quic"}
)

// doorNames are what candidates of a door have in their names; people come in by the kernel unless that says otherwise.
var doorNames = map[string]string{"kernel": "", "stack": "-by-stack", "vnet": "-by-vnet"}

// sallyports are the candidates that are ours: the programs in the folder, as they are shipped, one appliance each. People come
// in by the doors where the link is packet, and else by the kernel.
func sallyports(folder string, links, doors []string) []*candidate {
	var all []*candidate
	for _, link := range links {
		for _, door := range doors {
			if door != "kernel" && link != "packet" {
				continue
			}
			for _, transport := range Transports {
				b := &bastion{bin: folder, link: link, door: door, transport: transport}
				says := fmt.Sprintf("sallyportd with a %s link; sallyport tunnel over %s", link, transport)
				switch door {
				case "stack":
					says += ", which comes in by a second userspace stack"
				case "vnet":
					says += ", which comes in by the VNet's stack: one NIC"
				}
				all = append(all, &candidate{
					Candidate: bench.Candidate{Name: "sallyport-" + transport + "-" + link + doorNames[door], Kind: bench.Ours, Says: says},
					programs:  []string{filepath.Join(folder, "sallyportd"), filepath.Join(folder, "sallyport")},
					prepare:   b.prepare,
				})
			}
		}
	}
	return all
}

// A bastion is one appliance and one person's client.
type bastion struct {
	bin       string // the programs' folder
	link      string
	door      string
	transport string

	l       *lab
	dir     string
	config  string
	port    int
	service string   // where the appliance is, with its port
	homes   []string // of people who have signed in; the first is the one whose client is measured
	ways    []string // where the clients of the others are dialled
}

// prepare writes the configuration that a careful administrator would, and no more: what is shipped is measured.
func (b *bastion) prepare(_ context.Context, l *lab, c *candidate) error {
	bin, err := filepath.Abs(b.bin)
	if err != nil {
		return err
	}
	b.bin, b.l, b.port = bin, l, l.port()
	if b.dir, err = l.folder(c.Name); err != nil {
		return err
	}
	vnet, target, err := b.attach(c)
	if err != nil {
		return err
	}
	listen, err := b.listen(c)
	if err != nil {
		return err
	}
	if _, err := write(b.dir, "access.yaml", fmt.Sprintf(`targets:
  - {name: target, vnet: hub, address: %s, protocols: {tcp: [%s]}}
rules:
  - {name: bench, who: ["*"], targets: [target], protocols: [tcp]}
`, target, loadPort)); err != nil {
		return err
	}
	// The limit is above what the idle flows need; everything else is the default.
	if b.config, err = write(b.dir, "sallyport.yaml", fmt.Sprintf(`name: bench
listen: {%s}
tls: {self_signed: true}
state: %s
access: access.yaml
drain: {grace: 1s}
limits: {flows: 100000}
vnets:
  hub: %s
`, listen, filepath.Join(b.dir, "state"), vnet)); err != nil {
		return err
	}
	c.address = at(loopback, l.port())
	c.gateway = []command{{at: l.gateway, says: "msg=serving",
		args: []string{b.bin + "/sallyportd", "serve", "--config", b.config, "--run-dir", filepath.Join(b.dir, "run")}}}
	c.client = []command{b.tunnel(b.home(0), c.address)}
	c.meet = func(ctx context.Context) error { return b.enrol(ctx, 1) }
	c.crowd = b.crowd
	return nil
}

// attach lays what the link needs, and returns the VNet's configuration and the target's address in it.
func (b *bastion) attach(c *candidate) (vnet, target string, err error) {
	switch b.link {
	case "kernel":
		return "{link: {kernel: {}}, prefixes: [10.50.2.0/24]}", targetDirect, nil
	case "wireguard":
		return b.attachTunnel(c)
	}
	way, err := b.l.cable()
	if err != nil {
		return "", "", err
	}
	c.peer = way.peer
	nic := way.nic
	if b.link == "tap" { // a bridge joins the device that the daemon makes with the cable
		bridge := "br" + way.nic
		nic = "t" + way.nic
		err = b.l.gateway.ip("link add "+bridge+" type bridge", "link set "+way.nic+" master "+bridge, "link set "+bridge+" up")
		c.linked = func(context.Context) error { return b.l.gateway.ip("link set " + nic + " master " + bridge) }
	}
	return fmt.Sprintf("{link: {%s: %s}, addresses: [%s], prefixes: [%s]}", b.link, nic, way.gateway, way.prefix), way.target, err
}

// listen lays what the door needs, and returns the configuration of it.
func (b *bastion) listen(c *candidate) (string, error) {
	b.service = at(gatewayService, b.port)
	switch b.door {
	case "stack":
		own, people, err := b.l.door()
		b.service = at(own.Addr().String(), b.port)
		return fmt.Sprintf("link: {packet: %s}, addresses: [%s], port: %d", people, own, b.port), err
	case "vnet":
		own, err := b.l.sideDoor(c.peer)
		b.service = at(own, b.port)
		return fmt.Sprintf("vnet: hub, port: %d", b.port), err
	}
	return fmt.Sprintf("address: %q", b.service), nil
}

// attachTunnel has a tunnel end in the appliance, whose other end is at the target.
func (b *bastion) attachTunnel(c *candidate) (vnet, target string, err error) {
	ours, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	theirs, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	key, err := write(b.dir, "wg.key", base64.StdEncoding.EncodeToString(ours.Bytes())+"\n")
	if err != nil {
		return "", "", err
	}
	n := b.port % 250 // no two candidates have the same port
	own, target := fmt.Sprintf("10.61.%d.2", n), fmt.Sprintf("10.61.%d.3", n)
	port, name := b.l.port(), fmt.Sprintf("wg%d", b.port)
	end, err := b.l.tunnelEnd(b.l.target, b.dir, name,
		fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nallowed_ip=%s/32\n", theirs.Bytes(), port, ours.PublicKey().Bytes(), own),
		"link set "+name+" up", "addr add "+target+"/32 dev "+name, "route add "+own+" dev "+name+" src "+target+cubic)
	c.beyond = []command{end}
	return fmt.Sprintf(`{link: {wireguard: {private_key_file: %s, peers: [{public_key: "%s", endpoint: "%s", allowed: ["%s/32"]}]}}, addresses: ["%s/32"], prefixes: ["%s/32"]}`,
		key, base64.StdEncoding.EncodeToString(theirs.PublicKey().Bytes()), at(targetDirect, port), target, own, target), target, err
}

// home is the folder of one person's client.
func (b *bastion) home(person int) string {
	return filepath.Join(b.dir, fmt.Sprintf("home-%d", person))
}

func environment(home string) []string {
	return []string{"SALLYPORT_HOME=" + home, "HOME=" + home}
}

// tunnel is the person's command.
func (b *bastion) tunnel(home, listen string) command {
	return command{at: b.l.client, env: environment(home),
		args: []string{b.bin + "/sallyport", "--transport", b.transport, "tunnel", "target:" + loadPort, "--protocol", "tcp", "--listen", listen}}
}

// perPerson is how many idle flows one person has: less than limits.flows_per_user lets them.
const perPerson = 250

// crowd has as many people as so many flows take, each with a client of their own.
func (b *bastion) crowd(ctx context.Context, flows int) ([]command, []string, error) {
	people := (flows + perPerson - 1) / perPerson
	if err := b.enrol(ctx, 1+people); err != nil {
		return nil, nil, err
	}
	for len(b.ways) < people {
		b.ways = append(b.ways, at(loopback, b.l.port()))
	}
	var commands []command
	for i := range people {
		commands = append(commands, b.tunnel(b.home(1+i), b.ways[i]))
	}
	return commands, b.ways[:people], nil
}

// enrol signs people's clients in, until there are so many, by codes that the daemon makes.
func (b *bastion) enrol(ctx context.Context, people int) error {
	for i := len(b.homes); i < people; i++ {
		home, user := b.home(i), fmt.Sprintf("person-%d", i)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return err
		}
		out, err := b.l.gateway.run(ctx, nil, "", b.bin+"/sallyportd", "enrol-code", "--user", user, "--json", "--config", b.config)
		if err != nil {
			return err
		}
		var code struct{ Code, Fingerprint string }
		if err := json.Unmarshal([]byte(out), &code); err != nil {
			return fmt.Errorf("enrol-code printed %q: %w", out, err)
		}
		if _, err := b.l.client.run(ctx, environment(home), code.Code+"\n", b.bin+"/sallyport", "--transport", b.transport, "login",
			"https://"+b.service, "--user", user, "--fingerprint", code.Fingerprint, "--code-file", "-"); err != nil {
			return err
		}
		b.homes = append(b.homes, home)
	}
	return nil
}
