package appliance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/frame"
)

// A page of the audit log has so many events at most, and what is asked for without since are the latest of a day: of the
// last one, or of that before until.
const (
	eventsOfPage = 500
	latestEvents = 100
	latestOf     = 24 * time.Hour
)

// auditPage answers with the next events that the caller wants to see.
func (c call) auditPage() (any, error) {
	f, err := filterOf(c.URL.Query())
	if err != nil {
		return nil, err
	}
	session := c.URL.Query().Get("session") // or how its id begins
	latest := f.After == 0 && f.Since.IsZero()
	if latest {
		f.Since = time.Now().Add(-latestOf)
		if !f.Until.IsZero() {
			f.Since = f.Until.Add(-latestOf)
		}
	}
	page := api.AuditPage{Events: []json.RawMessage{}, Next: f.After}
	for e, err := range c.gateway.Audit.Read(f) {
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		if c.Context().Err() != nil {
			return nil, c.Context().Err()
		}
		if !strings.HasPrefix(e.Session, session) {
			page.Next = e.Seq
			continue
		}
		if len(page.Events) == eventsOfPage && !latest {
			page.More = true
			break
		}
		line, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		page.Events, page.Next = append(page.Events, line), e.Seq
		if latest && len(page.Events) > latestEvents {
			page.Events = page.Events[1:]
		}
	}
	return page, nil
}

// mustBe refuses a query whose parameter has another form.
func mustBe(q url.Values, name, form string) error {
	return frame.Refuse("E_USAGE", fmt.Sprintf("%s must be %s, not %q", name, form, frame.Clip(q.Get(name), 64)), "")
}

func filterOf(q url.Values) (f audit.Filter, err error) {
	f = audit.Filter{User: q.Get("user"), Target: q.Get("target"), Code: q.Get("code")}
	if kind := q.Get("event"); kind != "" {
		f.Kinds = []string{kind, kind + "."}
	}
	for name, t := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if q.Has(name) {
			if *t, err = time.Parse(time.RFC3339Nano, q.Get(name)); err != nil {
				return f, mustBe(q, name, "a time such as 2026-11-23T10:00:00Z")
			}
		}
	}
	if q.Has("after") {
		if f.After, err = strconv.ParseUint(q.Get("after"), 10, 64); err != nil {
			return f, mustBe(q, "after", "the number of an event")
		}
	}
	return f, nil
}
