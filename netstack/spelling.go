package netstack

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

var (
	// ErrZone is what ParseAddr says of an address with a zone (fe80::1%eth0): it names a network card, not a machine.
	ErrZone = errors.New("an address with a zone is not accepted")

	// ErrSpelling is what ParseAddr says of what is neither an address nor a name.
	ErrSpelling = errors.New("neither an address nor a name")
)

// ParseAddr decides whether s is an address, in any spelling that a resolver or a C library anywhere might accept:
// decimal 2852039166, hexadecimal 0xA9FEA9FE, octal 0251.0376.0251.0376, short 169.254.43518, [::ffff:169.254.169.254],
// with dots at the end. Then a "name" cannot smuggle an address past whoever judges addresses.
//
// It returns the address, unmapped; or isAddress false for what can only be a name; or an error for what is neither
// (1.2.3.4.5, 256.1.1.1, full-width digits, white space), where isAddress says whether it looks like an address.
func ParseAddr(s string) (addr netip.Addr, isAddress bool, err error) {
	spelling := func(isAddress bool, why error) (netip.Addr, bool, error) {
		return netip.Addr{}, isAddress, fmt.Errorf("%q: %w", s, why)
	}
	host := s
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok {
			return spelling(true, ErrSpelling)
		}
	}
	host = strings.TrimRight(host, ".")
	for _, r := range host {
		if r > unicode.MaxASCII {
			return netip.Addr{}, false, foreign(s, host)
		}
	}
	switch {
	case strings.Contains(host, "%"):
		return spelling(true, ErrZone)
	case strings.Contains(host, ":"):
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return spelling(true, ErrSpelling)
		}
		return addr.Unmap(), true, nil
	case host == "" || strings.Trim(host, nameBytes) != "":
		return spelling(false, ErrSpelling)
	case !isNumber(host[strings.LastIndex(host, ".")+1:]):
		return netip.Addr{}, false, nil
	}
	v4, ok := parseNumbers(host)
	if !ok {
		return spelling(true, ErrSpelling)
	}
	return v4, true, nil
}

// nameBytes are those of which names and IPv4 addresses are made.
const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// foreign is the error, if any, about a host that is not plain ASCII: one with foreign digits or dots, or one that
// becomes an address when it is mapped to ASCII as names are.
func foreign(s, host string) error {
	for _, r := range host {
		if r > unicode.MaxASCII && (unicode.IsNumber(r) || strings.ContainsRune("。．｡․﹒：︰", r)) {
			return fmt.Errorf("%q: %w", s, ErrSpelling)
		}
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return fmt.Errorf("%q: %w: %w", s, ErrSpelling, err)
	}
	if strings.Trim(ascii, nameBytes) != "" || isNumber(ascii[strings.LastIndex(ascii, ".")+1:]) {
		return fmt.Errorf("%q: %w", s, ErrSpelling)
	}
	return nil
}

// isNumber says whether a host that ends in this label is an address or nothing, but not a name: there is no
// top-level domain of digits.
func isNumber(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	hex, ok := cutHex(label)
	return ok && strings.Trim(hex, "0123456789abcdefABCDEF") == ""
}

func cutHex(label string) (string, bool) {
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		return label[2:], true
	}
	return label, false
}

// parseNumbers reads what inet_aton reads: one to four numbers, each decimal, octal (0…) or hexadecimal (0x…), of
// which the last fills all bytes that remain.
func parseNumbers(host string) (netip.Addr, bool) {
	labels := strings.Split(host, ".")
	if len(labels) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, label := range labels {
		n, ok := parseNumber(label)
		limit := uint64(math.MaxUint8)
		if i == len(labels)-1 {
			limit = math.MaxUint32 >> (8 * i)
		}
		if !ok || n > limit {
			return netip.Addr{}, false
		}
		if i == len(labels)-1 {
			v = v<<(8*(4-i)) | n
		} else {
			v = v<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

func parseNumber(label string) (uint64, bool) {
	base := 10
	digits, hex := cutHex(label)
	switch {
	case hex:
		base = 16
	case len(label) > 1 && label[0] == '0':
		base, digits = 8, label[1:]
	}
	if strings.Contains(digits, "_") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return n, err == nil
}
