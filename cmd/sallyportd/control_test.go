package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/appliance"
	"sallyport/appliance/api"
	"sallyport/appliance/config"
)

// askSomebody asks for a code at a socket that answers so.
func askSomebody(t *testing.T, status int, body string) (enrolAnswer, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return askForCode(t.Context(), &config.Config{State: dir}, api.AskCode{User: "ann", Valid: appliance.CodeLife})
}

func TestAnswersOfADaemon(t *testing.T) {
	const code = "7K3M-9QXA-0B2D-VWYZ"
	pin := strings.Repeat("0a", 32)
	answer := func(code, pin, listen string) string {
		return fmt.Sprintf(`{"code":%q,"fingerprint":%q,"listen":%q,"pinned":true}`, code, pin, listen)
	}
	for _, listen := range []string{":443", "0.0.0.0:8443", "[::]:443", "[fe80::1%eth0]:443", "bastion.example:https"} {
		for _, pin := range []string{pin, ""} {
			if a, err := askSomebody(t, 200, answer(code, pin, listen)); err != nil || a != (enrolAnswer{code, pin, listen, true}) {
				t.Errorf("%s: %+v, %v", listen, a, err)
			}
		}
	}
	for _, bad := range []string{
		answer("x; curl evil", pin, ":443"), answer(code+"\n"+code, pin, ":443"), answer("", pin, ":443"),
		answer(code, "$(touch X)", ":443"), answer(code, pin[:63]+"\n", ":443"), answer(code, strings.ToUpper(pin), ":443"),
		answer(code, pin, "$(touch X):443"), answer(code, pin, "bastion.example:443 --code-file x"), answer(code, pin, "bastion.example"),
		answer(code, pin, "a:443\n"), answer(code, pin, ""), `{"code":"` + code + `","listen":"\u001b[2J:443"}`, `{}`, `x`, ``,
		answer(code, pin, strings.Repeat("a", 5000)+":443"),
	} {
		if a, err := askSomebody(t, 200, bad); err == nil || a != (enrolAnswer{}) {
			t.Errorf("%q: %+v, %v", bad, a, err)
		} else if strings.ContainsAny(err.Error(), "\x1b\n$") {
			t.Errorf("%q: %q", bad, err)
		}
	}
	_, err := askSomebody(t, 400, `{"error":"no such user \u001b[2J\u202e\nroot#"}`)
	if err == nil || err.Error() != "no such user ?[2J??root#" {
		t.Errorf("got %q", err)
	}
}
