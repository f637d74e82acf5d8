package main

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"
)

// ntpServer answers by RFC 5905 §7.3 on loopback, with a clock that is ahead by some time, until the test ends.
func ntpServer(t *testing.T, ahead time.Duration, spoil func(answer []byte)) (address string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1<<10)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			a := make([]byte, 48)
			a[0] = 4<<3 | 4                                              // version 4, server
			a[1], a[2], a[3] = 2, 6, 0xec                                // stratum, poll, precision
			copy(a[12:], []byte{192, 0, 2, 1})                           // whom it has its time from
			binary.BigEndian.PutUint64(a[16:], ntpTime(ahead-time.Hour)) // when its clock was set
			copy(a[24:], b[40:48])
			binary.BigEndian.PutUint64(a[32:], ntpTime(ahead))
			binary.BigEndian.PutUint64(a[40:], ntpTime(ahead))
			if spoil != nil {
				spoil(a)
			}
			c.WriteTo(a, from)
		}
	}()
	return c.LocalAddr().String()
}

// ntpTime is a time from now as NTP writes it: seconds since 1900 with 32 bits of fraction.
func ntpTime(d time.Duration) uint64 {
	now := time.Now().Add(d)
	return uint64(now.Unix()+2_208_988_800)<<32 | uint64(now.Nanosecond())<<32/1e9
}

func TestTimeServers(t *testing.T) {
	const silent = "127.0.0.1:9"
	right := func() string { return ntpServer(t, 0, nil) }
	ahead := func(d time.Duration) string { return ntpServer(t, d, nil) }
	unset := ntpServer(t, 0, func(a []byte) { a[0] |= 3 << 6 }) // its clock is not synchronized
	kiss := ntpServer(t, 0, func(a []byte) { a[1] = 0; copy(a[12:], "RATE") })
	forged := ntpServer(t, time.Hour, func(a []byte) { a[24] ^= 1 }) // by somebody who has not seen the question
	for name, test := range map[string]struct {
		servers []string
		offset  time.Duration
		n       int
		fault   string
	}{
		"one":                   {[]string{ahead(5 * time.Minute)}, 5 * time.Minute, 1, ""},
		"one behind":            {[]string{ahead(-time.Hour)}, -time.Hour, 1, ""},
		"one of three lies":     {[]string{right(), ahead(24 * time.Hour), right()}, 0, 3, ""},
		"some are away":         {[]string{silent, ahead(time.Minute), unset, kiss, forged}, time.Minute, 1, ""},
		"two that disagree":     {[]string{right(), ahead(time.Hour)}, 0, 2, "the servers disagree"},
		"four that disagree":    {[]string{right(), right(), ahead(time.Hour), ahead(time.Hour)}, 0, 4, "the servers disagree"},
		"none that answers":     {[]string{silent, unset}, 0, 0, "127.0.0.1:9"},
		"none whose clock runs": {[]string{unset}, 0, 0, "leap"},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask{servers: test.servers, timeout: time.Second, dial: new(net.Dialer).DialContext}
			offset, n, err := a.offset(t.Context())
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) || n != test.n {
					t.Errorf("%v of %d servers, %v", offset, n, err)
				}
				return
			}
			if off := offset - test.offset; err != nil || n != test.n || off > 100*time.Millisecond || off < -100*time.Millisecond {
				t.Errorf("%v of %d servers, %v", offset, n, err)
			}
		})
	}
}

func TestTimeServersAreGivenUp(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a := ask{servers: []string{silent.LocalAddr().String()}, timeout: time.Minute, dial: new(net.Dialer).DialContext}
	begin := time.Now()
	if _, _, err := a.offset(ctx); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestWithPort(t *testing.T) {
	for host, want := range map[string]string{
		"ntp.example": "ntp.example:123", "ntp.example:1123": "ntp.example:1123", "192.0.2.1": "192.0.2.1:123",
		"2001:db8::1": "[2001:db8::1]:123", "[2001:db8::1]:1123": "[2001:db8::1]:1123",
	} {
		if got := withPort(host, "123"); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}
