package files

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/frame"
)

// Kinds of packets of SFTP 3.
const (
	sftpInit, sftpVersion                            = 1, 2
	sftpOpen, sftpClose, sftpRead, sftpWrite         = 3, 4, 5, 6
	sftpLstat, sftpFstat                             = 7, 8
	sftpOpendir, sftpReaddir, sftpRealpath, sftpStat = 11, 12, 16, 17
	sftpReadlink                                     = 19
	sftpStatus, sftpHandle, sftpData, sftpAttrs      = 101, 102, 103, 105
)

// A lie is what a server answers to a packet, from the kind on. ok is false where it tells the truth; an answer that is nil
// never comes.
type lie func(kind byte, id []byte) (answer []byte, ok bool)

// newLiar is a server that says of everything that it is a small file, but for its lies.
func newLiar(t testing.TB, tells lie) *target {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serveLies(c, config, tells) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return &target{addr: l.Addr().String(), key: key}
}

func serveLies(c net.Conn, config *ssh.ServerConfig, tells lie) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { ssh.DiscardRequests(requests) })
	for one := range channels {
		channel, asked, err := one.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			for r := range asked {
				r.Reply(true, nil)
			}
		})
		serving.Go(func() {
			defer channel.Close()
			var head [4]byte
			for {
				if _, err := io.ReadFull(channel, head[:]); err != nil {
					return
				}
				packet := make([]byte, binary.BigEndian.Uint32(head[:])) // the appliance's, which is no liar
				if _, err := io.ReadFull(channel, packet); err != nil {
					return
				}
				answer, lied := tells(packet[0], packet[1:5])
				if !lied {
					answer = truth(packet[0], packet[1:5], packet[5:])
				}
				if answer != nil {
					channel.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...))
				}
			}
		})
	}
}

// packet is one of a kind, whose parts follow its id.
func packet(kind byte, id []byte, parts ...any) []byte {
	b := append([]byte{kind}, id...)
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		}
	}
	return b
}

// attrs says of a file how large it is.
func attrs(id []byte, size uint64) []byte { return packet(sftpAttrs, id, 1|4|8, size, 0o100644, 1, 1) }

func truth(kind byte, id, rest []byte) []byte {
	switch kind {
	case sftpInit:
		return []byte{sftpVersion, 0, 0, 0, 3}
	case sftpRealpath:
		return packet(fxpName, id, 1, "/", "", 0)
	case sftpOpen, sftpOpendir:
		return packet(sftpHandle, id, "h")
	case sftpStat, sftpLstat, sftpFstat:
		return attrs(id, 10)
	case sftpRead:
		if at := binary.BigEndian.Uint64(rest[len("....h"):]); at < 10 {
			return packet(sftpData, id, "0123456789"[at:])
		}
		return packet(sftpStatus, id, 1, "", "")
	case sftpReaddir:
		return packet(sftpStatus, id, 1, "", "")
	}
	return packet(sftpStatus, id, 0, "", "")
}

// about lies to packets of some kinds.
func about(answer func(id []byte) []byte, kinds ...byte) lie {
	return func(kind byte, id []byte) ([]byte, bool) {
		if !bytes.Contains(kinds, []byte{kind}) {
			return nil, false
		}
		return answer(id), true
	}
}

