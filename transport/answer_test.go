package transport_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/transport"
)

// TestSlowAnswer: an answer of HTTP has a stranger's time, and more where its writer says so.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	const login = time.Second // so a stranger is gone after three
	cert := transport.SelfSigned(t)
	ends := make(chan error, 1)
	server := &transport.Server{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Login:       login,
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			if r.URL.Path == "/known" {
				until := time.Now().Add(time.Minute)
				rc.SetReadDeadline(until)
				rc.SetWriteDeadline(until)
			}
			io.WriteString(w, "begun ")
			rc.Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(4 * login):
			}
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			ends <- err
		}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := server.ServeHTTPS(ctx, l); err != nil {
			t.Error(err)
		}
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for path, whole := range map[string]bool{"/known": true, "/stranger": false} {
		resp, err := client.Get("https://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(path, err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		wrote := <-ends
		if got := err == nil && len(b) == 6+1<<20; got != whole {
			t.Errorf("%s: %d bytes, %v; the writer met %v", path, len(b), err, wrote)
		}
	}
}
