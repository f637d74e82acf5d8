package appliance

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/audit"
)

// export asks for the audit log as a file, as a browser does: over a connection that can break.
func (s *site) export(t *testing.T, query string) (*http.Response, string, error) {
	t.Helper()
	server := httptest.NewServer(s.API(s.peer))
	defer server.Close()
	resp, err := http.Get(server.URL + "/api/v1/audit/export" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// TestAuditExport: the file has every event that fits, in each of its forms, and names from outside are no formulas.
func TestAuditExport(t *testing.T) {
	s := newSite(t)
	for i := range 3000 {
		s.book.Write(audit.Event{Kind: audit.FlowEnd, User: "ann", Target: `=cmd|"x",'`, Session: fmt.Sprintf("%04x", i), Policies: []string{"a", "b"}, Port: 22, Up: 7, Code: "E_IDLE", Detail: map[string]string{"size": "7", "sha256": "abc"}})
	}
	s.book.Write(audit.Event{Kind: audit.SignInOK, User: "-bob"})

	resp, body, err := s.export(t, "?as=csv")
	if err != nil || resp.Header.Get("Content-Type") != "text/csv; charset=utf-8" || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), `attachment; filename="audit-2`) ||
		!strings.HasSuffix(resp.Header.Get("Content-Disposition"), `.csv"`) {
		t.Errorf("%s %v, %v", resp.Status, resp.Header, err)
	}
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || len(rows) != 3002 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	first := map[string]string{}
	for i, name := range rows[0] {
		first[name] = rows[1][i]
	}
	for name, want := range map[string]string{"seq": "1", "event": "flow.end", "user": "ann", "target": `'=cmd|"x",'`, "policies": "a b", "port": "22", "up": "7", "down": "", "code": "E_IDLE", "session": "0000", "detail": "sha256=abc; size=7"} {
		if first[name] != want {
			t.Errorf("%s is %q, want %q", name, first[name], want)
		}
	}
	if last := rows[3001]; last[3] != "'-bob" || last[10] != "" {
		t.Errorf("the last row is %q", last)
	}

	_, body, err = s.export(t, "?as=jsonl&session=000&after=1")
	if lines := strings.Split(body, "\n"); err != nil || len(lines) != 16 || !strings.HasPrefix(lines[0], `{"seq":2,`) || lines[15] != "" {
		t.Errorf("of the sessions that begin with 000 but the first: %d lines, %v\n%s", len(lines), err, body)
	}
	for query, says := range map[string]string{"": "as must be csv or jsonl", "?as=xlsx": `not \"xlsx\"`, "?as=csv&since=yesterday": "since must be a time"} {
		if resp, body, _ := s.export(t, query); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, says) {
			t.Errorf("%q: %s %s", query, resp.Status, body)
		}
	}
}

// asked is a trail that notes what is asked of it.
type asked struct {
	*notebook
	filter audit.Filter
}

func (a *asked) Read(f audit.Filter) iter.Seq2[audit.Event, error] {
	a.filter = f
	return a.notebook.Read(f)
}

// TestAuditFilter: what is asked for without a beginning is the day before its end, and the rest is as it is asked for.
func TestAuditFilter(t *testing.T) {
	s := newSite(t)
	trail := &asked{notebook: s.book}
	s.Audit = trail
	until := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for query, want := range map[string]audit.Filter{
		"?until=2026-11-23T10:00:00Z":                            {Since: until.Add(-latestOf), Until: until},
		"?until=2026-11-23T10:00:00Z&since=2026-11-01T00:00:00Z": {Since: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Until: until},
		"?after=7&code=E_&user=ann&event=clipboard":              {After: 7, Code: "E_", User: "ann", Kinds: []string{"clipboard", "clipboard."}},
	} {
		if no := s.ask("GET", "audit"+query, nil, nil); no.Code != "" || !reflect.DeepEqual(trail.filter, want) {
			t.Errorf("%s: %+v, %+v", query, trail.filter, no)
		}
	}
}

// A broken trail is whole up to some event.
type broken struct {
	*notebook
	after  int
	meets  func() // is called there
	refuse error
}

func (b broken) Read(f audit.Filter) iter.Seq2[audit.Event, error] {
	return func(yield func(audit.Event, error) bool) {
		for e := range b.notebook.Read(f) {
			if e.Seq == uint64(b.after) {
				b.meets()
				if b.refuse != nil {
					yield(audit.Event{}, b.refuse)
					return
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// TestAuditExportBreaks: a file that has not become whole does not look so, and ends with its reader's rights.
func TestAuditExportBreaks(t *testing.T) {
	for name, meets := range map[string]func(s *site, b *broken){
		"the log cannot be read": func(_ *site, b *broken) { b.refuse = errors.New("the disk is bad") },
		"the rights end": func(s *site, b *broken) {
			b.meets = func() { s.SetPolicy(s.parse(strings.Replace(siteAccess, "admins: [ann]", "admins: [bob]", 1))) }
		},
	} {
		s := newSite(t)
		for range 3000 {
			s.book.Write(audit.Event{Kind: audit.FlowEnd, User: "ann", Why: strings.Repeat("why ", 20)})
		}
		b := broken{notebook: s.book, after: 2000, meets: func() {}}
		meets(s, &b)
		s.Audit = b
		resp, body, err := s.export(t, "?as=jsonl")
		if resp.StatusCode != http.StatusOK || err == nil {
			t.Errorf("%s: %s, %d bytes, and the file looks whole", name, resp.Status, len(body))
		}
		if !strings.HasPrefix(body, `{"seq":1,`) || strings.Contains(body, `"seq":2999,`) {
			t.Errorf("%s: what has arrived has %d bytes", name, len(body))
		}
	}
}
