package terminal

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/audit"
	"sallyport/appliance/message"
	"sallyport/appliance/sshlogin"
)

// TestShell: a certificate signs in, the window has its size, what is typed is echoed, UTF-8 stays whole, and the exit status
// is told, or the signal.
func TestShell(t *testing.T) {
	s := newSite(t)
	p := s.open(nil, certificate())
	p.until("open")
	p.send(kindKeys, "stty size; echo $TERM $LANG\n")
	p.shows("24 80")
	p.shows("xterm-256color")
	p.sendJSON(kindResize, size{132, 50})
	p.send(kindKeys, "stty size\n")
	p.shows("50 132")
	p.send(kindKeys, `for b in '\303' '\244' '\360\237' '\230\200'; do printf $b; sleep 0.05; done; echo " done"`+"\n")
	p.shows("ä😀 done")
	p.send(kindKeys, "exit 7\n")
	if said := p.until("ended"); !strings.Contains(said, `"exit":7`) {
		t.Errorf("ended with %s", said)
	}
	if r, inOrder := p.ends(); !inOrder {
		t.Errorf("the flow ended with %+v", r)
	}
	p = s.open(nil, certificate())
	p.until("open")
	p.send(kindKeys, "kill -KILL $$\n")
	if said := p.until("ended"); !strings.Contains(said, `"signal":"KILL"`) {
		t.Errorf("ended with %s", said)
	}
	if issued := s.book.of(audit.CertificateIssued); len(issued) != 2 || issued[0].Detail["principals"] != "root" {
		t.Errorf("%+v", issued)
	}
}

// TestKeyInTab: the person's own key signs, and never leaves them.
func TestKeyInTab(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	s := newSite(t)
	for name, key := range map[string]crypto.Signer{"ed25519": ed, "ecdsa": ec, "rsa": rs} {
		t.Run(name, func(t *testing.T) {
			signer, err := ssh.NewSignerFromSigner(key)
			if err != nil {
				t.Fatal(err)
			}
			line := string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
			s.write("authorized", line)
			p := s.open(nil, sshlogin.Start{User: "root", Auth: "key", Key: line})
			p.answer = func(_ byte, body []byte) (byte, any) {
				var ask struct {
					Algorithm string
					Data      []byte
				}
				if err := json.Unmarshal(body, &ask); err != nil {
					t.Error(err)
				}
				got, err := signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, ask.Data, ask.Algorithm)
				return signature(signer.PublicKey(), got, err)
			}
			p.until("open")
			p.flow.Close()

			// One that the server does not know.
			s.write("authorized", "")
			p = s.open(nil, sshlogin.Start{User: "root", Auth: "key", Key: line})
			if r, _ := p.ends(); r.Code != "E_TARGET_AUTH" || r.Sentence != "db-1 does not accept this key for root" {
				t.Errorf("told %+v", r)
			}
		})
	}
}

