package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"go.uber.org/goleak"

	"sallyport/client"
	"sallyport/client/clienttest"
)

// person has signed in to an appliance. The leak check comes after everything else has ended.
func person(t *testing.T) (Env, *clienttest.Appliance) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	a := clienttest.Start(t, clienttest.Config{})
	dir := filepath.Join(t.TempDir(), "home")
	home, err := client.OpenHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile}); err != nil {
		t.Fatal(err)
	}
	return environment(dir), a
}

func environment(home string) Env {
	return Env{Self: "/opt/sally port/sallyport", Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard,
		Getenv: func(name string) string {
			return map[string]string{"SALLYPORT_HOME": home, "SALLYPORT_NO_AGENT": "1"}[name]
		}}
}

// started runs a command until the test cancels it.
func started(env Env, args ...string) (cancel func(), status <-chan int) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	env.Args = args
	go func() { ended <- run(ctx, env) }()
	return cancel, ended
}

func TestTunnelsUntilInterrupted(t *testing.T) {
	env, _ := person(t)
	out, outWriter := io.Pipe()
	env.Stdout = outWriter
	var stderr bytes.Buffer
	env.Stderr = &stderr
	cancel, status := started(env, "tunnel", "echo", "count:2222", "--json")
	lines := json.NewDecoder(out)
	for _, want := range []string{"hello", "5 bytes, <nil>\n"} {
		var at struct{ Listen, Target string }
		if err := lines.Decode(&at); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", at.Listen)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "hello")
		c.(*net.TCPConn).CloseWrite()
		if got, _ := io.ReadAll(c); string(got) != want {
			t.Errorf("%s: got %q", at.Target, got)
		}
		c.Close()
	}
	cancel()
	if got := <-status; got != 0 || stderr.Len() > 0 {
		t.Errorf("status %d, stderr %q", got, stderr.String())
	}
}

func TestProxyInterrupted(t *testing.T) {
	env, _ := person(t)
	in, feed := io.Pipe()
	out, outWriter := io.Pipe()
	env.Stdin, env.Stdout = in, outWriter
	var stderr bytes.Buffer
	env.Stderr = &stderr
	cancel, status := started(env, "proxy", "echo")
	feed.Write([]byte("x"))
	out.Read(make([]byte, 1))
	cancel()
	if got := <-status; got != 130 || stderr.Len() > 0 {
		t.Errorf("status %d, stderr %q", got, stderr.String())
	}
}

// ssh closes stdin and sends SIGHUP at once: what was said last arrives all the same.
func TestProxyHungUp(t *testing.T) {
	env, _ := person(t)
	in, feed := io.Pipe()
	out, outWriter := io.Pipe()
	env.Stdin, env.Stdout = in, outWriter
	cancel, status := started(env, "proxy", "count")
	feed.Write(make([]byte, 64<<10)) // more than is read before the flow is open
	cancel()
	feed.Write([]byte("last"))
	feed.Close()
	if got, _ := io.ReadAll(out); string(got) != "65540 bytes, <nil>\n" {
		t.Errorf("got %q", got)
	}
	if got := <-status; got != 0 {
		t.Errorf("status %d", got)
	}
}

