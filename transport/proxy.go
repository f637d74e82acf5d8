package transport

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"sallyport/frame"
)

// tcpPatience is how long a TCP connection may take to stand.
const tcpPatience = 10 * time.Second

// dialTCP connects to the appliance, through the environment's proxy where it names one.
func (c *Client) dialTCP(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpPatience)
	defer cancel()
	var d net.Dialer
	var proxy *url.URL
	if c.Proxy != nil {
		var err error
		if proxy, err = c.Proxy(&url.URL{Scheme: "https", Host: c.Address}); err != nil {
			return nil, fmt.Errorf("read the proxy's name: %w", err)
		}
	}
	if proxy == nil {
		conn, err := d.DialContext(ctx, "tcp", c.Address)
		if err != nil && timedOut(err) {
			err = errors.New("no answer")
		}
		return conn, err
	}
	address := proxy.Host
	if proxy.Port() == "" {
		address = net.JoinHostPort(proxy.Hostname(), "80")
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, proxyError("E_PROXY", fmt.Sprintf("the proxy %s was not reached: %v", address, plainly(err)))
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := connectThrough(conn, c.Address, proxy); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connectThrough asks a proxy for a connection to address (RFC 9110 §9.3.6).
func connectThrough(conn net.Conn, address string, proxy *url.URL) error {
	request := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request += "Proxy-Authorization: Basic " + credentials + "\r\n"
	}
	if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	// A proxy says nothing of its own after its answer, and the appliance waits for us: no byte is read too many.
	r := bufio.NewReaderSize(conn, 4<<10)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil:
		return proxyError("E_PROXY", fmt.Sprintf("the proxy %s gave no answer that is HTTP", proxy.Host))
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return &frame.SessionError{Reason: frame.Reason{Code: "E_PROXY_AUTH",
			Sentence: fmt.Sprintf("the proxy %s wants a user name and a password", proxy.Host),
			Hint:     "put them into HTTPS_PROXY, as http://user:password@" + proxy.Host}}
	case resp.StatusCode != http.StatusOK:
		return proxyError("E_PROXY", fmt.Sprintf("the proxy %s does not connect to %s: %s", proxy.Host, address, frame.Clip(resp.Status, 80)))
	case r.Buffered() > 0:
		return proxyError("E_PROXY", fmt.Sprintf("the proxy %s says more than HTTP allows", proxy.Host))
	}
	return nil
}

// plainly is what the system said, without the names and addresses that the sentence around it has.
func plainly(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	if timedOut(err) {
		return errors.New("no answer")
	}
	return err
}

// timedOut says whether err is that time ran out: by the context, or by the socket's deadline that follows from it.
func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func proxyError(code frame.Code, sentence string) error {
	return &frame.SessionError{Reason: frame.Reason{Code: code, Sentence: sentence, Hint: "check HTTPS_PROXY and NO_PROXY"}}
}
