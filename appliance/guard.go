package appliance

import (
	"fmt"
	"io"
	"strings"

	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/relay"
)

// guarded makes sure that a flow is what it was allowed as: a right to SSH is not a right to whatever listens on the
// port, and not one to speak whatever one likes. Bytes pass while they are checked. A tcp flow is opaque.
func guarded(protocol string, c relay.Conn) relay.Conn {
	switch protocol {
	case policy.SSH:
		return &guard{Conn: c, protocol: "SSH", client: prefix("SSH-2.0-"), server: sshBanner{}}
	case policy.RDP:
		return &guard{Conn: c, protocol: "RDP", client: x224{code: 0xe0}, server: x224{code: 0xd0}}
	}
	return c
}

// A check looks at the first bytes of one direction. It is a value: what has not passed yet may be shown to it again.
type check interface {
	// after is the check for what follows p, nil if nothing more need be seen; ok is false if p may not pass.
	after(p []byte) (next check, ok bool)
}

type guard struct {
	relay.Conn
	protocol       string
	client, server check     // nil once done
	heard          bool      // the target has said something
	keys           *keyWatch // nil once done
}

// Take checks what the client says.
func (g *guard) Take(p []byte) (int, error) {
	if g.client == nil {
		return g.Conn.Take(p)
	}
	if _, ok := g.client.after(p); !ok {
		return 0, frame.Refuse("E_PROTOCOL", "the client does not speak "+g.protocol, "the right is for "+g.protocol+" only; other protocols need a rule that says tcp")
	}
	n, err := g.Conn.Take(p)
	g.client, _ = g.client.after(p[:n])
	return n, err
}

// Read checks what the target says.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if g.server == nil && g.keys == nil {
		return n, err
	}
	if n > 0 && g.keys != nil {
		var bad error
		if g.keys, bad = g.keys.passed(p[:n]); bad != nil {
			return 0, bad
		}
	}
	if g.server == nil {
		return n, err
	}
	if n > 0 {
		var ok bool
		g.heard = true
		if g.server, ok = g.server.after(p[:n]); !ok {
			return 0, frame.Refuse("E_PROTOCOL", "the target does not speak "+g.protocol, "check the port; other protocols need a rule that says tcp")
		}
	}
	if err == io.EOF && !g.heard {
		return n, frame.Refuse("E_NO_BANNER", fmt.Sprintf("the target closed the connection before it said anything in %s", g.protocol),
			"its service may limit connections, or refuse this source")
	}
	return n, err
}

// prefix wants fixed first bytes, and has those that are still to come.
type prefix string

func (c prefix) after(p []byte) (check, bool) {
	n := min(len(p), len(c))
	switch {
	case string(p[:n]) != string(c[:n]):
		return c, false
	case n == len(c):
		return nil, true
	}
	return c[n:], true
}

// sshBanner wants a server's identification, which other lines may precede (RFC 4253 §4.2): up to 50, or 8 KiB.
type sshBanner struct {
	line         prefix // the first bytes of the line that is under way
	lines, bytes int
}

const maxBannerLines, maxBannerBytes = 50, 8 << 10

func (c sshBanner) after(p []byte) (check, bool) {
	for _, b := range p {
		switch c.bytes++; {
		case b == '\n':
			c.lines++
			c.line = ""
		case len(c.line) < len("SSH-1.99-"):
			c.line += prefix([]byte{b})
		}
		if c.line == "SSH-1.99-" || strings.HasPrefix(string(c.line), "SSH-2.0-") {
			return nil, true
		}
		if c.lines > maxBannerLines || c.bytes > maxBannerBytes {
			return c, false
		}
	}
	return c, true
}

// x224 wants an X.224 connection request or confirm in a TPKT (MS-RDPBCGR 2.2.1.1, 2.2.1.2): 03 00, a length from 11
// to 512, the length indicator that belongs to it, the code.
type x224 struct {
	code byte
	head string // what has passed
}

func (c x224) after(p []byte) (check, bool) {
	const wanted = 6
	c.head += string(p[:min(len(p), wanted-len(c.head))])
	h, length := c.head, 0
	if len(h) >= 4 {
		length = int(h[2])<<8 | int(h[3])
	}
	switch {
	case len(h) >= 1 && h[0] != 3, len(h) >= 2 && h[1] != 0:
		return c, false
	case len(h) >= 4 && (length < 11 || length > 512):
		return c, false
	case len(h) >= 5 && int(h[4]) != length-5:
		return c, false
	case len(h) >= 6 && h[5]&0xf0 != c.code:
		return c, false
	case len(h) == wanted:
		return nil, true
	}
	return c, true
}
