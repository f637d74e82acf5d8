// Package chromium is a real browser with one page, for tests: Debian's Chromium, driven by its DevTools protocol over a pipe.
//
//	b := chromium.New(t)
//	b.Call("Page.navigate", map[string]any{"url": address})
//	b.Sees("Sign in")
//	title := b.Run("document.title")
package chromium

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A Browser is used by one goroutine.
type Browser struct {
	t       testing.TB
	in      io.Writer
	pipe    *os.File // out reads it
	out     *bufio.Reader
	id      int
	session string
	said    []string // by the page, on its console
}

// patience is for the answer to one command.
const patience = 2 * time.Minute

// New starts a browser that ends with the test. Where there is none the test is skipped, but for root, whose machine has all
// that is tested with.
func New(t testing.TB) *Browser {
	t.Helper()
	return In(t, exec.CommandContext)
}

// In is New by another way to start a command, such as one in a network namespace, and with more flags.
func In(t testing.TB, command func(ctx context.Context, name string, args ...string) *exec.Cmd, flags ...string) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	hear, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--ignore-certificate-errors",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--no-proxy-server", "--remote-debugging-pipe", "--user-data-dir=" + t.TempDir()}
	cmd := command(context.Background(), path, append(append(args, flags...), "about:blank")...)
	cmd.ExtraFiles = []*os.File{hear, say} // 3 and 4, where it looks for them
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hear.Close()
	say.Close()
	b := &Browser{t: t, in: in, pipe: out, out: bufio.NewReaderSize(out, 1<<20)}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range b.said[max(0, len(b.said)-40):] {
				t.Log("page: ", line)
			}
		}
		b.session = ""
		b.Call("Browser.close", nil)
		cmd.Wait()
		in.Close()
		out.Close()
	})
	var target struct{ TargetID string }
	b.Into(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	b.Into(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	b.session = attached.SessionID
	b.Call("Page.enable", nil)
	b.Call("Runtime.enable", nil)
	return b
}

// Try sends one command and returns its result, or why the browser refused it.
func (b *Browser) Try(method string, params any) (json.RawMessage, error) {
	b.t.Helper()
	b.id++
	if params == nil {
		params = struct{}{}
	}
	ask := map[string]any{"id": b.id, "method": method, "params": params}
	if b.session != "" {
		ask["sessionId"] = b.session
	}
	text, err := json.Marshal(ask)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	b.pipe.SetReadDeadline(time.Now().Add(patience))
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var said struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &said); err != nil {
			b.t.Fatal(err)
		}
		if said.Method == "Runtime.consoleAPICalled" || said.Method == "Runtime.exceptionThrown" {
			b.said = append(b.said, string(said.Params[:min(len(said.Params), 600)]))
		}
		if said.ID != b.id {
			continue // an event
		}
		if said.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, said.Error.Message)
		}
		return said.Result, nil
	}
}

// Call sends one command and returns its result.
func (b *Browser) Call(method string, params any) json.RawMessage {
	b.t.Helper()
	result, err := b.Try(method, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// Into is Call, and decodes the result.
func (b *Browser) Into(v any, method string, params any) {
	b.t.Helper()
	if err := json.Unmarshal(b.Call(method, params), v); err != nil {
		b.t.Fatal(err)
	}
}

// Go goes to a page, and returns before it is there.
func (b *Browser) Go(url string) { b.Call("Page.navigate", map[string]any{"url": url}) }

// Run has the page run a script, waits for its promise if it is one, and returns its value as text.
func (b *Browser) Run(script string) string {
	b.t.Helper()
	text, err := b.TryRun(script)
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// TryRun is Run, and reports that the page went away while the script ran.
func (b *Browser) TryRun(script string) (string, error) {
	b.t.Helper()
	result, err := b.Try("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true})
	if err != nil {
		return "", err
	}
	var said struct{ Result struct{ Value any } }
	err = json.Unmarshal(result, &said)
	return fmt.Sprint(said.Result.Value), err
}

// Until waits until a script's value is true.
func (b *Browser) Until(script string, patience time.Duration) {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if value, err := b.TryRun(script); err == nil && value == "true" {
			return
		}
	}
	b.t.Fatalf("after %v it is not so that %s", patience, script)
}

// Sees waits until the page says something. The page that is looked at may be on its way to another.
func (b *Browser) Sees(text string) {
	b.t.Helper()
	var page string
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if page, err = b.TryRun("document.readyState === 'complete' ? document.body.innerText : ''"); err == nil && strings.Contains(page, text) {
			return
		}
	}
	b.t.Fatalf("the page does not say %q at %s (%v):\n%s", text, b.Run("location.href"), err, page)
}
