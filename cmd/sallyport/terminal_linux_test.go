package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"sallyport/client/clienttest"
)

// terminals returns a terminal and what the person at it types on and sees.
func terminals(t *testing.T) (person, tty *os.File) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { person.Close(); tty.Close() })
	return person, tty
}

// watched is a buffer that can be waited for.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *watched) await(t *testing.T, text string) {
	t.Helper()
	for range 500 {
		if strings.Contains(w.String(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%q did not come; there is %q", text, w.String())
}

func TestProxyByHand(t *testing.T) {
	_, tty := terminals(t)
	env := environment(t.TempDir())
	var stderr watched
	env.Args, env.Stdin, env.Stderr = []string{"proxy", "db-09:22"}, tty, &stderr
	const want = "sallyport: this is for ssh's ProxyCommand\nsallyport: hint: try: sallyport ssh db-09\n"
	if got := run(t.Context(), env); got != 2 || stderr.String() != want {
		t.Errorf("status %d, stderr %q", got, stderr.String())
	}
}

// TestProgress: a terminal shows what is being measured, one thing in the place of the other, and nothing of it in the end.
func TestProgress(t *testing.T) {
	env, _ := person(t)
	person, tty := terminals(t)
	var seen watched
	var watching sync.WaitGroup
	watching.Go(func() { io.Copy(&seen, person) })
	env.Args, env.Stderr = []string{"bench", "--time", "100ms", "--transport", "https"}, tty
	if got := run(t.Context(), env); got != 0 {
		t.Errorf("status %d", got)
	}
	tty.Close()
	watching.Wait()
	screen := "\r" + seen.String()
	for _, want := range []string{"\rhttps: connecting\r", "\rhttps: round trips\r", "\rhttps: down\r           \rhttps: up\r"} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is not in %q", want, screen)
		}
	}
	if !strings.HasSuffix(screen, "\rhttps: up\r         \r") || strings.Contains(screen, "\n") {
		t.Errorf("left: %q", screen)
	}
}

func TestCodeByPrompt(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	person, tty := terminals(t)
	env := environment(filepath.Join(t.TempDir(), "home"))
	var stderr watched
	env.Stdin, env.Stderr = tty, &stderr
	_, status := started(env, "login", a.Address, "--ca", a.CAFile)
	stderr.await(t, "enrolment code: ")
	time.Sleep(50 * time.Millisecond) // until echo is off, which nothing shows
	io.WriteString(person, clienttest.Code+"\n")
	if got := <-status; got != 0 {
		t.Errorf("status %d, stderr %q", got, stderr.String())
	}
	io.WriteString(tty, "end")
	seen := make([]byte, 1000)
	n, _ := person.Read(seen)
	if got := string(seen[:n]); strings.Contains(got, clienttest.Code) {
		t.Errorf("the terminal showed %q", got)
	}
}

func TestPromptInterrupted(t *testing.T) {
	person, tty := terminals(t)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	a := clienttest.Start(t, clienttest.Config{})
	env := environment(t.TempDir())
	var stderr watched
	env.Stdin, env.Stderr = tty, &stderr
	cancel, status := started(env, "login", a.Address, "--ca", a.CAFile)
	stderr.await(t, "enrolment code: ")
	time.Sleep(50 * time.Millisecond)
	cancel()
	if got := <-status; got != 130 {
		t.Errorf("status %d", got)
	}
	after, err := term.GetState(int(tty.Fd()))
	if err != nil || *before != *after {
		t.Errorf("the terminal is left changed: %v", err)
	}
	io.WriteString(person, "\n") // lets the reader go
}
