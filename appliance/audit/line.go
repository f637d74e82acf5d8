package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxLine bounds a line with its newline.
	maxLine = 16 << 10

	// maxText bounds each text of an event, and itemText divides it into how many policies and details there may be:
	// 32. Where the line is too long nonetheless, both are halved until it is not.
	maxText  = 1 << 10
	itemText = 32

	// timeForm is RFC 3339 with always six digits of a second, so that lines sort by it.
	timeForm = "2006-01-02T15:04:05.000000Z07:00"
)

// line returns e as a line with its newline, of maxLine bytes at most.
func line(e Event) ([]byte, error) {
	for limit := maxText; ; limit /= 2 {
		b, err := encode(clip(e, limit))
		if err != nil {
			return nil, err
		}
		if len(b) < maxLine {
			return append(b, '\n'), nil
		}
	}
}

// encode writes JSON in which everything that does not print is escaped, so that no terminal and no shipper of logs is
// told anything by what somebody put into a name.
func encode(e Event) ([]byte, error) {
	type plain Event // without its MarshalJSON
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Seq  uint64 `json:"seq"`
		Time string `json:"time"`
		plain
	}{e.Seq, e.Time.UTC().Format(timeForm), plain(e)})
	if err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	return escape(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// escape finishes what encoding/json begins, which leaves DEL and all that is not ASCII but U+2028 and U+2029 as it is.
// Such characters are in strings only, and there an escape means the same.
func escape(b []byte) []byte {
	hidden := func(r rune) bool { return r == 0x7f || r >= utf8.RuneSelf && !unicode.IsPrint(r) }
	if !bytes.ContainsFunc(b, hidden) {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	for _, r := range string(b) {
		switch high, low := utf16.EncodeRune(r); {
		case !hidden(r):
			out = utf8.AppendRune(out, r)
		case high != unicode.ReplacementChar:
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// clip bounds what of an event comes from outside. What is left out is said in its place.
func clip(e Event, limit int) Event {
	for _, text := range []*string{
		&e.Session, &e.Flow, &e.User, &e.Device, &e.Source, &e.Transport, &e.Client, &e.Target, &e.Address, &e.VNet,
		&e.Protocol, &e.Decision, &e.Code, &e.Why, &e.By, &e.Object,
	} {
		*text = clipText(*text, limit)
	}
	items := max(1, limit/itemText)
	e.Policies = clipList(e.Policies, items, limit)
	e.Detail = clipDetail(e.Detail, items, limit)
	return e
}

func clipList(list []string, items, limit int) []string {
	var clipped []string
	for _, s := range list[:min(items, len(list))] {
		clipped = append(clipped, clipText(s, limit))
	}
	if more := len(list) - items; more > 0 {
		clipped = append(clipped, fmt.Sprintf("… %d more", more))
	}
	return clipped
}

func clipDetail(detail map[string]string, items, limit int) map[string]string {
	clipped := make(map[string]string, min(items, len(detail))+1)
	keys := slices.Sorted(maps.Keys(detail))
	for _, key := range keys[:min(items, len(keys))] {
		clipped[clipText(key, limit)] = clipText(detail[key], limit)
	}
	if more := len(detail) - items; more > 0 {
		clipped["…"] = fmt.Sprintf("%d more", more)
	}
	return clipped
}

// clipText shortens s to limit bytes and a mark that says how many more there were.
func clipText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… %d bytes more", strings.ToValidUTF8(s[:cut], "\uFFFD"), len(s)-cut)
}

// parseLine reads a line without its newline. Fields that this program does not know are skipped: a later one may have
// written them, and the chain covers them all the same.
func parseLine(b []byte) (Event, error) {
	if len(b) >= maxLine {
		return Event{}, fmt.Errorf("longer than the %d bytes of a line", maxLine)
	}
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("not an event: %w", err)
	}
	switch {
	case e.Seq == 0:
		return Event{}, errors.New("not an event: it has no number")
	case e.Kind == "":
		return Event{}, errors.New("not an event: it has no kind")
	case e.Kind != HeadKind && e.Sig != "":
		return Event{}, errors.New("a signature outside of a head")
	}
	return e, nil
}

// hashLine is what the next line says of a line without its newline.
func hashLine(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// noLine is the hash that the first line of a log says.
var noLine = strings.Repeat("0", 2*sha256.Size)
