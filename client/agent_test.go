package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/client"
	"sallyport/client/clienttest"
	"sallyport/frame"
	"sallyport/transport"
)

// running runs an agent until the test ends; stop ends it earlier and waits.
func running(t *testing.T, a *client.Agent) (stop func()) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", "")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	t.Cleanup(stop)
	for client.AgentOf(t.Context(), a.Home) == nil {
		time.Sleep(time.Millisecond)
	}
	return stop
}

func shared(t *testing.T, home client.Home, o client.Options, agent client.AgentOptions) *client.Shared {
	t.Helper()
	p, err := home.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	s := client.NewShared(home, p, o, agent)
	t.Cleanup(func() { s.Close() })
	return s
}

// viaAgent is what a command has that finds an agent of its version and starts none.
func viaAgent(t *testing.T, home client.Home, o client.Options) *client.Shared {
	return shared(t, home, o, client.AgentOptions{Version: "v1"})
}

func socketOf(home client.Home) string { return filepath.Join(home.Dir(), "agent", "socket") }

func TestAgentFlows(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	running(t, &client.Agent{Home: home, Version: "v1"})
	before := len(a.Hellos())
	for _, mode := range modes {
		for range 3 { // commands
			var out bytes.Buffer
			d := viaAgent(t, home, client.Options{Transport: mode})
			if err := client.Proxy(t.Context(), d, echo("count"), strings.NewReader("hello"), &out); err != nil || out.String() != "5 bytes, <nil>\n" {
				t.Errorf("%s: %q, %v", mode, out.String(), err)
			}
			path, err := d.Path(t.Context())
			if err != nil || path.Agent != os.Getpid() || mode != transport.Auto && path.Transport != string(mode) {
				t.Errorf("%s: the path is %+v, %v", mode, path, err)
			}
			me, err := client.NewAPI(d).Me(t.Context())
			if err != nil || me.User != clienttest.User {
				t.Errorf("%s: %+v, %v", mode, me, err)
			}
			d.Close()
		}
	}
	// QUIC and Auto: one sign-in each. HTTPS: one for each flow, and two spares.
	if n := len(a.Hellos()) - before; n > 2+6+2 {
		t.Errorf("%d sign-ins", n)
	}
	s := client.AgentOf(t.Context(), home)
	if len(s.Sessions) != 3 || s.PID != os.Getpid() || s.Version != "v1" {
		t.Errorf("status %+v", s)
	}
}

// The end of a flow, and why, are the same with and without the agent.
func TestAgentReasons(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	running(t, &client.Agent{Home: home, Version: "v1"})
	for _, mode := range modes {
		for _, target := range []string{"unknown", "denied", "refused", "busy", "bug", "reset", "echo"} {
			end := func(d client.Dialer) client.Failure {
				in, feed := io.Pipe()
				defer in.Close()
				go func() {
					feed.Write([]byte("x"))
					if target == "echo" {
						feed.Close()
					}
				}()
				if err := client.Proxy(t.Context(), d, echo(target), in, io.Discard); err != nil {
					return client.Explain(err)
				}
				return client.Failure{}
			}
			with, without := end(viaAgent(t, home, client.Options{Transport: mode})), end(dialer(t, home, client.Options{Transport: mode}))
			if fmt.Sprint(with) != fmt.Sprint(without) {
				t.Errorf("%s, %s: with agent %+v\nwithout %+v", mode, target, with, without)
			}
		}
	}
	var said []string
	d := viaAgent(t, home, client.Options{Notice: func(s string) { said = append(said, s) }})
	if err := client.Proxy(t.Context(), d, echo("noticed"), strings.NewReader(""), io.Discard); err != nil || fmt.Sprint(said) != "[this target is recorded]" {
		t.Errorf("said %q, %v", said, err)
	}
	a.Stop()
	_, _, err := viaAgent(t, home, client.Options{Transport: transport.HTTPS}).Open(t.Context(), echo("echo"), nil)
	if f := client.Explain(err); f.Code != "E_NO_PATH" || f.Exit() != 14 || len(f.Tried) != 1 {
		t.Errorf("nothing there: %+v", f)
	}
}

