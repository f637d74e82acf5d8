package system

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/lab"
)

const (
	imds       = "169.254.169.254"
	wireServer = "168.63.129.16"
)

// A fakeCloud answers in a VNet as the metadata services of the clouds do, and counts who connects.
type fakeCloud struct {
	data string

	mu       sync.Mutex
	accepted []netip.Addr // from where, by connection
	reports  []string
}

// cloud puts the services of all clouds on their addresses into the VNet.
func (b *bastion) cloud(data string) *fakeCloud {
	b.t.Helper()
	f := &fakeCloud{data: data}
	for _, a := range []string{imds, wireServer} {
		b.VNet.AddAddress("lo", netip.PrefixFrom(netip.MustParseAddr(a), 32))
		l, err := b.VNet.Listen("tcp", a+":80")
		if err != nil {
			b.t.Fatal(err)
		}
		s := &http.Server{Handler: f, ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.accepted = append(f.accepted, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
			}
		}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Serve(l) // ends when it is closed
		}()
		b.t.Cleanup(func() {
			s.Close()
			<-done
		})
	}
	return f
}

func (f *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch h := r.Header; {
	case r.Host == imds && r.URL.Path == "/metadata/instance/compute/userData" && h.Get("Metadata") == "true":
		io.WriteString(w, base64.StdEncoding.EncodeToString([]byte(f.data)))
	case r.Host == imds && r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && h.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
		io.WriteString(w, "t0ken")
	case r.Host == imds && r.URL.Path == "/latest/user-data" && h.Get("X-aws-ec2-metadata-token") == "t0ken":
		io.WriteString(w, f.data)
	case r.Host == imds && r.URL.Path == "/computeMetadata/v1/instance/attributes/user-data" && h.Get("Metadata-Flavor") == "Google":
		io.WriteString(w, f.data)
	case r.Host == wireServer && r.URL.Query().Get("comp") == "goalstate" && h.Get("x-ms-version") != "":
		io.WriteString(w, `<GoalState><Incarnation>1</Incarnation><Container><ContainerId>c</ContainerId><RoleInstanceList>`+
			`<RoleInstance><InstanceId>i</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>`)
	case r.Host == wireServer && r.Method == http.MethodPost && r.URL.Query().Get("comp") == "health":
		report, _ := io.ReadAll(r.Body)
		f.reports = append(f.reports, string(report))
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeCloud) seen() (accepted []netip.Addr, reports []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.accepted), slices.Clone(f.reports)
}

// TestFetch: user data comes over a stack on a NIC that the kernel has no address on, from each of the clouds; with the
// lease of a /32 whose gateway lies outside it, as one of them gives.
func TestFetch(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	b := &bastion{Lab: l, t: t, bin: bin}
	const text = "listen: {vnet: hub}\n"
	f := b.cloud("#cloud-config\nsallyport:\n  " + text)
	lease := lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Router: lab.TargetAddr4, Length: time.Hour}
	d := l.DHCP(l.VNet.Namespace, lease)
	fetch := func(cloud string) run {
		return b.inAppliance(bin+"/sallyportd", "fetch", "--cloud", cloud, "--interface", l.VNet.Interface, "--run-dir", filepath.Join(l.Dir, "run"))
	}
	for cloud, address := range map[string]string{"azure": "10.99.0.50/16", "aws": "10.99.0.51/16", "gcp": "10.99.0.52/32"} {
		lease.Address = netip.MustParsePrefix(address)
		d.Give(lease)
		begin := time.Now()
		if r := fetch(cloud); r.exit != 0 || r.stdout != "\n\n  "+text {
			t.Errorf("%s: %v", cloud, r)
		}
		t.Logf("%s: %v", cloud, time.Since(begin).Round(time.Millisecond))
		if from, _ := f.seen(); len(from) == 0 || from[len(from)-1] != lease.Address.Addr() {
			t.Errorf("%s: asked from %v", cloud, from)
		}
		// The NIC is back where it was.
		if out := l.Appliance.Run("ip", "-br", "addr", "show", l.VNet.Interface); strings.Contains(out, "UP ") || strings.Contains(out, "10.99.") {
			t.Errorf("%s: %s", cloud, out)
		}
	}
	f.mu.Lock()
	f.data = ""
	f.mu.Unlock()
	if r := fetch("azure"); r.exit == 0 || !strings.Contains(r.stderr, "no configuration") {
		t.Errorf("no user data: %v", r)
	}
}