// Nobody waits for an appliance that says nothing longer than until Ctrl-C.
func TestInterruptedWhileDialling(t *testing.T) {
	env, a := person(t)
	a.Stop()
	l, err := net.Listen("tcp", a.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pc, err := net.ListenPacket("udp", a.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, args := range [][]string{{"ls"}, {"proxy", "echo"}, {"bench"}, {"--transport", "https", "status"}} {
		cancel, status := started(env, args...)
		time.Sleep(300 * time.Millisecond)
		cancel()
		select {
		case got := <-status:
			if got != 130 {
				t.Errorf("%s: status %d", args, got)
			}
		case <-time.After(3 * time.Second):
			t.Errorf("%s is still there", args)
		}
	}
}

func TestPrintRDP(t *testing.T) {
	env, _ := person(t)
	out, outWriter := io.Pipe()
	env.Stdout = outWriter
	_, status := started(env, "rdp", "echo", "--print", "--user", "ann b")
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, "/v:127.0.0.1:") || !strings.Contains(line, "'/u:ann b'") {
		t.Fatalf("printed %q, %v", line, err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(strings.Fields(line)[1], "/v:"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close() // come and gone
	select {
	case got := <-status:
		if got != 0 {
			t.Errorf("status %d", got)
		}
	case <-time.After(2 * lingerRDP):
		t.Error("still there")
	}
}

func TestRDPArgv(t *testing.T) {
	for _, tt := range []struct {
		program string
		user    string
		want    string
	}{
		{"mstsc", "", `mstsc /v:127.0.0.1:5000 /x`},
		{"open", `CORP\ann`, `open 'rdp://full%20address=s:127.0.0.1:5000&prompt%20for%20credentials%20on%20client=i:1&username=s:CORP%5Cann' /x`},
		{"open", "", `open 'rdp://full%20address=s:127.0.0.1:5000&prompt%20for%20credentials%20on%20client=i:1' /x`},
		{"xfreerdp", "", `xfreerdp /v:127.0.0.1:5000 /cert:tofu /dynamic-resolution +clipboard /x`},
		{"xfreerdp3", "ann", `xfreerdp3 /v:127.0.0.1:5000 /cert:tofu /dynamic-resolution +clipboard /u:ann /from-stdin /x`},
	} {
		call := rdpCall{address: "127.0.0.1:5000", user: tt.user, extra: []string{"/x"}}
		if got := displayLine(call.argv(rdpClient{name: tt.program})); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// TestHelpFitsATerminal: no line of any command's help is wider than 80 columns, or ends in blanks.
func TestHelpFitsATerminal(t *testing.T) {
	seen := 0
	var look func(path []string, commands []*cli.Command)
	look = func(path []string, commands []*cli.Command) {
		var out bytes.Buffer
		env := environment(t.TempDir())
		env.Args, env.Stdout = append(slices.Clone(path), "--help"), &out
		if got := run(t.Context(), env); got != 0 {
			t.Errorf("%q: status %d", env.Args, got)
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 || strings.TrimRight(line, " ") != line {
				t.Errorf("%q: %q", env.Args, line)
			}
		}
		seen++
		for _, c := range visible(commands) {
			look(append(slices.Clone(path), c.Name), c.Subcommands)
		}
	}
	look(nil, (&command{}).app().Commands)
	if seen < 20 {
		t.Errorf("only %d helps", seen)
	}
}

func TestArrange(t *testing.T) {
	app := (&command{}).app()
	for _, tt := range []struct{ in, want string }{
		{"ls", "ls"},
		{"ls --json", "--json ls"},
		{"--json ls --appliance x", "--json --appliance x ls"},
		{"login URL --ca F --user=ann", "login --ca F --user=ann -- URL"},
		{"login --ca F URL --transport quic", "--transport quic login --ca F -- URL"},
		{"ssh -v host --json", "ssh -v host --json"},
		{"--transport https ssh -p 22 host -- ls --json", "--transport https ssh -p 22 host -- ls --json"},
		{"rdp win -- /f --user x", "rdp -- win /f --user x"},
		{"tunnel a b --listen x", "tunnel --listen x -- a b"},
		{"admin devices revoke ID --json", "--json admin devices revoke -- ID"},
		{"login ls ls", "login -- ls ls"},
		{"login URL --code-file -", "login --code-file - -- URL"},
		{"nonsense --what", "--what -- nonsense"},
		{"tunnel a --help --listen x", "tunnel --help"},
		{"help ls --help", "help -- ls"},
	} {
		if got := strings.Join(arrange(app, strings.Fields(tt.in)), " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestParseSSH(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want sshCall
	}{
		{"db-1", sshCall{target: "db-1"}},
		{"-v -p2200 ann@db-1 ls -l", sshCall{before: []string{"-v", "-p2200"}, user: "ann@", target: "db-1", port: 2200, after: []string{"ls", "-l"}}},
		{"-vp 2200 -i key db-1", sshCall{before: []string{"-vp", "2200", "-i", "key"}, target: "db-1", port: 2200}},
		{"-L 1:a:2 corp@ann@[fd00::1]:22 -- x", sshCall{before: []string{"-L", "1:a:2"}, user: "corp@ann@", target: "fd00::1", port: 22, after: []string{"--", "x"}}},
		{"-NT -- db-1:2022", sshCall{before: []string{"-NT"}, target: "db-1", port: 2022}},
	} {
		got, err := parseSSH(strings.Fields(tt.in))
		got.before, got.after = slices.Clip(got.before), slices.Clip(got.after)
		if len(got.after) == 0 {
			got.after = nil
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v", tt.in, got, err)
		}
	}
}

// What is quoted comes out of a shell, and of ssh, as it went in.
func TestQuoting(t *testing.T) {
	words := []string{"/opt/sally port/100%/it's \"here\"\\x", "--appliance", "$(touch x)", "a;b", "[fd00::1]:22"}
	percent := strings.NewReplacer("%%", "%") // as ssh does first
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh")
	}
	out, err := exec.Command(sh, "-c", `printf '%s\n' `+percent.Replace(shellLine(words))).Output()
	if err != nil || string(out) != strings.Join(words, "\n")+"\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if got, want := argvLine([]string{`/a b/"c"\%`, "x"}), `"/a b/\"c\"\\%%" x`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestLoginAgain: a second login takes the place of the first, leaves nothing beside it, and no file is open to others.
func TestLoginAgain(t *testing.T) {
	env, a := person(t)
	code := filepath.Join(t.TempDir(), "code")
	os.WriteFile(code, []byte(clienttest.Code), 0o600)
	for range 2 {
		env.Args = []string{"login", a.Address, "--ca", a.CAFile, "--code-file", code}
		if got := run(t.Context(), env); got != 0 {
			t.Errorf("status %d", got)
		}
	}
	files, _ := filepath.Glob(filepath.Join(env.Getenv("SALLYPORT_HOME"), "*"))
	if len(files) != 2 {
		t.Errorf("found %q", files)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}
