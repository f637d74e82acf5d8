package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Addresses of the map.
const (
	clientService  = "10.50.0.1"
	gatewayService = "10.50.0.2"
	targetDirect   = "10.50.2.3" // the target, by the cable that the gateway's kernel has
	loadPort       = "7000"
	bbrPort        = "7001" // the same target, whose connections use BBR
)

// A lab is the three machines while they stand.
type lab struct {
	id      string
	dir     string // for configurations, keys and run folders
	self    string // this program, which is the generator too
	thread  *thread
	client  *space
	gateway *space
	target  *space
	middle  *space // of the impaired way; nil without one
	cables  int    // between gateway and target
	doors   int    // cables between client and gateway, besides the first
	ports   int    // given out
	files   int    // that a process may have open
}

// build makes the machines. Close removes them, also after an error.
func build(files int) (*lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes network namespaces: run it as root")
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("what an earlier run has left cannot be removed: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t, err := newThread()
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%s%d", namePrefix, os.Getpid())
	l := &lab{id: id, dir: filepath.Join(runRoot, id), self: self, thread: t, ports: 8000, files: files}
	return l, l.machines()
}

func (l *lab) machines() error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	for _, m := range []struct {
		at   **space
		name string
	}{{&l.client, "client"}, {&l.gateway, "gateway"}, {&l.target, "target"}} {
		s, err := newSpace(l.id+"-"+m.name, l.thread)
		if err != nil {
			return err
		}
		*m.at = s
	}
	if err := errors.Join(
		connect(l.client, "b0", l.gateway, "a0"),
		l.client.address("b0", "10.50.1.1/24"), l.client.ip("addr add "+clientService+"/32 dev lo"),
		l.gateway.address("a0", "10.50.1.2/24"), l.gateway.ip("addr add "+gatewayService+"/32 dev lo"),
		l.gateway.sysctl("net/ipv4/ip_forward", "1"),
	); err != nil {
		return err
	}
	if _, err := l.cable(); err != nil {
		return err
	}
	return errors.Join(
		l.gateway.address("c0", "10.50.2.2/24"),
		l.target.address("b0", targetDirect+"/24"), l.target.ip("route add default via 10.50.2.2"+cubic),
		l.plainWay(),
	)
}

// plainWay has A and B reach each other by the cable that does nothing.
func (l *lab) plainWay() error {
	return errors.Join(
		l.client.ip("route replace "+gatewayService+" via 10.50.1.2 dev b0 src "+clientService+cubic,
			"route replace 10.50.2.0/24 via 10.50.1.2 dev b0 src "+clientService+cubic),
		l.gateway.ip("route replace "+clientService+" via 10.50.1.1 dev a0 src "+gatewayService+cubic),
	)
}

// impairedWay has them reach each other through the middle.
func (l *lab) impairedWay() error {
	return errors.Join(
		l.client.ip("route replace "+gatewayService+" via 10.50.3.2 dev m0 src "+clientService+cubic,
			"route replace 10.50.2.0/24 via 10.50.3.2 dev m0 src "+clientService+cubic),
		l.gateway.ip("route replace "+clientService+" via 10.50.3.1 dev m0 src "+gatewayService+cubic),
	)
}

// addMiddle lays the second cable from A to B, with a namespace in its middle.
func (l *lab) addMiddle() error {
	s, err := newSpace(l.id+"-middle", l.thread)
	if err != nil {
		return err
	}
	l.middle = s
	return errors.Join(
		connect(l.client, "m0", s, "left"),
		connect(s, "right", l.gateway, "m0"),
		l.client.address("m0", "10.50.3.1/24"), l.gateway.address("m0", "10.50.3.2/24"),
		plain(l.client, "m0"), plain(l.gateway, "m0"),
	)
}

// A cable leads from the gateway to the target.
type cable struct {
	nic     string // the gateway's
	peer    string // the target's
	gateway string // the gateway's address, with its prefix length
	target  string // the target's address
	prefix  string
}

// cable lays a new one. Only the target's NIC has an address: the gateway's is for whoever takes it.
func (l *lab) cable() (cable, error) {
	n := l.cables
	l.cables++
	c := cable{nic: fmt.Sprintf("c%d", n), peer: fmt.Sprintf("b%d", n), gateway: fmt.Sprintf("10.50.%d.2/24", 10+n),
		target: fmt.Sprintf("10.50.%d.3", 10+n), prefix: fmt.Sprintf("10.50.%d.0/24", 10+n)}
	if err := connect(l.gateway, c.nic, l.target, c.peer); err != nil || n == 0 {
		return c, err
	}
	return c, l.target.address(c.peer, c.target+"/24")
}

// door lays a cable from the client to the gateway, whose NIC there is for whoever takes it and has the address own.
func (l *lab) door() (own netip.Prefix, nic string, err error) {
	n := l.doors
	l.doors++
	far := fmt.Sprintf("p%d", n)
	nic = fmt.Sprintf("q%d", n)
	client := fmt.Sprintf("10.51.%d.1", n)
	own = netip.MustParsePrefix(fmt.Sprintf("10.51.%d.2/24", n))
	return own, nic, errors.Join(connect(l.client, far, l.gateway, nic), l.client.address(far, client+"/24"),
		l.client.ip(fmt.Sprintf("route replace %s dev %s src %s", own.Masked(), far, client)+cubic))
}

// sideDoor has the client reach the gateway's end of the cable that has the NIC peer at the target, by a bridge there. It
// returns the address at that end.
func (l *lab) sideDoor(peer string) (own string, err error) {
	n := strings.TrimPrefix(peer, "b")
	bridge, port, far := "r"+n, "s"+n, "n"+n
	net, err := strconv.Atoi(n)
	if err != nil {
		return "", err
	}
	prefix := fmt.Sprintf("10.50.%d.", 10+net)
	return prefix + "2", errors.Join(
		connect(l.client, far, l.target, port),
		l.target.ip("link add "+bridge+" type bridge forward_delay 0 mcast_snooping 0", "link set "+bridge+" up", "addr flush dev "+peer,
			"link set "+peer+" master "+bridge, "link set "+port+" master "+bridge),
		l.target.address(bridge, prefix+"3/24"),
		l.client.address(far, prefix+"4/24"),
		l.client.ip(fmt.Sprintf("route replace %s0/24 dev %s src %s4", prefix, far, prefix)+cubic))
}

// port gives a port out that nobody else of the lab has.
func (l *lab) port() int {
	l.ports++
	return l.ports
}

// folder makes a folder for a candidate's files.
func (l *lab) folder(name string) (string, error) {
	dir := filepath.Join(l.dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// close removes the lab.
func (l *lab) close() error {
	err := removeAll(l.id)
	l.thread.close()
	return err
}

// connect lays a cable between two new NICs and sets both up.
func connect(a *space, nicA string, b *space, nicB string) error {
	return errors.Join(
		a.ip(fmt.Sprintf("link add %s mtu 1500 type veth peer name %s mtu 1500 netns %s", nicA, nicB, b.name), "link set "+nicA+" up"),
		b.ip("link set "+nicB+" up"))
}

// await is time.Sleep that the end of ctx cuts short.
func await(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