// TestPassword: it is asked for, by both of SSH's methods for it, three times at most; one that is wrong is told so. What PAM
// asks beside is asked too: here for another password in the place of one that is too old.
func TestPassword(t *testing.T) {
	const right, next = "right horse", "another Battery 9 staple"
	user := fmt.Sprint("sp-term-", os.Getpid())
	hash, err := exec.Command("openssl", "passwd", "-6", right).Output() // a test's, and nobody's secret
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	say := func(words ...string) func(byte, []byte) (byte, any) {
		asked = nil
		return func(_ byte, body []byte) (byte, any) {
			var p struct{ Questions []struct{ Text string } }
			if err := json.Unmarshal(body, &p); err != nil || len(p.Questions) > 1 || strings.Contains(string(body), `"echo":true`) {
				t.Errorf("asked %s, %v", body, err)
			}
			answers := []string{}
			for _, q := range p.Questions {
				asked = append(asked, q.Text)
				answers = append(answers, words[min(len(asked), len(words))-1])
			}
			return sshlogin.KindAnswer, map[string]any{"answers": answers}
		}
	}
	for method, config := range map[string][]string{
		"password":             {"PasswordAuthentication yes"},
		"keyboard-interactive": {"UsePAM yes", "KbdInteractiveAuthentication yes"},
	} {
		t.Run(method, func(t *testing.T) {
			s := newSite(t, config...)
			s.run("useradd", "-M", "-N", "-d", "/", "-s", "/bin/sh", "-p", strings.TrimSpace(string(hash)), user)
			defer s.run("userdel", "--force", user) // a session of theirs may still be ending
			p := s.open(nil, sshlogin.Start{User: user, Auth: "password"})
			p.answer = say("wrong", right)
			p.until("open")
			p.send(kindKeys, "echo I am $(id -un)\n")
			p.shows("I am " + user)
			p.flow.Close()
			p = s.open(nil, sshlogin.Start{User: user, Auth: "password"})
			p.answer = say("wrong")
			if r, _ := p.ends(); r.Code != "E_TARGET_AUTH" || r.Sentence != "db-1 does not accept this password for "+user || len(asked) != 3 {
				t.Errorf("told %+v after %q", r, asked)
			}
			if method == "password" {
				return
			}
			s.run("chage", "-d", "0", user)
			p = s.open(nil, sshlogin.Start{User: user, Auth: "password"})
			p.answer = say(right, right, next, next)
			p.until("open")
			p.flow.Close()
			if len(asked) != 4 || !strings.Contains(asked[1], "\n") || !strings.Contains(asked[2], "New password") {
				t.Errorf("asked %q", asked)
			}
			p = s.open(nil, sshlogin.Start{User: user, Auth: "password"})
			p.answer = say(next)
			p.until("open")
			p.flow.Close()
		})
	}
}

// TestQuestions: a server that asks several things at once gets as many answers, or none of who gives up; one that asks too
// many is left. OpenSSH asks one after the other, so the server is another.
func TestQuestions(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	ask := []string{"User of the vault: ", "One-time code: "}
	var got []string
	config := &ssh.ServerConfig{KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		if _, err := challenge("", "maintenance at noon", nil, nil); err != nil {
			return nil, err
		}
		mu.Lock()
		questions := ask
		mu.Unlock()
		answers, err := challenge("Two things", "of\nyours", questions, make([]bool, len(questions)))
		mu.Lock()
		got = answers
		mu.Unlock()
		return nil, errors.Join(err, errors.New("no"))
	}}
	s.serve(config, func(*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request) {})
	for _, answers := range [][]string{{"ann", "123456"}, {}, {"one"}} {
		mu.Lock()
		got = nil
		mu.Unlock()
		p := s.open(nil, sshlogin.Start{User: "root", Auth: "password"})
		var said []string
		p.answer = func(_ byte, body []byte) (byte, any) {
			said = append(said, string(body))
			if strings.Contains(string(body), `"questions":[]`) {
				return sshlogin.KindSignature, struct{}{} // which nobody waits for
			}
			return sshlogin.KindAnswer, map[string]any{"answers": answers}
		}
		r, _ := p.ends()
		if len(said) < 2 || said[0] != `{"name":"","instruction":"maintenance at noon","questions":[]}` || !strings.Contains(said[1], `"name":"Two things","instruction":"of\nyours"`) {
			t.Errorf("asked %q", said)
		}
		mu.Lock()
		if full := len(answers) == len(ask); r.Code != "E_TARGET_AUTH" || full && !slices.Equal(got, answers) || !full && got != nil {
			t.Errorf("%q became %q, told %+v", answers, got, r)
		}
		mu.Unlock()
	}
	mu.Lock()
	ask = make([]string, 17)
	mu.Unlock()
	if r, _ := s.open(nil, sshlogin.Start{User: "root", Auth: "password"}).ends(); r.Code != "E_PROTOCOL" {
		t.Errorf("told %+v", r)
	}
}

