package netstack

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/netstack/link"
)

// spellings are ways to say where nobody may go. An empty reason means that the spelling itself is refused.
var spellings = []struct {
	host   string
	reason Reason
}{
	// metadata services
	{"169.254.169.254", Metadata},
	{"169.254.169.254.", Metadata},
	{"169.254.169.254..", Metadata},
	{"2852039166", Metadata},
	{"2852039166.", Metadata},
	{"0xA9FEA9FE", Metadata},
	{"0Xa9fea9fe", Metadata},
	{"0x00000000A9FEA9FE", Metadata},
	{"025177524776", Metadata},
	{"0000000025177524776", Metadata},
	{"0251.0376.0251.0376", Metadata},
	{"00251.000376.0000251.0376", Metadata},
	{"0xa9.0xfe.0xa9.0xfe", Metadata},
	{"0xA9.0xFE.0xA9.0xFE.", Metadata},
	{"169.254.43518", Metadata},
	{"169.16689662", Metadata},
	{"0xa9.254.43518", Metadata},
	{"0xa9.0376.0251.254", Metadata},
	{"169.0xfea9fe", Metadata},
	{"169.0376.0xa9fe", Metadata},
	{"0251.0xfe.169.0376", Metadata},
	{"[169.254.169.254]", Metadata},
	{"[::ffff:169.254.169.254]", Metadata},
	{"::ffff:169.254.169.254", Metadata},
	{"::ffff:a9fe:a9fe", Metadata},
	{"::FFFF:A9FE:A9FE", Metadata},
	{"0:0:0:0:0:ffff:a9fe:a9fe", Metadata},
	{"0000:0000:0000:0000:0000:ffff:a9fe:a9fe", Metadata},
	{"::169.254.169.254", Metadata},
	{"::a9fe:a9fe", Metadata},
	{"::ffff:0:169.254.169.254", Metadata},
	{"64:ff9b::169.254.169.254", Metadata},
	{"64:ff9b::a9fe:a9fe", Metadata},
	{"[64:ff9b::a9fe:a9fe]", Metadata},
	{"64:ff9b:1::a9fe:a9fe", Metadata},
	{"64:ff9b:1:a9fe:a9:fe00::", Unspecified}, // the last 32 bits spell 0.0.0.0
	{"64:ff9b:1:a9fe:a9:fe00:101:101", Metadata},
	{"2002:a9fe:a9fe::", Metadata},
	{"2002:a9fe:a9fe::1", Metadata},
	{"2001:0:a9fe:a9fe::1", Metadata},
	{"2001:0:c633:6401:0:0:5601:5601", Metadata},
	{"fd09::5efe:a9fe:a9fe", Metadata},
	{"fd09::200:5efe:169.254.169.254", Metadata},
	{"fd00:ec2::254", Metadata},
	{"FD00:0EC2::254", Metadata},
	{"fd00:ec2:0:0:0:0:0:254", Metadata},
	{"[fd00:ec2::254]", Metadata},
	{"fd20:ce::254", Metadata},
	{"100.100.100.200", Metadata},
	{"1684301000", Metadata},
	{"fd00:c1::a9fe:a9fe", Metadata},
	{"fd00:c1::169.254.169.254", Metadata},
	{"192.0.0.192", Metadata},
	{"3221225664", Metadata},
	{"::ffff:192.0.0.192", Metadata},
	{"64:ff9b::c000:c0", Metadata},
	// the platform
	{"168.63.129.16", Platform},
	{"0xa83f8110", Platform},
	{"2822734096", Platform},
	{"0250.077.0201.020", Platform},
	{"168.63.33040", Platform},
	{"168.4161808", Platform},
	{"::ffff:168.63.129.16", Platform},
	{"64:ff9b::a83f:8110", Platform},
	{"2002:a83f:8110::", Platform},
	// loopback
	{"127.0.0.1", Loopback},
	{"127.0.0.1.", Loopback},
	{"127.1", Loopback},
	{"127.0.1", Loopback},
	{"127.255.255.254", Loopback},
	{"2130706433", Loopback},
	{"0x7f000001", Loopback},
	{"0x7f.1", Loopback},
	{"0177.0.0.1", Loopback},
	{"0177.1", Loopback},
	{"017700000001", Loopback},
	{"0x7f.0x0.0x0.0x1", Loopback},
	{"::1", Loopback},
	{"[::1]", Loopback},
	{"0:0:0:0:0:0:0:1", Loopback},
	{"::0001", Loopback},
	{"::ffff:127.0.0.1", Loopback},
	{"::ffff:7f00:1", Loopback},
	{"::127.0.0.1", Loopback},
	{"64:ff9b::7f00:1", Loopback},
	{"2002:7f00:1::", Loopback},
	// link-local
	{"169.254.0.1", LinkLocal},
	{"169.254.1", LinkLocal},
	{"fe80::1", LinkLocal},
	{"febf:ffff::1", LinkLocal},
	{"fec0::1", LinkLocal},
	{"::ffff:169.254.7.7", LinkLocal},
	// unspecified and this network
	{"0.0.0.0", Unspecified},
	{"0", Unspecified},
	{"0.0", Unspecified},
	{"0x0", Unspecified},
	{"00", Unspecified},
	{"::", Unspecified},
	{"[::]", Unspecified},
	{"0:0:0:0:0:0:0:0", Unspecified},
	{"::ffff:0.0.0.0", Unspecified},
	{"0.0.0.1", ThisNetwork},
	{"1", ThisNetwork},
	{"0.1.2.3", ThisNetwork},
	{"64:ff9b::", Unspecified},
	// multicast, broadcast, reserved
	{"224.0.0.1", Multicast},
	{"239.255.255.250", Multicast},
	{"0xe0000001", Multicast},
	{"3758096385", Multicast},
	{"ff02::1", Multicast},
	{"ff0e::1234", Multicast},
	{"::ffff:224.0.0.1", Multicast},
	{"255.255.255.255", Broadcast},
	{"4294967295", Broadcast},
	{"0xffffffff", Broadcast},
	{"037777777777", Broadcast},
	{"255.16777215", Broadcast},
	{"240.0.0.1", Reserved},
	{"::10.9.0.2", Reserved},
	{"::ffff:0:10.9.0.2", Reserved},
	{"10.9.0.255", Broadcast}, // of the attached subnet
	{"10.9.0.0", Broadcast},
	{"10.9.255", Broadcast},
	{"0x0a0900ff", Broadcast},
	{"::ffff:10.9.0.255", Broadcast},
	// the appliance itself
	{"10.9.0.1", Own},
	{"10.9.1", Own},
	{"168361985", Own},
	{"012.011.0.01", Own},
	{"::ffff:10.9.0.1", Own},
	{"64:ff9b::10.9.0.1", Own},
	{"2002:a09:1::", Own},
	{"fd09::1", Own},
	{"fd09:0:0:0::1", Own},
	// the configured list
	{"10.9.0.66", Listed},
	{"0x0a090042", Listed},
	{"fd09::66", Listed},
	// outside
	{"10.10.0.1", Outside},
	{"8.8.8.8", Outside},
	{"134744072", Outside},
	{"2001:4860:4860::8888", Outside},
	{"64:ff9b::808:808", Outside},
	// neither address nor name
	{"fe80::1%eth0", ""},
	{"[fe80::1%25eth0]", ""},
	{"fd09::2%1", ""},
	{"10.9.0.2%eth0", ""},
	{"１６９.２５４.１６９.２５４", ""},
	{"169。254。169。254", ""},
	{"169．254．169．254", ""},
	{"169｡254｡169｡254", ""},
	{"①②⑦.⓪.⓪.①", ""},
	{"𝟏𝟐𝟕.𝟎.𝟎.𝟏", ""},
	{"١٢٧.٠.٠.١", ""},
	{"0ｘ7f000001", ""},
	{"1.2.3.4.5", ""},
	{"256.1.1.1", ""},
	{"127.0.0.256", ""},
	{"127.0.65536", ""},
	{"4294967296", ""},
	{"0x100000000", ""},
	{"08.8.8.8", ""},
	{"127.0.0.08", ""},
	{"127..0.1", ""},
	{"0x", ""},
	{"127.0.0.0x", ""},
	{"host.0x7f", ""},
	{"host.127", ""},
	{"127.0.0.1 ", ""},
	{" 127.0.0.1", ""},
	{"127.0.0.1\t", ""},
	{"127.0.0.1\x00", ""},
	{"+127.0.0.1", ""},
	{"127.0.0.1/8", ""},
	{"a@127.0.0.1", ""},
	{"%31%32%37.0.0.1", ""},
	{"::1::", ""},
	{"::ffff:0x7f000001", ""},
	{"::ffff:127.1", ""},
	{"[::1", ""},
	{"", ""},
	{".", ""},
}

