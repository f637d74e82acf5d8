package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/auth"
	"sallyport/host"
	"sallyport/transport"
)

// TestSelfTest: of a daemon that answers, one that answers wrongly, and one whose listener nobody accepts on.
func TestSelfTest(t *testing.T) {
	cert, err := auth.SelfSigned(t.TempDir(), []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	well := new(daemon).pages()
	for name, test := range map[string]struct {
		pages http.Handler // nil: nobody accepts
		fault string
	}{
		"well":          {well, ""},
		"wrong answer":  {http.NotFoundHandler(), "404"},
		"does not tell": {http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "listener"},
		"no answer":     {nil, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{log: slog.New(slog.DiscardHandler)}
			server := &transport.Server{HTTP: test.pages, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
			d.server.Store(server)
			var wg sync.WaitGroup
			defer wg.Wait()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if test.pages != nil {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { server.ServeHTTPS(ctx, l) })
			}
			testing, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := (&tester{daemon: d, trouble: func() error { return nil }}).test(testing)
			if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault) || errors.Is(err, host.ErrTrouble)) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A full disk, or one that stalls for half a minute, is no reason for another worker.
func TestSelfTestOfTheAuditLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space left on device")
		x := &tester{trouble: func() error { return full }}
		if err := x.askTrail(); !errors.Is(err, host.ErrTrouble) || !errors.Is(err, full) {
			t.Errorf("a full disk: %v", err)
		}
		stalled := make(chan error)
		x.trouble = func() error { return <-stalled }
		for begin := time.Now(); time.Since(begin) < 55*time.Second; {
			if err := x.askTrail(); !errors.Is(err, host.ErrTrouble) {
				t.Fatalf("a disk that stalls: %v", err)
			}
		}
		time.Sleep(10 * time.Second)
		if err := x.askTrail(); !errors.Is(err, errTrailStuck) || errors.Is(err, host.ErrTrouble) {
			t.Errorf("a disk that is stuck: %v", err)
		}
		stalled <- nil
		if err := x.askTrail(); err != nil {
			t.Errorf("a disk that goes on: %v", err)
		}
	})
}
