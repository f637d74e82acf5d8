package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"sallyport/client/clienttest"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"sallyport": main}) }

// The scripts run the program as people do. Their surroundings: $ADDR, $CA and $PIN of an appliance, $URL of a web server, $SALLYPORT_HOME,
// a file "code", and the commands
//
//	exits N program args…   runs a program that must end with status N
//	opened TEXT             the latest request for a flow that is not the API's was TEXT; nothing: there was none
func TestScripts(t *testing.T) {
	hostKey, server := sshServer(t)
	config := clienttest.Config{HostKeys: []string{hostKey}, Serve: map[string]func(net.Conn){"pinned": server, "shell": server}}
	type ours struct{} // the key of a script's appliance
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			a := clienttest.Start(t, config)
			env.Values[ours{}] = a
			env.Setenv("ADDR", a.Address)
			env.Setenv("PORT", a.Address[strings.LastIndexByte(a.Address, ':')+1:])
			env.Setenv("CA", a.CAFile)
			env.Setenv("PIN", a.Fingerprint)
			env.Setenv("HOSTKEY", hostKey)
			env.Setenv("SALLYPORT_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SALLYPORT_NO_AGENT", "1")
			env.Setenv("PROXY", connectProxy(t, a.Address))
			env.Setenv("URL", files(t, env.WorkDir))
			return os.WriteFile(filepath.Join(env.WorkDir, "code"), []byte(clienttest.Code+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, _ := strconv.Atoi(args[0])
				got := 0
				err := ts.Exec(args[1], args[2:]...)
				var exit *exec.ExitError
				switch {
				case errors.As(err, &exit):
					got = exit.ExitCode()
				case err != nil:
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("exit status %d, not %d; stderr: %s", got, want, ts.ReadFile("stderr"))
				}
			},
			"opened": func(ts *testscript.TestScript, _ bool, args []string) {
				last := "nothing"
				for _, o := range ts.Value(ours{}).(*clienttest.Appliance).Opened() {
					if o.Protocol != "api" {
						last = fmt.Sprintf("%s %s:%d", o.Protocol, o.Target, o.Port)
					}
				}
				if want := strings.Join(args, " "); last != want {
					ts.Fatalf("opened %s, not %s", last, want)
				}
			},
		},
	})
}

// files is a web server of a script's files.
func files(t *testing.T, folder string) string {
	s := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(s.Close)
	return s.URL
}

// connectProxy is an HTTP proxy that connects to the appliance when bastion.invalid is asked for, by a user with a
// password.
func connectProxy(t *testing.T, address string) string {
	var conns sync.WaitGroup
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("ann:secret")):
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		case r.Method != http.MethodConnect || r.Host != "bastion.invalid:8443":
			w.WriteHeader(http.StatusForbidden)
			return
		}
		far, err := net.Dial("tcp", address)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		near, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			far.Close()
			return
		}
		pour := func(to io.Writer, from io.Reader) {
			io.Copy(to, from)
			near.Close()
			far.Close()
		}
		conns.Go(func() { pour(near, far) })
		conns.Go(func() { pour(far, buffered.Reader) }) // which the server may have begun to read
	}))
	t.Cleanup(func() {
		p.Close()
		conns.Wait()
	})
	return p.Listener.Addr().String()
}

// sshServer serves SSH: it lets everybody in, prints the command that is to be run, copies stdin, and ends with status 7.
func sshServer(t *testing.T) (hostKey string, serve func(net.Conn)) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), func(c net.Conn) {
		_, channels, requests, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		for open := range channels {
			channel, requests, err := open.Accept()
			if err != nil {
				return
			}
			for r := range requests {
				var command struct{ Line string }
				r.Reply(r.Type == "exec", nil)
				if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
					continue
				}
				fmt.Fprintf(channel, "ran %s\n", command.Line)
				io.Copy(channel, channel)
				channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{7}))
				channel.Close()
			}
		}
	}
}