// TestMetadataIsOutOfReach: the appliance itself speaks to the cloud's services over the VNet's own stack, and no flow over
// that same stack does, by address or by name, whatever the prefixes and the rules allow.
func TestMetadataIsOutOfReach(t *testing.T) {
	var f *fakeCloud
	names := map[string]string{"imds.corp.example": imds, "wire.corp.example": wireServer, "other.corp.example": "169.254.7.7"}
	access := "admins: [ann]\naddress_mode: on\ntargets:\n  - {name: web, vnet: hub, address: 10.99.0.10, protocols: {ssh: 80}}\n"
	for name := range names {
		access += fmt.Sprintf("  - {name: %s, vnet: hub, address: %s, protocols: {ssh: 80}}\n", name[:4], name)
	}
	access += "rules:\n  - {name: all, who: [\"*\"], targets: [\"*\"], protocols: [ssh]}\n" +
		"  - {name: all addresses, who: [\"*\"], addresses: [0.0.0.0/0, \"::/0\"], protocols: [ssh], ports: [80]}\n"
	b := start(t, settings{access: access, serve: []string{"--cloud", "azure"}, prepare: func(b *bastion) {
		f = b.cloud("")
		zone := map[string]lab.Record{}
		for name, a := range names {
			zone[name+"."] = lab.Record{Addrs: []netip.Addr{netip.MustParseAddr(a)}}
		}
		b.DNS(b.VNet.Namespace, zone)
		b.VNet.AddAddress("lo", netip.MustParsePrefix("169.254.7.7/32"))
		b.write("sallyport.yaml", fmt.Sprintf(`
listen: {vnet: hub}
tls: {self_signed: true}
state: %s
access: access.yaml
drain: {grace: 2s}
vnets:
  hub:
    link: {packet: %s}
    addresses: [10.99.0.4/16]
    gateway: [10.99.0.10]
    prefixes: [0.0.0.0/0]
    dns: [10.99.0.10]
`, filepath.Join(b.Dir, "state"), b.VNet.Interface))
		inside := *b.Lab
		inside.Client = b.VNet.Namespace
		b.Lab = &inside
		b.address, b.url = "10.99.0.4:443", "https://10.99.0.4"
	}})
	b.eventually(20*time.Second, "the cloud is told that the machine is ready", func() error {
		if _, reports := f.seen(); len(reports) != 1 || !strings.Contains(reports[0], "<State>Ready</State>") {
			return fmt.Errorf("%q\n%s", reports, b.daemon.Output())
		}
		return nil
	})
	capture := b.Capture(b.VNet.Namespace, "eth0")
	before, _ := f.seen()
	if len(before) == 0 || before[0] != netip.MustParseAddr("10.99.0.4") {
		t.Fatalf("the report came from %v", before)
	}
	for _, to := range []string{imds + ":80", wireServer + ":80", "169.254.7.7:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80", "imds:80", "wire:80", "othe:80"} {
		r := b.client("proxy", to)
		if r.exit != 11 {
			t.Errorf("a flow to %s: %v", to, r)
		}
		t.Logf("%s: %s", to, strings.Split(r.stderr, "\n")[0])
	}
	if after, _ := f.seen(); len(after) != len(before) {
		t.Errorf("the services were reached from %v", after[len(before):])
	}
	for _, p := range capture.Stop() {
		if a := p.To.Addr().Unmap(); a.IsLinkLocalUnicast() && a.Is4() || a.String() == wireServer {
			t.Errorf("a packet to %v", p)
		}
	}
	// The same flow to an address that is none of these gets there.
	b.VNet.AddAddress("lo", netip.MustParsePrefix("203.0.113.9/32"))
	l, err := b.VNet.Listen("tcp", "203.0.113.9:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	if r := b.client("proxy", "203.0.113.9:80"); r.exit != 0 || r.stdout != "hello" {
		t.Errorf("an address anywhere: %v\n%s", r, b.daemon.Output())
	}
}
