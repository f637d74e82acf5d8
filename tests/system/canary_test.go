package system

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// Every bastion of these tests is searched for its secrets when its test is over: the files of the appliance and of the
// people, the database and the audit log among them, and what the daemons printed. While the tests run, so are the arguments
// and the environment of every process. A secret may stand in its own file and nowhere else.

// secrets are those of one bastion, in the forms in which they could show up.
type secrets struct {
	mu    sync.Mutex
	forms map[uint64][]form // by their first eight bytes
}

type form struct {
	what string
	text []byte
	home string // the file in which it may stand; empty for none
}

// hide adds a secret.
func (s *secrets) hide(what string, secret []byte, home string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forms == nil {
		s.forms = map[uint64][]form{}
	}
	for _, text := range [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(base64.RawStdEncoding.EncodeToString(secret)),
		[]byte(base64.RawURLEncoding.EncodeToString(secret)), bytes.ReplaceAll(secret, []byte("-"), nil)} {
		if len(text) < 8 {
			continue
		}
		first := binary.BigEndian.Uint64(text)
		if !slices.ContainsFunc(s.forms[first], func(f form) bool { return bytes.Equal(f.text, text) && f.home == home }) {
			s.forms[first] = append(s.forms[first], form{what, text, home})
		}
	}
}

// in says which secrets stand in data that is at a place.
func (s *secrets) in(data []byte, place string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var window uint64
	for i, b := range data {
		window = window<<8 | uint64(b)
		if i < 7 {
			continue
		}
		for _, f := range s.forms[window] {
			if f.home != place && bytes.HasPrefix(data[i-7:], f.text) {
				found = append(found, f.what)
			}
		}
	}
	return found
}

// hideKeys adds the private keys among the files below a folder.
func (s *secrets) hideKeys(t testing.TB, dir string) {
	t.Helper()
	walk(t, dir, func(path string, data []byte) {
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "PRIVATE KEY" {
				continue
			}
			s.hide("the key of "+path, block.Bytes, path)
			if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				if key, ok := key.(ed25519.PrivateKey); ok {
					s.hide("the seed of "+path, key.Seed(), path)
				}
			}
		}
	})
}

// hideTokens adds the access tokens that clients keep below a folder.
func (s *secrets) hideTokens(t testing.TB, dir string) {
	t.Helper()
	walk(t, dir, func(path string, data []byte) {
		if strings.HasSuffix(path, ".token") {
			s.hide("the token of "+path, bytes.TrimSpace(data), path)
		}
	})
}