func spellingConfig(l link.Link) Config {
	c := nearConfig(l)
	c.Prefixes = prefixes("10.9.0.0/24", "fd09::/64")
	c.Deny = prefixes("10.9.0.66/32", "fd09::66/128")
	return c
}

func TestSpellings(t *testing.T) {
	if len(spellings) < 120 {
		t.Fatalf("only %d", len(spellings))
	}
	var frames atomic.Int64
	a, b := link.Pipe(link.PipeOptions{Tap: func([]byte) { frames.Add(1) }})
	s := newStack(t, spellingConfig(a))
	newStack(t, farConfig(b))
	refuseAll(t, s)
	if n := frames.Load(); n != 0 {
		t.Errorf("%d frames left", n)
	}
	if st := s.Stats(); st.Escaped != 0 || st.Denied == 0 {
		t.Errorf("%+v", st)
	}
}

// refuseAll holds every spelling against the fence and against a dial.
func refuseAll(t *testing.T, s *Stack) {
	for _, sp := range spellings {
		addr, isAddress, err := ParseAddr(sp.host)
		switch {
		case sp.reason == "" && err == nil:
			t.Errorf("%q: accepted as %v, %v", sp.host, addr, isAddress)
		case sp.reason != "" && (!isAddress || err != nil):
			t.Errorf("%q: no address: %v", sp.host, err)
		case sp.reason != "":
			reasoned(t, sp.host, s.Fence().Check(addr), sp.reason)
		}
		network, address := "tcp", net.JoinHostPort(strings.Trim(sp.host, "[]"), "80")
		if _, err := s.DialContext(t.Context(), network, address); err == nil {
			t.Errorf("%q: dialled", sp.host)
		} else if sp.reason != "" {
			reasoned(t, sp.host, err, sp.reason)
		}
	}
}

