package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
)

// An OTLP is a sink that posts the lines as OpenTelemetry logs, OTLP/HTTP with JSON. A record's body is the line, so that
// the chain can be verified there too; its attributes are the fields, each named "sallyport." and the field.
type OTLP struct {
	URL       string // ends with /v1/logs
	TokenFile string // holds a bearer token; may be empty
	TLS       TLS
	Dial      Dial
	Log       *slog.Logger // told of records that the receiver rejects for good
}

// Open reads the files.
func (c OTLP) Open() (Sink, error) {
	p, err := newPoster(c.URL, "application/json", c.TokenFile, c.TLS, c.Dial)
	if err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return otlpSink{p, c.Log}, nil
}

type otlpSink struct {
	*poster
	log *slog.Logger
}

// The messages of opentelemetry.proto.collector.logs.v1, as far as they are used, in protobuf's JSON form: 64-bit integers
// are strings.
type (
	otlpRequest struct {
		ResourceLogs []otlpResourceLogs `json:"resourceLogs"`
	}
	otlpResourceLogs struct {
		Resource  otlpResource    `json:"resource"`
		ScopeLogs []otlpScopeLogs `json:"scopeLogs"`
	}
	otlpResource struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpScopeLogs struct {
		Scope      otlpScope    `json:"scope"`
		LogRecords []otlpRecord `json:"logRecords"`
	}
	otlpScope struct {
		Name string `json:"name"`
	}
	otlpRecord struct {
		TimeUnixNano         string          `json:"timeUnixNano"`
		ObservedTimeUnixNano string          `json:"observedTimeUnixNano"`
		SeverityNumber       int             `json:"severityNumber"`
		SeverityText         string          `json:"severityText"`
		EventName            string          `json:"eventName"`
		Body                 otlpValue       `json:"body"`
		Attributes           []otlpAttribute `json:"attributes"`
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpValue struct {
		String *string    `json:"stringValue,omitempty"`
		Int    *string    `json:"intValue,omitempty"`
		Array  *otlpArray `json:"arrayValue,omitempty"`
		List   *otlpList  `json:"kvlistValue,omitempty"`
	}
	otlpArray struct {
		Values []otlpValue `json:"values"`
	}
	otlpList struct {
		Values []otlpAttribute `json:"values"`
	}
	otlpAnswer struct {
		PartialSuccess struct {
			RejectedLogRecords json.Number `json:"rejectedLogRecords"`
		} `json:"partialSuccess"`
	}
)

func (s otlpSink) Send(ctx context.Context, records []Record) error {
	body, err := otlpBody(records)
	if err != nil {
		return err
	}
	b, err := s.post(ctx, body)
	if err != nil {
		return err
	}
	// The protocol forbids to send what was rejected again. An answer that is no JSON rejects nothing.
	var answer otlpAnswer
	if json.Unmarshal(b, &answer) == nil {
		if n, err := strconv.ParseInt(answer.PartialSuccess.RejectedLogRecords.String(), 10, 64); err == nil && n > 0 {
			s.log.Error("audit: an OTLP receiver has rejected lines", "lines", n, "of", len(records), "from", records[0].Event.Seq)
		}
	}
	return nil
}

func otlpBody(records []Record) ([]byte, error) {
	var list []otlpRecord
	for _, r := range records {
		attributes, err := otlpAttributes(r.Line)
		if err != nil {
			return nil, err
		}
		at := strconv.FormatInt(r.Event.Time.UnixNano(), 10)
		number, text := otlpSeverity(level(r.Event))
		list = append(list, otlpRecord{
			TimeUnixNano: at, ObservedTimeUnixNano: at, SeverityNumber: number, SeverityText: text,
			EventName: r.Event.Kind, Body: otlpString(string(r.Line)), Attributes: attributes,
		})
	}
	return json.Marshal(otlpRequest{[]otlpResourceLogs{{
		Resource: otlpResource{[]otlpAttribute{
			{"service.name", otlpString("sallyport")},
			{"service.instance.id", otlpString(records[0].Event.Appliance)},
		}},
		ScopeLogs: []otlpScopeLogs{{Scope: otlpScope{"sallyport/audit"}, LogRecords: list}},
	}}})
}

// otlpSeverity is the number and the name of INFO, WARN or ERROR.
func otlpSeverity(l slog.Level) (int, string) { return int(l) + 9, l.String() }

func otlpString(s string) otlpValue { return otlpValue{String: &s} }

// otlpAttributes are the fields of a line, but for those that the record has in places of its own.
func otlpAttributes(line []byte) ([]otlpAttribute, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		return nil, err
	}
	delete(fields, "time")
	delete(fields, "event")
	return otlpFields("sallyport.", fields), nil
}

func otlpFields(prefix string, fields map[string]any) []otlpAttribute {
	attributes := make([]otlpAttribute, 0, len(fields))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		attributes = append(attributes, otlpAttribute{prefix + key, otlpAny(fields[key])})
	}
	return attributes
}

func otlpAny(v any) otlpValue {
	switch v := v.(type) {
	case json.Number:
		n := v.String()
		return otlpValue{Int: &n}
	case []any:
		array := otlpArray{Values: []otlpValue{}}
		for _, item := range v {
			array.Values = append(array.Values, otlpAny(item))
		}
		return otlpValue{Array: &array}
	case map[string]any:
		return otlpValue{List: &otlpList{otlpFields("", v)}}
	}
	return otlpString(fmt.Sprint(v))
}