// TestLies: whatever a target answers, requests are answered or the flow ends, nobody waits for it longer than for a while,
// and nothing of what it says is taken for more than it is.
func TestLies(t *testing.T) {
	stats := []byte{sftpStat, sftpLstat, sftpFstat}
	several := func(n int, name string) func([]byte) []byte {
		return func(id []byte) []byte {
			parts := []any{n}
			for range n {
				parts = append(parts, name, "", 0)
			}
			return packet(fxpName, id, parts...)
		}
	}
	for name, tells := range map[string]lie{
		"sizes below nothing":   about(func(id []byte) []byte { return attrs(id, 1<<63) }, stats...),
		"sizes without end":     about(func(id []byte) []byte { return attrs(id, 1<<63-1) }, stats...), // of a file that ends soon
		"attributes cut off":    about(func(id []byte) []byte { return attrs(id, 1)[:9] }, stats...),
		"attributes by billion": about(func(id []byte) []byte { return packet(sftpAttrs, id, 1<<31, 1<<31) }, stats...),
		"names by billion":      about(func(id []byte) []byte { return packet(fxpName, id, 1<<31-1, "x") }, sftpReaddir, sftpRealpath, sftpReadlink),
		"a name of gigabytes":   about(func(id []byte) []byte { return append(packet(fxpName, id, 1), 0x7f, 0xff, 0xff, 0xff) }, sftpReaddir, sftpRealpath),
		"a folder without end":  about(several(500, "again"), sftpReaddir),
		"names that are paths":  about(several(3, "../../etc/passwd\x00"), sftpReaddir, sftpRealpath),
		"more than was asked":   about(func(id []byte) []byte { return packet(sftpData, id, strings.Repeat("x", 200<<10)) }, sftpRead),
		"data longer than said": about(func(id []byte) []byte { return append(packet(sftpData, id), 0xff, 0xff, 0xff, 0xff, 'x') }, sftpRead),
		"another's answer":      about(func(id []byte) []byte { return packet(sftpStatus, []byte{9, 9, 9, 9}, 0, "", "") }, sftpRead, sftpWrite),
		"another answer":        about(func(id []byte) []byte { return packet(sftpHandle, id, "h") }, sftpRead, sftpWrite, sftpLstat, sftpReaddir),
		"half a status":         about(func(id []byte) []byte { return packet(sftpStatus, id)[:4] }, sftpWrite, sftpReaddir, sftpRead),
		"a long status": about(func(id []byte) []byte {
			return packet(sftpStatus, id, 4, strings.Repeat("\x1b]0;x\x07<b>", 10_000), "")
		}, sftpWrite, sftpReaddir, sftpRead, sftpClose),
		"an empty packet": about(func([]byte) []byte { return []byte{} }, sftpRead, sftpReaddir),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newLiar(t, tells)
			p := begin(t, g, "root", "upload", "download")
			for _, r := range []request{{Op: "list", Path: []byte("/")}, {Op: "stat", Path: []byte("/f")}, {Op: "download", Path: []byte("/f")}, {Op: "upload", Path: []byte("/u"), Size: 5, Clash: clashReplace},
				{Op: "rename", Path: []byte("/f"), To: []byte("/g")}, {Op: "remove", Path: []byte("/f"), Recursive: true}} {
				if !p.comesToAnEnd(r) {
					break // the flow is over
				}
			}
			p.leave()
		})
	}
	for name, tells := range map[string]lie{
		"silence":      about(func([]byte) []byte { return nil }, sftpRead, sftpReaddir, sftpWrite, sftpClose),
		"data of none": about(func(id []byte) []byte { return packet(sftpData, id, "") }, sftpRead),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newLiar(t, tells)
			p := begin(t, g, "root", "upload", "download")
			p.ask(request{Op: "download", Path: []byte("/f")})
			p.ask(request{Op: "list", Path: []byte("/")})
			up := p.ask(request{Op: "upload", Path: []byte("/u"), Size: 5, Clash: clashReplace})
			time.Sleep(50 * time.Millisecond)
			p.cancel(up.id, true)
			begun := time.Now()
			p.leave()
			if took := time.Since(begun); took > 3*lastWords {
				t.Errorf("who has gone is waited for %v", took)
			}
		})
	}
}

// comesToAnEnd sends a request, and of an upload a few bytes; false if the flow has ended instead of an answer.
func (p *person) comesToAnEnd(r request) bool {
	p.t.Helper()
	e := p.ask(r)
	for {
		got, err := e.receive()
		if err == errSilent {
			if code(p.leave()) == frame.Internal {
				p.t.Errorf("%s: the flow ends by %v", r.Op, p.near.end)
			}
			return false
		}
		if err != nil {
			p.t.Errorf("%s: %v", r.Op, err)
			return false
		}
		if got.kind != kindRequest {
			continue
		}
		if no := codeIn(got.json); no == "no sentence" {
			p.t.Errorf("%s: %v", r.Op, got.json)
		}
		if more, _ := got.json["more"].(bool); !more {
			return true
		}
		if r.Op == "upload" && got.json["offset"] != nil {
			p.write(appendData(nil, e.id, 0, []byte("hello")))
		}
	}
}
