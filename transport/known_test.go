package transport_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"sallyport/transport"
)

// TestKnown: an answer may take longer than strangers have, and takes no stranger's place, once it is known who asks.
func TestKnown(t *testing.T) {
	const login = time.Second
	cert := transport.SelfSigned(t)
	asked := make(chan struct{}, 2)
	server := &transport.Server{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Login:       login,
		MaxPending:  1,
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			if r.URL.Path == "/known" {
				transport.Known(r)
			}
			asked <- struct{}{}
			io.WriteString(w, "begun ")
			http.NewResponseController(w).Flush()
			time.Sleep(3*login + login/2)
			io.WriteString(w, "and ended")
		}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.ServeHTTPS(ctx, l); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	get := func(path string) (string, error) {
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: time.Minute}
		resp, err := hc.Get("https://" + l.Addr().String() + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	var known sync.WaitGroup
	known.Go(func() {
		if got, err := get("/known"); got != "begun and ended" || err != nil {
			t.Errorf("somebody known: %q, %v", got, err)
		}
	})
	<-asked // and has the one place no more
	if got, err := get("/unknown"); got != "begun " || err == nil {
		t.Errorf("a stranger: %q, %v", got, err)
	}
	known.Wait()
}
