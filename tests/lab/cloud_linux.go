package lab

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// Where the clouds' services answer.
const (
	IMDS       = "169.254.169.254" // of all of them
	WireServer = "168.63.129.16"   // Azure's
)

// A Cloud answers as the metadata services of Azure, AWS and GCP do, and remembers who has connected.
type Cloud struct {
	mu       sync.Mutex
	data     string
	accepted []netip.Addr
	reports  []string
}

// Cloud puts the services on their addresses into a namespace. data is the machine's user data, empty for none.
func (l *Lab) Cloud(n *Namespace, data string) *Cloud {
	l.t.Helper()
	c := &Cloud{data: data}
	for _, a := range []string{IMDS, WireServer} {
		n.AddAddress("lo", netip.PrefixFrom(netip.MustParseAddr(a), 32))
		listener, err := n.Listen("tcp", a+":80")
		if err != nil {
			l.t.Fatal(err)
		}
		s := &http.Server{Handler: c, ConnState: c.connected}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Serve(listener) // ends when it is closed
		}()
		l.t.Cleanup(func() {
			s.Close()
			<-done
		})
	}
	return c
}

func (c *Cloud) connected(conn net.Conn, state http.ConnState) {
	if state != http.StateNew {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted = append(c.accepted, netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr())
}

// Give changes the user data.
func (c *Cloud) Give(data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = data
}

// Seen are the addresses that have connected, one for each connection, and the reports of health that Azure was sent.
func (c *Cloud) Seen() (accepted []netip.Addr, reports []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.accepted), slices.Clone(c.reports)
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch h, imds := r.Header, r.Host == IMDS; {
	case imds && r.URL.Path == "/metadata/instance/compute/userData" && h.Get("Metadata") == "true":
		io.WriteString(w, base64.StdEncoding.EncodeToString([]byte(c.data)))
	case imds && r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && h.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
		io.WriteString(w, "t0ken")
	case imds && r.URL.Path == "/latest/user-data" && h.Get("X-aws-ec2-metadata-token") == "t0ken" && c.data != "",
		imds && r.URL.Path == "/computeMetadata/v1/instance/attributes/user-data" && h.Get("Metadata-Flavor") == "Google" && c.data != "":
		io.WriteString(w, c.data)
	case r.Host == WireServer && r.Method == http.MethodGet && r.URL.Query().Get("comp") == "goalstate" && h.Get("x-ms-version") != "":
		io.WriteString(w, "<GoalState><Incarnation>1</Incarnation><Container><ContainerId>c</ContainerId><RoleInstanceList>"+
			"<RoleInstance><InstanceId>i</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>")
	case r.Host == WireServer && r.Method == http.MethodPost && r.URL.Query().Get("comp") == "health":
		report, _ := io.ReadAll(r.Body)
		c.reports = append(c.reports, string(report))
	default:
		http.NotFound(w, r)
	}
}