// TestBanner: what a server says before anybody is in is told before the shell, without what a terminal would obey.
func TestBanner(t *testing.T) {
	banner := filepath.Join(t.TempDir(), "banner")
	if err := os.WriteFile(banner, []byte("Für Befugte.\r\nhttps://example/\x1b]52;c;aGk=\x07 \x1b[2J\u202e\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "Banner "+banner)
	p := s.open(nil, certificate())
	if said := p.until("banner"); said != `{"banner":"Für Befugte.\nhttps://example/?]52;c;aGk=? ?[2J?\n","state":"connecting"}` {
		t.Errorf("told %s", said)
	}
	p.until("open")
}

// TestRefused: what the appliance itself says no to before the target is asked.
func TestRefused(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct {
		start any
		code  string
	}{
		"another principal": {sshlogin.Start{User: "daemon", Auth: "certificate"}, "E_DENIED"},
		"no user":           {sshlogin.Start{Auth: "certificate"}, "E_USAGE"},
		"no such way":       {sshlogin.Start{User: "root", Auth: "none"}, "E_USAGE"},
		"no key":            {sshlogin.Start{User: "root", Auth: "key", Key: "x"}, "E_USAGE"},
		"no object":         {7, "E_USAGE"},
	} {
		if r, _ := s.open(nil, c.start).ends(); string(r.Code) != c.code {
			t.Errorf("%s: told %+v", name, r)
		}
	}
}

// TestHostKeyChanged: a target that shows another key than before is a hard stop, and nothing was sent to it.
func TestHostKeyChanged(t *testing.T) {
	s := newSite(t)
	p := s.open(nil, certificate())
	p.until("open")
	p.send(kindKeys, "exit\n")
	p.ends()
	s.port = 0
	s.startSSHD()
	r, _ := s.open(nil, certificate()).ends()
	if r.Code != "E_TARGET_IDENTITY" || !strings.Contains(r.Sentence, "shows another host key than it is known by") {
		t.Errorf("told %+v", r)
	}
	if len(s.book.of(audit.TargetIdentity)) != 1 {
		t.Error("it is not in the audit log")
	}
}

// TestHostCertificate: a target is known by a certificate for its name that its authority has made, and by no other.
func TestHostCertificate(t *testing.T) {
	s := newSite(t)
	authority := filepath.Join(s.dir, "authority")
	s.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority)
	public, err := os.ReadFile(authority + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.keys = fmt.Sprintf(", host_ca: [%q]", strings.TrimSpace(string(public)))
	s.policy("")
	for name, good := range map[string]bool{"db-1": true, "db-2": false} {
		host := filepath.Join(s.dir, name)
		s.run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", host)
		s.run("ssh-keygen", "-q", "-s", authority, "-h", "-I", name, "-n", name, host+".pub")
		s.port = 0
		s.startSSHD("HostKey "+host, "HostCertificate "+host+"-cert.pub")
		p := s.open(nil, certificate())
		if good {
			p.until("open")
		} else if r, _ := p.ends(); r.Code != "E_TARGET_IDENTITY" {
			t.Errorf("with a certificate for %s: told %+v", name, r)
		}
	}
}

// TestMuchOutput: all of it comes, in order, to who takes it.
func TestMuchOutput(t *testing.T) {
	s := newSite(t)
	p := s.open(nil, certificate())
	p.until("open")
	p.send(kindKeys, "stty -echo -onlcr; echo rea''dy; yes | head -c 10000000; echo en''d\n")
	p.shows("ready\n")
	p.shows("end\n")
	_, out, _ := strings.Cut(p.screen.String(), "ready\n")
	out, _, _ = strings.Cut(out, "end\n")
	if out != strings.Repeat("y\n", 5000000) {
		t.Errorf("%d bytes came, or others", len(out))
	}
}

// TestJoin: a page that is loaded again has what went before, and goes on; the one before is told.
func TestJoin(t *testing.T) {
	s := newSite(t)
	first := s.open(nil, certificate())
	first.until("open")
	first.send(kindKeys, "x=kept; echo bef''ore; seq 300000 | tail -c 2000000; echo las''t\n") // nobody reads that
	first.shows("before")
	second := s.open(first.opened.Session, size{100, 30})
	second.until("open")
	second.shows("last")
	second.send(kindKeys, "echo $x; stty size\n")
	second.shows("kept")
	second.shows("30 100")
	if r, _ := first.ends(); r.Code != "E_SUPERSEDED" {
		t.Errorf("the first is told %+v", r)
	}
	if !strings.Contains(second.screen.String(), "300000\r\n") || strings.Contains(second.screen.String(), "\x00") {
		t.Error("what went before is missing")
	}

	// A program that has painted more than is kept has its screen and its modes, is told that the window has changed, and what
	// was there before it still is.
	painter := s.write("painter", `trap 'echo size $(stty size)' WINCH
printf '\033[?1049h\033[?1h\033[?1002;1006h'
head -c 600000 /dev/zero | tr '\0' x
echo painted
until read line; do :; done
`)
	second.send(kindKeys, "sh "+painter+"\n")
	second.shows("painted")
	third := s.open(first.opened.Session, size{100, 30})
	third.until("open")
	replayed := third.screen.String()
	below, painted, _ := strings.Cut(replayed, "\x1b[?1049h")
	if len(replayed) > maxNormal+maxAlternate+1000 || !strings.Contains(below, "30 100\r\n") || !strings.HasPrefix(painted, "\x1b[?1h\x1b[?1002h\x1b[?1006hx") {
		t.Errorf("%d bytes, of which %.200q are of the program", len(replayed), painted)
	}
	third.shows("size 29 100")
	third.shows("size 30 100")
	third.send(kindKeys, "\n")
	third.send(kindKeys, "printf '\\033[?1049l'; exit 3\n")
	if said := third.until("ended"); !strings.Contains(said, `"exit":3`) {
		t.Errorf("ended with %s", said)
	}
}

// TestClipboard: each direction as policy says, and written without what it was.
func TestClipboard(t *testing.T) {
	for _, may := range []bool{true, false} {
		s := newSite(t)
		if !may {
			s.policy(`forbid (principal, action in [Action::"clipboard_in", Action::"clipboard_out"], resource);`)
		}
		p := s.open(nil, certificate())
		p.until("open")
		p.send(kindKeys, `stty -echo; printf '\033[?2004h'; echo rea''dy; cat -v`+"\n")
		p.shows("ready")
		const text = "one\r\ntwo\x1b[201~ \x03ü\n"
		p.send(kindPaste, text[:15])
		p.send(kindPaste, text[15:])
		p.send(kindPasted, "")
		if !may {
			p.until("clipboard_in")
		}
		p.send(kindKeys, "after\n")
		p.shows("after")
		if typed := strings.Contains(p.screen.String(), "^[[200~one\r\ntwo[201~ M-CM-<\r\n^[[201~after"); typed != may {
			t.Errorf("may %t: on the screen %q", may, p.screen.String())
		}
		p.send(kindKeys, "\x04")
		p.send(kindKeys, `printf '\033]52;c;aGVsbG8=\007s''et\n'`+"\n")
		p.shows("set")
		if set := strings.Contains(p.screen.String(), "\x1b]52;c;aGVsbG8=\x07"); set != may {
			t.Errorf("may %t: the clipboard is set %t", may, set)
		}
		in, out := s.book.of(audit.ClipboardIn), s.book.of(audit.ClipboardOut)
		if len(in) != 1 || len(out) != 1 || out[0].Detail["size"] != "5" || out[0].Detail["sha256"] != "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" || in[0].Detail["size"] != strconv.Itoa(len(text)) || in[0].Detail["sha256"] != fmt.Sprintf("%x", sha256.Sum256([]byte(text))) || (in[0].Code == "") != may || (out[0].Code == "") != may {
			t.Errorf("may %t: written %+v, %+v", may, in, out)
		}
		// A target does not fill the log by it.
		p.send(kindKeys, `for i in $(seq 500); do printf '\033]52;c;aGVsbG8=\007'; done; echo m''any`+"\n")
		p.shows("many")
		if n := len(s.book.of(audit.ClipboardOut)); n < copiesAtOnce || n > 100 {
			t.Errorf("may %t: written %d times", may, n)
		}
		// Nor does a page fill the memory.
		for range maxPaste/MaxMessage + 1 {
			message.Write(p.flow, kindPaste, make([]byte, MaxMessage))
		}
		if r, _ := p.ends(); r.Code != "E_USAGE" {
			t.Errorf("may %t: after a paste that is too long told %+v", may, r)
		}
	}
}

// TestReach: a server gets no further than its session. It can open nothing at the appliance, no agent, no X11, no forwarding,
// and is asked for none; and it goes on.
func TestReach(t *testing.T) {
	s := newSite(t)
	told := make(chan []string, 10) // what the appliance has asked for in a session
	open := func(conn *ssh.ServerConn, channel ssh.Channel) error {
		from := ssh.Marshal(struct {
			Address    string
			Port       uint32
			Originator string
			From       uint32
		}{"127.0.0.1", 22, "127.0.0.1", 1})
		for kind, payload := range map[string][]byte{
			"auth-agent@openssh.com": nil, "auth-agent": nil, "session": nil, "x11": ssh.Marshal(struct {
				Originator string
				From       uint32
			}{"127.0.0.1", 1}),
			"direct-tcpip": from, "forwarded-tcpip": from, "forwarded-streamlocal@openssh.com": ssh.Marshal(struct{ Path, Reserved string }{"/run/agent", ""}), "tun@openssh.com": make([]byte, 8),
		} {
			if opened, _, err := conn.OpenChannel(kind, payload); err == nil {
				opened.Close()
				t.Errorf("a server has opened %s", kind)
			} else if refused := new(ssh.OpenChannelError); !errors.As(err, &refused) {
				return fmt.Errorf("open %s: %w", kind, err)
			}
		}
		for _, kind := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "no-more-sessions@openssh.com", "hostkeys-00@openssh.com", "keepalive@openssh.com"} {
			if ok, _, err := conn.SendRequest(kind, true, nil); ok || err != nil {
				return fmt.Errorf("ask for %s: %t, %w", kind, ok, err)
			}
		}
		for _, kind := range []string{"auth-agent-req@openssh.com", "x11-req", "shell", "exec", "subsystem"} {
			if ok, err := channel.SendRequest(kind, true, nil); ok || err != nil {
				return fmt.Errorf("ask the session for %s: %t, %w", kind, ok, err)
			}
		}
		return nil
	}
	s.serve(&ssh.ServerConfig{NoClientAuth: true}, func(conn *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		s.wg.Go(func() {
			for r := range requests {
				t.Errorf("the appliance asks for %s", r.Type)
				r.Reply(false, nil)
			}
		})
		for c := range channels {
			if c.ChannelType() != "session" {
				t.Errorf("the appliance opens %s", c.ChannelType())
			}
			var asked []string
			channel, requests, err := c.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			for r := range requests {
				asked = append(asked, r.Type)
				r.Reply(true, nil)
				if r.Type != "shell" {
					continue
				}
				if err := open(conn, channel); err != nil {
					t.Error(err)
				}
				io.WriteString(channel, "refused\r\n")
				line := make([]byte, len("go on"))
				if _, err := io.ReadFull(channel, line); err != nil {
					t.Error(err)
				}
				fmt.Fprintf(channel, "%s, and it does\r\n", line)
				channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
				channel.Close()
			}
			told <- asked
		}
	})
	p := s.open(nil, certificate())
	p.until("open")
	p.shows("refused")
	p.send(kindKeys, "go on")
	p.shows("go on, and it does")
	if said := p.until("ended"); !strings.Contains(said, `"exit":0`) {
		t.Errorf("ended with %s", said)
	}
	p.ends()
	if asked := <-told; !slices.Equal(asked, []string{"env", "pty-req", "shell"}) || len(told) > 0 {
		t.Errorf("the appliance asks for %q", asked)
	}
}

// TestEchoLatency tells how long a key takes to come back from a shell on the same machine, and bounds it loosely.
func TestEchoLatency(t *testing.T) {
	s := newSite(t)
	p := s.open(nil, certificate())
	p.until("open")
	p.send(kindKeys, "stty raw -echo; echo rea''dy; cat\n")
	p.shows("ready")
	var took []time.Duration
	for i := range 200 {
		mark := fmt.Sprintf("<%d>", i)
		begun := time.Now()
		p.send(kindKeys, mark)
		p.shows(mark)
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("p50 %v, p99 %v", took[100], took[198])
	if took[100] > 50*time.Millisecond {
		t.Errorf("half of all keys take longer than %v", took[100])
	}
}
