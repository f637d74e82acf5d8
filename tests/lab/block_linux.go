package lab

import "fmt"

// blocked names what Block drops.
type blocked struct {
	network string
	port    uint16
}

// Block makes the router drop what goes to or comes from a port ("udp", 443), silently, with both IP versions.
func (l *Lab) Block(network string, port uint16) {
	l.t.Helper()
	if key := (blocked{network, port}); !l.blocked[key] {
		l.rules("add", network, port)
		l.blocked[key] = true
	}
}

// Unblock lets through again what Block dropped.
func (l *Lab) Unblock(network string, port uint16) {
	l.t.Helper()
	if key := (blocked{network, port}); l.blocked[key] {
		l.rules("del", network, port)
		delete(l.blocked, key)
	}
}

func (l *Lab) rules(verb, network string, port uint16) {
	l.t.Helper()
	for _, end := range []string{"dport", "sport"} {
		rule := fmt.Sprintf("rule %s ipproto %s %s %d blackhole", verb, network, end, port)
		for _, family := range []string{"-4", "-6"} {
			if err := ip([]string{rule}, family, "-n", l.Router.Name); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}
