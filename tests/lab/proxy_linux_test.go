package lab

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestHTTPProxy(t *testing.T) {
	l := New(t)
	echo(t, l.Appliance, ":443")
	p := l.HTTPProxy(l.Router, "ann", "word")
	for _, tt := range []struct {
		header string
		want   int
	}{
		{"", http.StatusProxyAuthRequired},
		{"Proxy-Authorization: Basic YW5uOndyb25n\r\n", http.StatusProxyAuthRequired},
		{"Proxy-Authorization: Basic YW5uOndvcmQ=\r\n", http.StatusOK},
	} {
		c, err := l.Client.DialContext(t.Context(), "tcp", p.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(c, "CONNECT 10.77.2.2:443 HTTP/1.1\r\nHost: 10.77.2.2:443\r\n%s\r\nword", tt.header)
		r := bufio.NewReader(c)
		response, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
		if err != nil || response.StatusCode != tt.want {
			t.Errorf("%q: %v, %v", tt.header, response, err)
			continue
		}
		if tt.want != http.StatusOK {
			continue
		}
		c.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(r); string(got) != "word" || err != nil {
			t.Errorf("through the proxy: %q, %v", got, err)
		}
	}
	if got := p.Asked(); !slices.Equal(got, []string{"10.77.2.2:443"}) {
		t.Errorf("asked: %v", got)
	}
}
