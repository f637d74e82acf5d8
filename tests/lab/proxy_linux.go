package lab

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A Proxy is an HTTP proxy that knows only CONNECT, to numeric addresses.
type Proxy struct {
	Addr netip.AddrPort // the first address of the namespace

	ns       *Namespace
	password string // what Proxy-Authorization must be; empty if it need not be
	wg       sync.WaitGroup

	mu    sync.Mutex
	asked []string
	conns []net.Conn // all that there have been, to end them with the test
}

// HTTPProxy starts a proxy on port 3128 of the namespace. With a user it wants Basic credentials.
func (l *Lab) HTTPProxy(n *Namespace, user, password string) *Proxy {
	l.t.Helper()
	p := &Proxy{ns: n, Addr: netip.AddrPortFrom(n.addr(), 3128)}
	if user != "" {
		p.password = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	listener, err := n.Listen("tcp", ":3128")
	if err != nil {
		l.t.Fatal(err)
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	p.wg.Go(func() { server.Serve(listener) })
	l.t.Cleanup(func() {
		server.Close()
		p.closeAll()
		p.wg.Wait()
	})
	return p
}

// Asked are the targets of all CONNECT requests that were let through.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[:len(p.asked):len(p.asked)]
}

// ServeHTTP serves one CONNECT.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.password != "" && r.Header.Get("Proxy-Authorization") != p.password {
		w.Header().Set("Proxy-Authenticate", `Basic realm="lab"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Host)
	p.mu.Unlock()
	far, err := p.ns.DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, near, far)
	p.mu.Unlock()
	io.WriteString(near, "HTTP/1.1 200 Connected\r\n\r\n")
	p.wg.Go(func() {
		p.copy(far, io.MultiReader(io.LimitReader(buffered, int64(buffered.Reader.Buffered())), near), near)
	})
	p.wg.Go(func() { p.copy(near, far, far) })
}

// copy moves bytes one way; the end of the bytes is passed on, an error ends both ways.
func (p *Proxy) copy(dst net.Conn, src io.Reader, from net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite()
		return
	}
	dst.Close()
	from.Close()
}

func (p *Proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}