func reasoned(t *testing.T, host string, err error, want Reason) {
	t.Helper()
	var denied *DeniedError
	if !errors.As(err, &denied) {
		t.Errorf("%q: %v, not denied", host, err)
	} else if denied.Reason != want || denied.Always != (want != Outside) {
		t.Errorf("%q: %v (always %v), want %q", host, err, denied.Always, want)
	}
}

func TestNamesAreNames(t *testing.T) {
	for _, host := range []string{"db-1", "db-1.corp", "a.b.c.", "_sip._tcp.corp", "1db", "10.9.0.2.example", "0x7f.example", "xn--bcher-kva.example", "bücher.example", "deadbeef", "1e3", "0b1", "0o17"} {
		if a, isAddress, err := ParseAddr(host); isAddress || err != nil {
			t.Errorf("%q: %v %v %v", host, a, isAddress, err)
		}
	}
}

func TestFenceAllows(t *testing.T) {
	f := Fence{Prefixes: prefixes("10.9.0.0/24", "fd09::/64"), Own: prefixes("10.9.0.1/24")}
	for _, a := range []string{"10.9.0.2", "10.9.0.254", "::ffff:10.9.0.2", "fd09::2"} {
		if err := f.Check(netip.MustParseAddr(a)); err != nil {
			t.Error(err)
		}
	}
	if err := f.Check(netip.Addr{}); err == nil {
		t.Error("the zero Addr passes")
	}
	if err := (Fence{Prefixes: prefixes("::/0")}).Check(netip.MustParseAddr("fd09::2%eth0")); err == nil {
		t.Error("a zone passes")
	}
	if err := (Fence{}).Check(netip.MustParseAddr("10.9.0.2")); err == nil {
		t.Error("an empty fence lets through")
	}
}