// Bulk both ways at once, with half-close, over both transports.
func TestAgentBulk(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	running(t, &client.Agent{Home: home, Version: "v1"})
	sent := bytes.Repeat([]byte("sallyport"), bulk/9)
	for _, mode := range modes[:2] {
		d := viaAgent(t, home, client.Options{Transport: mode})
		begin := time.Now()
		got := &comparing{want: sent}
		if err := client.Proxy(t.Context(), d, echo("echo"), bytes.NewReader(sent), got); err != nil || got.differs || len(got.want) > 0 {
			t.Errorf("%s: %d bytes missing, differs %v, %v", mode, len(got.want), got.differs, err)
		}
		t.Logf("%s: %d MiB there and back in %v", mode, bulk>>20, time.Since(begin).Round(time.Millisecond))
		var out bytes.Buffer
		if err := client.Proxy(t.Context(), d, echo("count"), bytes.NewReader(sent), &out); err != nil || out.String() != fmt.Sprintf("%d bytes, <nil>\n", len(sent)) {
			t.Errorf("%s: %q, %v", mode, out.String(), err)
		}
	}
}

// comparing is a writer that knows what should come.
type comparing struct {
	want    []byte
	differs bool
}

func (c *comparing) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(c.want, p) {
		c.differs = true
		return 0, errors.New("other bytes than were sent")
	}
	c.want = c.want[len(p):]
	return len(p), nil
}

// Twenty commands at once start one agent; it is started again when it has gone.
func TestAgentStartRace(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	ctx, cancel := context.WithCancel(context.Background())
	var agents, commands sync.WaitGroup
	var started atomic.Int32
	start := func() (<-chan struct{}, error) {
		started.Add(1)
		agents.Go(func() {
			time.Sleep(20 * time.Millisecond) // a process takes a moment
			if err := (&client.Agent{Home: home, Version: "v1"}).Run(ctx); err != nil {
				t.Error(err)
			}
		})
		return nil, nil
	}
	defer agents.Wait()
	defer cancel()
	before := len(a.Hellos())
	race := func() {
		for range 20 {
			commands.Go(func() {
				d := shared(t, home, client.Options{}, client.AgentOptions{Version: "v1", Start: start})
				if err := client.Proxy(t.Context(), d, echo("echo"), strings.NewReader("x"), io.Discard); err != nil {
					t.Error(err)
				}
			})
		}
		commands.Wait()
	}
	race()
	if n := started.Load(); n != 1 {
		t.Errorf("%d agents were started", n)
	}
	if n := len(a.Hellos()) - before; n != 1 {
		t.Errorf("%d sign-ins", n)
	}
	client.StopAgent(t.Context(), home, false)
	race()
	if n := started.Load(); n != 2 {
		t.Errorf("%d agents were started", n)
	}
}

// A command goes on by itself where no agent can be had.
func TestAgentThatDoesNotStart(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	home := signedIn(t, clienttest.Start(t, clienttest.Config{}))
	dead := make(chan struct{})
	close(dead)
	for _, start := range []func() (<-chan struct{}, error){
		nil,
		func() (<-chan struct{}, error) { return nil, errors.New("no such file") },
		func() (<-chan struct{}, error) { return dead, nil },
	} {
		begin := time.Now()
		d := shared(t, home, client.Options{}, client.AgentOptions{Version: "v1", Start: start})
		if me, err := client.NewAPI(d).Me(t.Context()); err != nil || me.User != clienttest.User {
			t.Errorf("%+v, %v", me, err)
		}
		if path, err := d.Path(t.Context()); err != nil || path.Agent != 0 {
			t.Errorf("%+v, %v", path, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("that took %v", took)
		}
	}
}

// An agent that was stopped hears, and says nothing.
func TestAgentThatIsMute(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	home := signedIn(t, clienttest.Start(t, clienttest.Config{}))
	if err := os.Mkdir(filepath.Dir(socketOf(home)), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socketOf(home))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begin := time.Now()
	if err := client.Proxy(t.Context(), viaAgent(t, home, client.Options{}), echo("echo"), strings.NewReader("x"), io.Discard); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("that took %v", took)
	}
}

