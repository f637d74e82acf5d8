// Package chromium drives a real browser by its DevTools protocol, over a pipe.
//
//	c := chromium.Start(t)
//	c.Go("http://127.0.0.1:8080/")
//	title := c.Run("document.title")
package chromium

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A Browser is a Chromium with one page.
type Browser struct {
	t       testing.TB
	in      io.Writer
	out     *bufio.Reader
	id      int
	session string
	said    []string // by the page, on its console
}

// Start starts a browser that lives as long as the test.
func Start(t testing.TB) *Browser {
	t.Helper()
	return StartIn(t, exec.CommandContext)
}

// StartIn is Start by another way to start a command, such as one in a network namespace, and with more flags.
func StartIn(t testing.TB, command func(ctx context.Context, name string, args ...string) *exec.Cmd, flags ...string) *Browser {
	t.Helper()
	hear, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--remote-debugging-pipe",
		"--user-data-dir=" + t.TempDir()}
	cmd := command(context.Background(), "chromium", append(append(args, flags...), "about:blank")...)
	cmd.ExtraFiles = []*os.File{hear, say} // 3 and 4, where it looks for them
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hear.Close()
	say.Close()
	b := &Browser{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
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
	out.SetReadDeadline(time.Now().Add(5 * time.Minute))
	var target struct{ TargetID string }
	b.into(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	b.into(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	b.session = attached.SessionID
	b.Call("Page.enable", nil)
	b.Call("Runtime.enable", nil)
	return b
}

// Call sends one command and returns its result.
func (b *Browser) Call(method string, params any) json.RawMessage {
	b.t.Helper()
	b.id++
	if params == nil {
		params = struct{}{}
	}
	text, err := json.Marshal(map[string]any{"id": b.id, "method": method, "params": params, "sessionId": b.session})
	if b.session == "" {
		text, err = json.Marshal(map[string]any{"id": b.id, "method": method, "params": params})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
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
		switch {
		case said.Method == "Runtime.consoleAPICalled", said.Method == "Runtime.exceptionThrown":
			b.said = append(b.said, string(said.Params[:min(len(said.Params), 600)]))
			continue
		case said.ID != b.id:
			continue
		case said.Error != nil:
			b.t.Fatalf("%s: %s", method, said.Error.Message)
		}
		return said.Result
	}
}

func (b *Browser) into(v any, method string, params any) {
	b.t.Helper()
	if err := json.Unmarshal(b.Call(method, params), v); err != nil {
		b.t.Fatal(err)
	}
}

// Go goes to a page, and returns before it is there.
func (b *Browser) Go(url string) { b.Call("Page.navigate", map[string]any{"url": url}) }

// Run has the page run a script, waits for it, and returns its value as text.
func (b *Browser) Run(script string) string {
	b.t.Helper()
	var said struct{ Result struct{ Value any } }
	b.into(&said, "Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true})
	return fmt.Sprint(said.Result.Value)
}