func TestChoose(t *testing.T) {
	f := Fence{Prefixes: prefixes("10.9.0.0/24", "fd09::/64")}
	addrs := func(list ...string) []netip.Addr {
		var all []netip.Addr
		for _, s := range list {
			all = append(all, netip.MustParseAddr(s))
		}
		return all
	}
	for _, c := range []struct {
		answer []netip.Addr
		want   string
		always bool
	}{
		{addrs("10.9.0.2", "10.9.0.3"), "10.9.0.2", false},
		{addrs("8.8.8.8", "10.9.0.3"), "10.9.0.3", false},
		{addrs("::ffff:10.9.0.3"), "10.9.0.3", false},
		{addrs("8.8.8.8"), "", false},
		{addrs("10.9.0.2", "127.0.0.1"), "", true},
		{addrs("10.9.0.2", "64:ff9b::a9fe:a9fe"), "", true},
		{nil, "", false},
	} {
		got, err := f.Choose(c.answer)
		var denied *DeniedError
		errors.As(err, &denied)
		if (err == nil) != (c.want != "") || err == nil && got != netip.MustParseAddr(c.want) || (denied != nil && denied.Always) != c.always {
			t.Errorf("%v: %v, %v", c.answer, got, err)
		}
	}
}

// aton is inet_aton as the C library has it, told another way.
func aton(s string) (netip.Addr, bool) {
	var parts []uint64
	for i := 0; ; {
		if i >= len(s) || s[i] < '0' || s[i] > '9' || len(parts) == 4 {
			return netip.Addr{}, false
		}
		base := uint64(10)
		if s[i] == '0' {
			base = 8
			if i+1 < len(s) && s[i+1]|0x20 == 'x' {
				base = 16
				if i += 2; i == len(s) || !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
					return netip.Addr{}, false
				}
			}
		}
		var n uint64
		for ; i < len(s); i++ {
			d := uint64(99)
			switch c := s[i] | 0x20; {
			case s[i] >= '0' && s[i] <= '9':
				d = uint64(s[i] - '0')
			case c >= 'a' && c <= 'f':
				d = uint64(c-'a') + 10
			}
			if d >= base {
				break
			}
			if n = n*base + d; n > 0xffffffff {
				return netip.Addr{}, false
			}
		}
		parts = append(parts, n)
		if i == len(s) {
			break
		}
		if s[i] != '.' {
			return netip.Addr{}, false
		}
		i++
	}
	last := len(parts) - 1
	v := parts[last]
	if v > 0xffffffff>>(8*last) {
		return netip.Addr{}, false
	}
	for i, p := range parts[:last] {
		if p > 255 {
			return netip.Addr{}, false
		}
		v |= p << (24 - 8*i)
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

func FuzzParseAddr(f *testing.F) {
	for _, sp := range spellings {
		f.Add(sp.host)
	}
	f.Add("db-1.corp")
	f.Fuzz(func(t *testing.T, s string) {
		addr, isAddress, err := ParseAddr(s)
		if want, ok := aton(s); ok && (err != nil || !isAddress || addr != want) {
			t.Errorf("%q is %v to a C library: %v, %v, %v", s, want, addr, isAddress, err)
		}
		if want, err2 := netip.ParseAddr(s); err2 == nil && want.Zone() == "" && (!isAddress || err != nil || addr != want.Unmap()) {
			t.Errorf("%q is %v: %v, %v, %v", s, want, addr, isAddress, err)
		}
		if err != nil || isAddress {
			return
		}
		name, err := asciiName(s)
		if err != nil {
			return
		}
		last := name[strings.LastIndex(name, ".")+1:]
		if _, isAddress, err := ParseAddr(name); isAddress || err != nil || strings.Trim(last, "0123456789") == "" {
			t.Errorf("%q is a name, but %q is not", s, name)
		}
	})
}