func TestAgentEndsWhenIdle(t *testing.T) {
	home := signedIn(t, clienttest.Start(t, clienttest.Config{}))
	t.Setenv("XDG_RUNTIME_DIR", "")
	done := make(chan error, 1)
	begin := time.Now()
	go func() {
		done <- (&client.Agent{Home: home, Version: "v1", Idle: 300 * time.Millisecond}).Run(context.Background())
	}()
	for client.AgentOf(t.Context(), home) == nil {
		time.Sleep(time.Millisecond)
	}
	in, feed := io.Pipe()
	flow := make(chan error, 1)
	go func() {
		flow <- client.Proxy(t.Context(), viaAgent(t, home, client.Options{}), echo("echo"), in, io.Discard)
	}()
	feed.Write([]byte("x"))
	select {
	case <-done:
		t.Fatal("it ended under a flow")
	case <-time.After(time.Second):
	}
	feed.Close()
	if err := <-flow; err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil || time.Since(begin) > 4*time.Second {
		t.Errorf("ended after %v with %v", time.Since(begin), err)
	}
	if _, err := os.Stat(socketOf(home)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
}

// A command of another version lets the old agent finish its flows and starts a new one.
func TestAgentUpgrade(t *testing.T) {
	home := signedIn(t, clienttest.Start(t, clienttest.Config{}))
	running(t, &client.Agent{Home: home, Version: "v1"})
	in, feed := io.Pipe()
	old := make(chan error, 1)
	var out bytes.Buffer
	go func() {
		old <- client.Proxy(t.Context(), viaAgent(t, home, client.Options{}), echo("count"), in, &out)
	}()
	feed.Write([]byte("x"))

	ctx, cancel := context.WithCancel(context.Background())
	var agents, commands sync.WaitGroup
	defer agents.Wait()
	defer cancel()
	var started atomic.Int32
	for range 5 {
		commands.Go(func() {
			d := shared(t, home, client.Options{}, client.AgentOptions{Version: "v2", Start: func() (<-chan struct{}, error) {
				started.Add(1)
				agents.Go(func() { (&client.Agent{Home: home, Version: "v2"}).Run(ctx) })
				return nil, nil
			}})
			if path, err := d.Path(t.Context()); err != nil || path.Agent == 0 {
				t.Errorf("%+v, %v", path, err)
			}
		})
	}
	commands.Wait()
	if s := client.AgentOf(t.Context(), home); s == nil || s.Version != "v2" || started.Load() != 1 {
		t.Errorf("%d started, now %+v", started.Load(), s)
	}
	feed.Write([]byte("y"))
	feed.Close()
	if err := <-old; err != nil || out.String() != "2 bytes, <nil>\n" {
		t.Errorf("the old agent's flow: %q, %v", out.String(), err)
	}
}

// A command that ends, however it does, ends its flow; an agent that ends is named as the reason.
func TestAgentEnds(t *testing.T) {
	ended := make(chan error, 1)
	a := clienttest.Start(t, clienttest.Config{Serve: map[string]func(net.Conn){"watched": func(c net.Conn) {
		io.WriteString(c, "hello")
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}}})
	home := signedIn(t, a)
	for _, mode := range modes {
		stop := running(t, &client.Agent{Home: home, Version: "v1"})
		begin := func() (client.Flow, []byte) {
			flow, _, err := viaAgent(t, home, client.Options{Transport: mode}).Open(t.Context(), echo("watched"), nil)
			if err != nil {
				t.Fatal(err)
			}
			hello := make([]byte, 5)
			io.ReadFull(flow, hello)
			return flow, hello
		}
		flow, hello := begin()
		if string(hello) != "hello" {
			t.Errorf("%s: read %q", mode, hello)
		}
		flow.Reset(frame.Reason{Code: frame.Closed, Sentence: "the client was stopped"})
		if f := client.Explain(<-ended); f.Code != frame.Closed {
			t.Errorf("%s: the appliance hears %+v", mode, f)
		}
		flow, _ = begin()
		stop()
		_, err := flow.Read(hello)
		if f := client.Explain(err); f.Code != frame.Lost || f.Exit() != 17 || !strings.Contains(f.Sentence, "the agent has ended") {
			t.Errorf("%s: the command hears %+v", mode, f)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: the appliance hears that all is well", mode)
		}
		flow.Close()
	}
}

// What breaks the agent's session is told to the command, and the next command gets a new session.
func TestAgentSessionLost(t *testing.T) {
	for _, mode := range modes {
		first := clienttest.Start(t, clienttest.Config{})
		home := signedIn(t, first)
		running(t, &client.Agent{Home: home, Version: "v1"})
		flow, _, err := viaAgent(t, home, client.Options{Transport: mode}).Open(t.Context(), echo("echo"), nil)
		if err != nil {
			t.Fatal(err)
		}
		first.Stop()
		_, err = flow.Read(make([]byte, 1))
		if f := client.Explain(err); f.Code != frame.Lost || strings.Contains(f.Sentence, "agent") {
			t.Errorf("%s: %+v", mode, f)
		}
		flow.Close()
		clienttest.Start(t, clienttest.Config{After: first})
		for range 3 {
			if err := client.Proxy(t.Context(), viaAgent(t, home, client.Options{Transport: mode}), echo("echo"), strings.NewReader("x"), io.Discard); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		}
	}
}

// The agent goes by what Home says now.
func TestAgentSignIn(t *testing.T) {
	for _, store := range []string{client.KeyFile, client.KeyKeychain} {
		t.Run(store, func(t *testing.T) {
			a := clienttest.Start(t, clienttest.Config{})
			home, _ := client.OpenHome(filepath.Join(t.TempDir(), "home"))
			home = client.WithKeychain(home, &client.FakeKeychain{})
			login := func() *client.Profile {
				p, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, Code: clienttest.Code, CAFile: a.CAFile, KeyStore: store})
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			p := login()
			running(t, &client.Agent{Home: home, Version: "v1"})
			device := func() string {
				me, err := client.NewAPI(viaAgent(t, home, client.Options{})).Me(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return me.Device
			}
			if got := device(); got != p.Device {
				t.Errorf("device %s, not %s", got, p.Device)
			}
			again := login()
			if got := device(); got != again.Device || got == p.Device {
				t.Errorf("after another login the device is %s, not %s", got, again.Device)
			}
			d := viaAgent(t, home, client.Options{})
			if err := home.Forget(p.Name); err != nil {
				t.Fatal(err)
			}
			_, _, err := d.Open(t.Context(), echo("echo"), nil)
			if f := client.Explain(err); f.Exit() != 10 {
				t.Errorf("signed out: %+v", f)
			}
		})
	}
}

func TestAgentSocket(t *testing.T) {
	home := signedIn(t, clienttest.Start(t, clienttest.Config{}))
	running(t, &client.Agent{Home: home, Version: "v1"})
	for path, want := range map[string]os.FileMode{socketOf(home): 0o600, filepath.Dir(socketOf(home)): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := (&client.Agent{Home: home}).Run(t.Context()); !errors.Is(err, client.ErrAgentRuns) {
		t.Errorf("a second agent: %v", err)
	}
	// Whoever sends rubbish, or nothing, gets nothing and harms nobody.
	for _, rubbish := range []string{"", "\xff\xff", "\x00\x02{}", "\x00\x05[1,2]", "GET / HTTP/1.1\r\n\r\n"} {
		c, err := net.Dial("unix", socketOf(home))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, rubbish)
		c.(*net.UnixConn).CloseWrite()
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if b, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) || len(b) > 200 {
			t.Errorf("%q gets %q, %v", rubbish, b, err)
		}
		c.Close()
	}
	// A folder that others can enter is no place for an agent.
	os.Chmod(filepath.Dir(socketOf(home)), 0o755)
	other, _ := client.OpenHome(home.Dir())
	if err := (&client.Agent{Home: other}).Run(t.Context()); err == nil || errors.Is(err, client.ErrAgentRuns) {
		t.Errorf("in an open folder: %v", err)
	}
	os.Chmod(filepath.Dir(socketOf(home)), 0o700)
}

// After many flows the agent has as many goroutines and open files as before.
func TestAgentLeaks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts open files in /proc")
	}
	a := clienttest.Start(t, clienttest.Config{})
	home := signedIn(t, a)
	running(t, &client.Agent{Home: home, Version: "v1"})
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	flows := func(mode transport.Mode, n int) {
		d := viaAgent(t, home, client.Options{Transport: mode})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range n / 10 {
					if err := client.Proxy(t.Context(), d, echo("echo"), strings.NewReader("hello"), io.Discard); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	for _, mode := range modes[:2] {
		flows(mode, 20)
		time.Sleep(300 * time.Millisecond) // the spares arrive
		goroutines, open := runtime.NumGoroutine(), files()
		flows(mode, 500)
		deadline := time.Now().Add(10 * time.Second)
		for runtime.NumGoroutine() > goroutines+5 || files() > open+3 {
			if time.Now().After(deadline) {
				t.Errorf("%s: %d goroutines, then %d; %d files, then %d", mode, goroutines, runtime.NumGoroutine(), open, files())
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}
