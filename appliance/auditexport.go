package appliance

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/audit"
)

// An export is an answer that is a file which is made while it is sent: piece by piece, however long it is, and kept nowhere.
type export struct {
	name, kind string // of the file, its media type
	write      func(io.Writer) error
}

// pieceOfExport is how much of an export leaves at once, in bytes.
const pieceOfExport = 64 << 10

// send writes the file. Where that fails in its middle the connection breaks, so that nobody takes a part for the whole. may
// says before each piece whether the caller still may have it.
func (d *export) send(w http.ResponseWriter, may func() error) error {
	h := w.Header()
	h.Set("Content-Type", d.kind)
	h.Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	h.Set("Cache-Control", "no-store")
	p := &piecewise{to: w, may: may}
	if err := d.write(p); err != nil {
		return err
	}
	return p.flush()
}

// piecewise gathers what is written into pieces of an export.
type piecewise struct {
	to  io.Writer
	may func() error
	b   bytes.Buffer
}

func (p *piecewise) Write(b []byte) (int, error) {
	p.b.Write(b)
	if p.b.Len() < pieceOfExport {
		return len(b), nil
	}
	return len(b), p.flush()
}

func (p *piecewise) flush() error {
	if err := p.may(); err != nil {
		return err
	}
	_, err := p.b.WriteTo(p.to)
	return err
}

// auditExport answers with all events that the caller wants, the oldest first.
func (c call) auditExport() (any, error) {
	q := c.URL.Query()
	f, err := filterOf(q)
	if err != nil {
		return nil, err
	}
	forms := map[string]struct {
		kind  string
		lines func(io.Writer) func(*audit.Event) error
	}{"csv": {"text/csv; charset=utf-8", csvLines}, "jsonl": {"application/jsonl", jsonLines}}
	form, known := forms[q.Get("as")]
	if !known {
		return nil, mustBe(q, "as", "csv or jsonl")
	}
	return &export{name: "audit-" + time.Now().UTC().Format(time.DateOnly) + "." + q.Get("as"), kind: form.kind, write: func(w io.Writer) error {
		line := form.lines(w)
		for e, err := range c.gateway.Audit.Read(f) {
			if err != nil {
				return fmt.Errorf("read the audit log: %w", err)
			}
			if c.Context().Err() != nil {
				return context.Cause(c.Context())
			}
			if !strings.HasPrefix(e.Session, q.Get("session")) { // or how its id begins
				continue
			}
			if err := line(&e); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// jsonLines writes events as the log has them.
func jsonLines(w io.Writer) func(*audit.Event) error {
	return func(e *audit.Event) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = w.Write(append(line, '\n'))
		return err
	}
}

// csvLines writes events as rows of a table that spreadsheets open, under the columns' names.
func csvLines(w io.Writer) func(*audit.Event) error {
	table := csv.NewWriter(w)
	table.UseCRLF = true
	row := make([]string, len(csvColumns))
	for i, column := range csvColumns {
		row[i] = column.name
	}
	write := func() error {
		table.Write(row)
		table.Flush()
		return table.Error()
	}
	write() // an error stays, and is told with the first event
	return func(e *audit.Event) error {
		for i, column := range csvColumns {
			row[i] = column.of(e)
		}
		return write()
	}
}

var csvColumns = []struct {
	name string
	of   func(*audit.Event) string
}{
	{"seq", func(e *audit.Event) string { return strconv.FormatUint(e.Seq, 10) }},
	{"time", func(e *audit.Event) string { return e.Time.UTC().Format(time.RFC3339Nano) }},
	{"event", func(e *audit.Event) string { return cell(e.Kind) }},
	{"user", func(e *audit.Event) string { return cell(e.User) }},
	{"device", func(e *audit.Event) string { return cell(e.Device) }},
	{"source", func(e *audit.Event) string { return cell(e.Source) }},
	{"transport", func(e *audit.Event) string { return cell(e.Transport) }},
	{"target", func(e *audit.Event) string { return cell(e.Target) }},
	{"address", func(e *audit.Event) string { return cell(e.Address) }},
	{"protocol", func(e *audit.Event) string { return cell(e.Protocol) }},
	{"port", func(e *audit.Event) string { return number(int64(e.Port)) }},
	{"session", func(e *audit.Event) string { return cell(e.Session) }},
	{"policies", func(e *audit.Event) string { return cell(strings.Join(e.Policies, " ")) }},
	{"code", func(e *audit.Event) string { return cell(e.Code) }},
	{"why", func(e *audit.Event) string { return cell(e.Why) }},
	{"up", func(e *audit.Event) string { return number(e.Up) }},
	{"down", func(e *audit.Event) string { return number(e.Down) }},
	{"duration_ms", func(e *audit.Event) string { return number(e.Duration) }},
	{"by", func(e *audit.Event) string { return cell(e.By) }},
	{"object", func(e *audit.Event) string { return cell(e.Object) }},
	{"detail", func(e *audit.Event) string { return cell(details(e.Detail)) }},
}

// details are what else there is to say of an event, in one cell.
func details(all map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		words = append(words, name+"="+all[name])
	}
	return strings.Join(words, "; ")
}

// cell is text of a table. What a spreadsheet would take for a formula gets a mark before it: names come from outside.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// number is one of a table: an event has no zeros.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
