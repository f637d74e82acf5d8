package client

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"sallyport/frame"
)

// ParseAppliance reads the name of an appliance as people write it, https://bastion.example, bastion.example:8443 or
// bastion.example, and returns host:port.
func ParseAppliance(s string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", frame.Refuse("E_USAGE", fmt.Sprintf("%q is not an appliance's address: %s", frame.Clip(s, 100), why),
			"write https://bastion.example or bastion.example:8443")
	}
	text := s
	if !strings.Contains(text, "://") {
		if strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "[") {
			text = "[" + text + "]"
		}
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return refuse("it does not parse")
	case u.Scheme != "https":
		return refuse("it begins with " + u.Scheme + "://")
	case u.User != nil:
		return refuse("it names a user; use --user")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return refuse("it says more than a host and a port")
	case u.Hostname() == "":
		return refuse("it has no host")
	case u.Port() == "":
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	port, err := ParsePort(u.Port())
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(u.Hostname(), strconv.Itoa(int(port))), nil
}

// ParsePort reads a port as a person typed it.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, frame.Refuse("E_PORT", "port must be 1-65535", "")
	}
	return uint16(n), nil
}

// ParseTarget reads NAME, NAME:PORT, an address, or [ADDRESS]:PORT. Port 0 leaves the choice to the appliance.
func ParseTarget(s string) (name string, port uint16, err error) {
	name = s
	digits, hasPort := "", false
	switch end := strings.LastIndexByte(s, ']'); {
	case strings.HasPrefix(s, "["):
		if end < 0 {
			return "", 0, badName(s, "a bracket is left open")
		}
		name = s[1:end]
		if rest := s[end+1:]; rest != "" {
			if digits, hasPort = strings.CutPrefix(rest, ":"); !hasPort {
				return "", 0, badName(s, "only a port may follow the brackets")
			}
		}
	case strings.Count(s, ":") == 1:
		name, digits, hasPort = strings.Cut(s, ":")
	}
	if hasPort {
		if port, err = ParsePort(digits); err != nil {
			return "", 0, err
		}
	}
	return name, port, checkName(name)
}

// checkName refuses what the appliance would refuse anyway, before the name reaches a command line or a terminal.
func checkName(name string) error {
	switch {
	case name == "":
		return badName(name, "it is empty")
	case len(name) > 255:
		return badName(name, "it is too long")
	case name[0] == '-':
		return badName(name, "it begins with a dash")
	case strings.Contains(name, "%"):
		return frame.Refuse("E_NAME", "zone ids are not allowed", "leave out the % and what follows it")
	}
	for _, r := range name {
		if !nameRune(r) {
			return badName(name, fmt.Sprintf("%q does not belong in a name", r))
		}
	}
	return nil
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:", r)
}

func badName(name, why string) error {
	return frame.Refuse("E_NAME", fmt.Sprintf("%q is not a target's name: %s", frame.Clip(name, 100), why), "sallyport ls shows the targets")
}
