package appliance

import (
	"bytes"
	"fmt"
	"io"

	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/relay"
)

// guarded makes sure that a flow is what it was allowed as: a right to SSH is not a right to whatever listens on the
// port, and not one to speak whatever one likes. Bytes pass while they are checked. A tcp flow is opaque.
func guarded(protocol string, c relay.Conn) relay.Conn {
	switch protocol {
	case policy.SSH:
		return &guard{Conn: c, protocol: "SSH", client: &prefix{want: []byte("SSH-2.0-")}, server: &sshBanner{}}
	case policy.RDP:
		return &guard{Conn: c, protocol: "RDP", client: &x224{code: 0xe0}, server: &x224{code: 0xd0}}
	}
	return c
}

// A check looks at the first bytes of one direction.
type check interface {
	// see looks at p, which follows the bytes that passed before. It may be shown the same bytes again.
	see(p []byte) bool
	// pass notes that the first n bytes of what was seen have passed; done says that nothing more need be seen.
	pass(p []byte) (done bool)
}

type guard struct {
	relay.Conn
	protocol       string
	client, server check // nil once done
	heard          bool  // the target has said something
}

// Take checks what the client says.
func (g *guard) Take(p []byte) (int, error) {
	if g.client == nil {
		return g.Conn.Take(p)
	}
	if !g.client.see(p) {
		return 0, frame.Refuse("E_PROTOCOL", "the client does not speak "+g.protocol, "the right is for "+g.protocol+" only; other protocols need a rule that says tcp")
	}
	n, err := g.Conn.Take(p)
	if n > 0 && g.client.pass(p[:n]) {
		g.client = nil
	}
	return n, err
}

// Read checks what the target says.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if g.server == nil {
		return n, err
	}
	if n > 0 {
		g.heard = true
		if !g.server.see(p[:n]) {
			return 0, frame.Refuse("E_PROTOCOL", "the target does not speak "+g.protocol, "check the port; other protocols need a rule that says tcp")
		}
		if g.server.pass(p[:n]) {
			g.server = nil
		}
	}
	if err == io.EOF && !g.heard {
		return n, frame.Refuse("E_NO_BANNER", fmt.Sprintf("the target closed the connection before it said anything in %s", g.protocol),
			"its service may limit connections, or refuse this source")
	}
	return n, err
}

// prefix wants fixed first bytes.
type prefix struct {
	want []byte // what is still to come
}

func (c *prefix) see(p []byte) bool {
	n := min(len(p), len(c.want))
	return bytes.Equal(p[:n], c.want[:n])
}

func (c *prefix) pass(p []byte) bool {
	c.want = c.want[min(len(p), len(c.want)):]
	return len(c.want) == 0
}

// sshBanner wants a server's identification, which other lines may precede (RFC 4253 §4.2): up to 50, or 8 KiB.
type sshBanner struct {
	line         []byte // the first bytes of the line that is under way
	lines, bytes int
}

const maxBannerLines, maxBannerBytes = 50, 8 << 10

func (c *sshBanner) see([]byte) bool { return c.lines <= maxBannerLines && c.bytes <= maxBannerBytes }

func (c *sshBanner) pass(p []byte) bool {
	for _, b := range p {
		if c.bytes++; b == '\n' {
			c.lines++
			c.line = c.line[:0]
			continue
		}
		if len(c.line) < len("SSH-1.99-") {
			c.line = append(c.line, b)
		}
		if bytes.Equal(c.line, []byte("SSH-1.99-")) || bytes.HasPrefix(c.line, []byte("SSH-2.0-")) {
			return true
		}
	}
	return false
}

// x224 wants an X.224 connection request or confirm in a TPKT (MS-RDPBCGR 2.2.1.1, 2.2.1.2): 03 00, a length from 11
// to 512, the length indicator that belongs to it, the code.
type x224 struct {
	code byte
	head []byte
}

func (c *x224) see(p []byte) bool {
	h := append(append(make([]byte, 0, 8), c.head...), p[:min(len(p), 6-len(c.head))]...)
	length := 0
	if len(h) >= 4 {
		length = int(h[2])<<8 | int(h[3])
	}
	switch {
	case len(h) >= 1 && h[0] != 3, len(h) >= 2 && h[1] != 0:
		return false
	case len(h) >= 4 && (length < 11 || length > 512):
		return false
	case len(h) >= 5 && int(h[4]) != length-5:
		return false
	case len(h) >= 6 && h[5]&0xf0 != c.code:
		return false
	}
	return true
}

func (c *x224) pass(p []byte) bool {
	c.head = append(c.head, p[:min(len(p), 6-len(c.head))]...)
	return len(c.head) == 6
}
