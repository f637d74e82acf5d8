package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddyserver/certmagic"
)

// fakeOutlet knows some names, and writes down what is asked of it.
type fakeOutlet struct {
	names   map[string][]netip.Addr
	answers netip.Addr // the one address that takes connections
	asked   []string
	dialled []netip.AddrPort
}

func (f *fakeOutlet) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	f.asked = append(f.asked, host)
	if addrs := f.names[host]; addrs != nil {
		return addrs, nil
	}
	return nil, errors.New("no such host")
}

func (f *fakeOutlet) dialOwn(_ context.Context, _ string, to netip.AddrPort) (net.Conn, error) {
	f.dialled = append(f.dialled, to)
	if to.Addr() != f.answers {
		return nil, errors.New("refused")
	}
	c, _ := net.Pipe()
	return c, nil
}

// TestUplink: the uplink leads to the hosts that it was told of, by their own ports, and to nothing else.
func TestUplink(t *testing.T) {
	addr := netip.MustParseAddr
	for _, test := range []struct {
		what, dial string
		dialled    []string
		works      bool
	}{
		{"a known host", "ca.example:443", []string{"10.1.0.1:443"}, true},
		{"a port of its own", "ca.example:14000", []string{"10.1.0.1:14000"}, true},
		{"another port", "ca.example:22", nil, false},
		{"another host", "db.example:443", nil, false},
		{"an address of a known host", "10.1.0.1:443", nil, false},
		{"a host without http", "plain.example:80", nil, false},
		{"the second address", "two.example:443", []string{"10.1.0.9:443", "10.1.0.1:443"}, true},
		{"addresses that none may reach", "bad.example:443", nil, false},
		{"a name that is not there", "gone.example:443", nil, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			f := &fakeOutlet{answers: addr("10.1.0.1"), names: map[string][]netip.Addr{
				"ca.example":  {addr("10.1.0.1")},
				"two.example": {addr("10.1.0.9"), addr("::ffff:10.1.0.1")},
				"bad.example": {addr("169.254.169.254"), addr("127.0.0.1"), addr("::1")},
				"db.example":  {addr("10.1.0.1")},
			}}
			u := &uplink{hosts: map[string]bool{}, outlet: func() outlet { return f }}
			u.allow("https://ca.example/dir", "https://ca.example:14000/dir", "", "nonsense", "http://plain.example/")
			u.allow("https://two.example", "https://bad.example", "https://gone.example")
			c, err := u.transport().DialContext(t.Context(), "tcp", test.dial)
			if (err == nil) != test.works {
				t.Error(err)
			}
			if c != nil {
				c.Close()
			}
			var dialled []string
			for _, d := range f.dialled {
				dialled = append(dialled, d.String())
			}
			if !slices.Equal(dialled, test.dialled) {
				t.Errorf("dialled %v, want %v", dialled, test.dialled)
			}
			if host, _, _ := net.SplitHostPort(test.dial); len(f.asked) > 0 && f.asked[0] != host {
				t.Errorf("asked for %v", f.asked)
			}
		})
	}
}

// TestAccountKey: an account's key is made once.
func TestAccountKey(t *testing.T) {
	a := &authority{storage: &certmagic.FileStorage{Path: t.TempDir()}}
	where := filepath.Join("acme", "ca", "accounts", "nobody.key")
	var keys [2][]byte
	for i := range keys {
		key, err := a.key(t.Context(), where)
		if err != nil {
			t.Fatal(err)
		}
		if keys[i], err = certmagic.PEMEncodePrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(keys[0], keys[1]) {
		t.Error("the second key is another")
	}
}
