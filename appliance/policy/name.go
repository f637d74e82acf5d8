package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
)

var (
	targetName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	typedName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	userName   = regexp.MustCompile(`^[a-z0-9._@-]{1,64}$`)
	word       = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	numeric    = regexp.MustCompile(`^(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*$`)
)

// maxName bounds a typed name before anything looks at it; no DNS name is longer.
const maxName = 253

// parseTyped reads what a person typed for a target: a name, or an address in any spelling.
func (p *Policy) parseTyped(typed string) (name string, addr netip.Addr, err error) {
	if len(typed) > maxName {
		return "", addr, &Refusal{Code: CodeName, Sentence: fmt.Sprintf("a target's name has at most %d characters", maxName)}
	}
	s := typed
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	if strings.Contains(s, "%") {
		return "", addr, &Refusal{Code: CodeName, Sentence: "zone ids are not allowed", Hint: "leave out the % and what follows it"}
	}
	addr, isAddr, bad := p.options.AddressSyntax(s)
	switch {
	case isAddr && (bad != nil || !addr.IsValid()):
		return "", addr, &Refusal{Code: CodeName, Sentence: "not a valid address", Hint: "use a target's name"}
	case isAddr:
		return "", addr.Unmap(), nil
	}
	name, err = parseName(typed)
	if err == nil && bad != nil { // such as full-width digits, which mean ASCII ones to some
		err = notAName()
	}
	return name, netip.Addr{}, err
}

// parseName turns a typed name into the spelling of the file.
func parseName(typed string) (string, error) {
	ascii, name := true, strings.ToLower(typed)
	for _, r := range name {
		if r >= 0x80 {
			ascii = false
		} else if r <= ' ' || r == 0x7f {
			return "", notAName()
		}
	}
	if !ascii || strings.Contains(name, "xn--") {
		var err error
		if name, err = idna.Lookup.ToASCII(name); err != nil {
			return "", &Refusal{Code: CodeName, Sentence: "not a valid internationalised name", Hint: "use a target's name as sallyport ls shows it"}
		}
	}
	if !typedName.MatchString(name) {
		return "", notAName()
	}
	return name, nil
}

func notAName() *Refusal {
	return &Refusal{Code: CodeName, Sentence: "not a valid target name", Hint: "names have letters a-z, digits, dots and dashes"}
}

// looksNumeric reports whether a name could be read as an address by somebody's parser: 42, 10.1, 0xa9fea9fe.
func looksNumeric(name string) bool {
	return numeric.MatchString(name)
}

func cutGroup(who string) (group string, ok bool) {
	return strings.CutPrefix(who, "group:")
}
