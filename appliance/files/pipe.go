package files

import (
	"context"
	"encoding/binary"
	"io"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// A channelWriter writes to a channel, and its end is the channel's. What it cannot write is a connection that is gone: the library
// finds that out by reading, which may be later.
type channelWriter struct {
	w       io.Writer
	channel *ssh.Session
}

// Write implements io.Writer.
func (c channelWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		err = sftp.ErrSSHFxConnectionLost
	}
	return n, err
}

func (c channelWriter) Close() error { return c.channel.Close() }

// The most that one folder is listed of.
const (
	maxEntries   = 100_000
	maxNameBytes = 16 << 20
)

// A nameMeter counts the names that a server sends while a folder is listed, and stops that when they are too many: the
// library gathers all before it gives any.
type nameMeter struct {
	r    io.Reader
	head []byte // of the packet that is under way: length and type, and the count of names
	left uint32 // bytes of it that are still to come

	mu     sync.Mutex
	names  int64
	bytes  int64
	enough context.CancelFunc // nil: nobody lists
}

const fxpName = 104 // SSH_FXP_NAME: id, count, names

// Read implements io.Reader.
func (m *nameMeter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.see(p[:n])
	return n, err
}

func (m *nameMeter) see(p []byte) {
	for len(p) > 0 {
		if m.left > 0 {
			n := min(uint32(len(p)), m.left)
			m.left -= n
			p = p[n:]
			continue
		}
		want := 5
		if len(m.head) >= want && m.head[4] == fxpName && binary.BigEndian.Uint32(m.head) >= 9 {
			want = 13
		}
		n := min(len(p), want-len(m.head))
		m.head, p = append(m.head, p[:n]...), p[n:]
		if len(m.head) < 5 {
			return
		}
		length := binary.BigEndian.Uint32(m.head)
		if m.head[4] == fxpName && length >= 9 {
			if len(m.head) < 13 {
				continue
			}
			m.count(binary.BigEndian.Uint32(m.head[9:]), length)
		}
		if all := int64(length) + 4 - int64(len(m.head)); all > 0 {
			m.left = uint32(all)
		}
		m.head = m.head[:0]
	}
}

func (m *nameMeter) count(names, length uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names += int64(names)
	m.bytes += int64(length)
	if m.enough != nil && (m.names > maxEntries || m.bytes > maxNameBytes) {
		m.enough()
	}
}

// begin counts anew, and calls enough when it is.
func (m *nameMeter) begin(enough context.CancelFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names, m.bytes, m.enough = 0, 0, enough
}
