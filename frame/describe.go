package frame

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Describe renders one frame as one line, for traces and for the examples in PROTOCOL.md: the type, then the fields
// that are present, in the order of the wire. What does not parse is rendered with the reason why not. An access token
// or enrolment code is rendered as its length.
//
//	ACK acked=5 limit=16389
func Describe(h Header, payload []byte) string {
	var b strings.Builder
	b.WriteString(h.Type.String())
	if err := h.describe(&b, payload); err != nil {
		fmt.Fprintf(&b, " %x (%v)", payload, err)
	}
	return b.String()
}

func (h Header) describe(b *strings.Builder, p []byte) error {
	switch h.Type {
	case TypeAck:
		a, err := ParseAck(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, " acked=%d limit=%d", a.Acked, a.Limit)
		for _, n := range a.Nonces {
			fmt.Fprintf(b, " nonce=%x", n)
		}
	case TypeFin:
		offset, err := parseFin(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, " offset=%d", offset)
	case TypePing, TypePong:
		fmt.Fprintf(b, " id=%x", p)
	case TypeSuperseded:
	default:
		m := newMessage(h.Type)
		if m == nil {
			fmt.Fprintf(b, " %q", p)
			return nil
		}
		if err := Parse(h.Type, p, m); err != nil {
			return err
		}
		describeFields(b, reflect.ValueOf(m).Elem())
	}
	return nil
}

// newMessage returns an empty message for a type with a CBOR payload, else nil.
func newMessage(t Type) any {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeChallenge:
		return new(Challenge)
	case TypeWelcome:
		return new(Welcome)
	case TypeOpen:
		return new(OpenRequest)
	case TypeOpened:
		return new(Opened)
	case TypeRefused, TypeReset:
		return new(Reason)
	case TypeResume:
		return new(Resume)
	case TypeResumed:
		return new(Resumed)
	case TypeNotice:
		return new(Notice)
	case TypeDrain:
		return new(Drain)
	}
	return nil
}

func describeFields(b *strings.Builder, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		name := v.Type().Field(i).Name
		fmt.Fprintf(b, " %s=", strings.ToLower(name))
		switch x := f.Interface().(type) {
		case []byte:
			switch name {
			case "Token":
				fmt.Fprintf(b, "(%d bytes)", len(x))
			case "Versions":
				fmt.Fprint(b, x)
			default:
				fmt.Fprintf(b, "%x", x)
			}
		case [][]byte:
			fmt.Fprintf(b, "%x", x)
		case string:
			if name == "Code" {
				fmt.Fprintf(b, "(%d bytes)", len(x))
			} else {
				b.WriteString(strconv.Quote(x))
			}
		default:
			fmt.Fprint(b, x)
		}
	}
}