// walk reads the regular files below a folder.
func walk(t testing.TB, dir string, f func(path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "netns" { // whose files are namespaces
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			f(path, data)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// betrayed searches what a bastion has left.
func (b *bastion) betrayed(daemons []*lab.Process) {
	b.secrets.hideKeys(b.t, b.Dir)
	b.secrets.hideTokens(b.t, b.Dir)
	b.betrayedIn(b.Dir)
	for _, d := range daemons {
		b.complain("the output of "+strings.Join(d.Args, " "), []byte(d.Output()))
	}
}

// betrayedIn searches the files below a folder.
func (b *bastion) betrayedIn(dir string) { walk(b.t, dir, b.complain) }

func (b *bastion) complain(place string, data []byte) {
	for _, what := range b.secrets.in(data, place) {
		b.t.Errorf("%s stands in %s", what, place)
	}
}

// A watch are the secrets of all bastions that there were.
type watch struct {
	mu  sync.Mutex
	all []*secrets
}

var watched watch

func (w *watch) add(s *secrets) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
}

// processes looks at what all processes show to everybody, until it is stopped, which returns what it has found.
func (w *watch) processes() (stop func() []string) {
	over, done := make(chan struct{}), make(chan []string)
	go func() {
		var found []string
		for {
			select {
			case <-over:
				done <- found
				return
			case <-time.After(250 * time.Millisecond):
			}
			w.mu.Lock()
			all := slices.Clone(w.all)
			w.mu.Unlock()
			paths, _ := filepath.Glob("/proc/[0-9]*/[ce][mn][dv][li][ir]*") // cmdline and environ
			for _, path := range paths {
				data, err := os.ReadFile(path)
				if err != nil {
					continue // it has ended
				}
				for _, s := range all {
					for _, what := range s.in(data, path) {
						found = append(found, fmt.Sprintf("%s stands in %s", what, path))
					}
				}
			}
		}
	}()
	return func() []string { close(over); return <-done }
}

// TestSecrets: people sign up and in, in browsers and with codes, and use what they have, over a real PostgreSQL; then the
// worker dies of a signal and says what all goroutines were doing. Nothing of that has a secret: what is stored is sealed or
// hashed.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const clientSecret = "the canary of an identity provider's client"
	var db *database
	b := start(t, settings{
		access: strings.ReplaceAll(usualAccess, "who: [ann]", "who: [ann, bob]"),
		extra: "store: {url: \"" + databaseURL + "\"}\naudit: {export: [{name: fleet, database: true}]}\n" +
			"identity: {url: " + entranceURL + ", providers: [{name: corp, issuer: \"https://127.0.0.1:1\", client_id: lab, client_secret_file: corp.secret}]}\n",
		prepare: func(b *bastion) {
			db = newDatabase(b)
			b.write("corp.secret", clientSecret+"\n")
			b.secrets.hide("a client secret", []byte(clientSecret), filepath.Join(b.dir, "corp.secret"))
		},
	})
	bob := filepath.Join(b.Dir, "bob")
	p := b.signUp("bob", bob)
	if err := b.asBob(bob); err != nil {
		t.Fatal(err)
	}
	tokens, err := filepath.Glob(filepath.Join(bob, "*.token"))
	if err != nil || len(tokens) != 1 {
		t.Fatalf("bob's tokens are %q, %v", tokens, err)
	}
	p.signIn("recovery", p.recovery[0], "/login/browser")
	p.signIn("recovery", p.recovery[0], "is wrong or has been used") // and fails, which is noted
	p.form("/login/password", url.Values{"user": {"bob"}, "password": {p.password + " too much"}}, "the user name or the password is wrong")
	b.hide("a set-up code", linkCode.FindStringSubmatch(b.mustClient("admin", "accounts", "reset", "bob", "--second-factor").stdout)[1])
	robot := b.rawClient("robot")
	b.code("robot", "--target", "db-1", "--protocol", "ssh", "--expires", "1h") // that nobody uses
	robot.admitted("https", "robot")

	b.hide("what somebody types", "the canary that ann types")
	held := b.shell(b.home, "quic")
	held.echoes(20 * time.Second)
	io.WriteString(held.stdin, "the canary that ann types\n")
	b.eventually(20*time.Second, "the target has it", func() error {
		if !strings.Contains(held.stdout.String(), "the canary") {
			return errors.New(held.stdout.String())
		}
		return nil
	})
	if err := syscall.Kill(b.worker(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	b.eventually(20*time.Second, "the worker says what it was doing, and another serves", func() error {
		if out := b.daemon.Output(); !strings.Contains(out, "SIGQUIT: quit") || strings.Count(out, "\ngoroutine ") < 20 || !strings.Contains(out, "appliance.(*flow).run") || strings.Count(out, "msg=serving") < 2 {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
	if err := b.ssh("https", "db-1", "echo in", "in"); err != nil {
		t.Error(err)
	}
	// The search is good for something only where things are.
	if err := db.says("SELECT (SELECT count(*) > 0 FROM credentials), (SELECT count(*) > 0 FROM signins), (SELECT count(*) > 20 FROM audit)", "t|t|t"); err != nil {
		t.Error(err)
	}
}

// TestCanary: the search finds what is there.
func TestCanary(t *testing.T) {
	var s secrets
	s.hide("the code", []byte("ABCD-EFGH-JKLM-NPQR"), "/home/code")
	for _, text := range []string{"ABCD-EFGH-JKLM-NPQR", "code=ABCDEFGHJKLMNPQR", hex.EncodeToString([]byte("ABCD-EFGH-JKLM-NPQR")),
		`{"code":"` + base64.StdEncoding.EncodeToString([]byte("ABCD-EFGH-JKLM-NPQR")) + `"}`} {
		if found := s.in([]byte(text), "/log"); len(found) != 1 {
			t.Errorf("%s: found %q", text, found)
		}
		if found := s.in([]byte(text), "/home/code"); len(found) != 0 {
			t.Errorf("%s where it belongs: found %q", text, found)
		}
	}
	if found := s.in([]byte("ABCD-EFGH-JKLM"), "/log"); len(found) != 0 {
		t.Errorf("found %q", found)
	}

	var w watch
	w.add(&s)
	stop := w.processes()
	argument := exec.CommandContext(t.Context(), "sleep", "2")
	argument.Args[0] = "sleep ABCDEFGHJKLMNPQR"
	environment := exec.CommandContext(t.Context(), "sleep", "2")
	environment.Env = []string{"CODE=ABCD-EFGH-JKLM-NPQR"}
	if err := errors.Join(argument.Start(), environment.Start(), argument.Wait(), environment.Wait()); err != nil {
		t.Error(err)
	}
	found := strings.Join(stop(), "\n")
	for _, file := range []string{"cmdline", "environ"} {
		if !strings.Contains(found, file) {
			t.Errorf("no %s among %s", file, found)
		}
	}
}
