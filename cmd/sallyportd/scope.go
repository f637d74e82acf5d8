package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"sallyport/appliance/auth"
)

// scopeForm is a scope as the database has it. The end of a device stands in a column of its own.
type scopeForm struct {
	Targets   []string  `json:"targets,omitempty"`
	Protocols []string  `json:"protocols,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	Link      string    `json:"link,omitempty"`
}

// scopeText is empty for a scope that narrows nothing.
func scopeText(s auth.Scope) string {
	if s.IsZero() {
		return ""
	}
	text, _ := json.Marshal(scopeForm{s.Targets, s.Protocols, s.Until.UTC(), s.Link}) // texts and times always have a form
	return string(text)
}

// parseScope reads a scope. One that says more than this program understands is an error, and not a wider one.
func parseScope(text string) (auth.Scope, error) {
	if text == "" {
		return auth.Scope{}, nil
	}
	var form scopeForm
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&form); err != nil {
		return auth.Scope{}, fmt.Errorf("a scope in the database does not parse: %w", err)
	}
	return auth.Scope{Targets: form.Targets, Protocols: form.Protocols, Until: form.Until, Link: form.Link}, nil
}

// deviceScope is the scope of a device without its end, as the database has it.
func deviceScope(s auth.Scope) string {
	s.Until = time.Time{}
	return scopeText(s)
}
