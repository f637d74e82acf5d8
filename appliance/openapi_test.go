package appliance

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3gen"

	"sallyport/appliance/api"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// TestOpenAPI: the document is what the routes say, and a valid one.
func TestOpenAPI(t *testing.T) {
	b, err := json.MarshalIndent(document(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err == nil {
		err = doc.Validate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", b, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(b, openAPI) {
		t.Error("openapi.json is not what the routes say; run: go test ./appliance -run OpenAPI -update")
	}
}

// document makes an OpenAPI document of the routes.
func document(t *testing.T) *openapi3.T {
	doc := &openapi3.T{OpenAPI: "3.0.3", Paths: openapi3.NewPaths(), Components: &openapi3.Components{Schemas: openapi3.Schemas{}},
		Info: &openapi3.Info{Title: "Sallyport", Version: "v1", Description: "The API of an appliance. It answers in JSON over flows of the protocol api, in the name of " +
			"the device that said HELLO. An error has a status of 400 and above."}}
	failure := schema(t, doc, api.Failure{})
	for _, r := range routes {
		op := openapi3.NewOperation()
		op.Summary, op.Tags = r.says, []string{string(r.role)}
		for _, name := range sorted(r.query) {
			op.AddParameter(openapi3.NewQueryParameter(name).WithSchema(openapi3.NewStringSchema()).WithDescription(r.query[name]))
		}
		for _, part := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(r.path, -1) {
			op.AddParameter(openapi3.NewPathParameter(part[1]).WithSchema(openapi3.NewStringSchema()))
		}
		if _, raw := r.asks.(octets); raw {
			op.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).WithContent(
				openapi3.NewContentWithSchema(openapi3.NewStringSchema().WithFormat("binary"), []string{"application/octet-stream"}))}
		} else if r.asks != nil {
			op.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).WithJSONSchemaRef(schema(t, doc, r.asks))}
		}
		answers := r.answers
		if answers == nil {
			answers = struct{}{}
		}
		done := openapi3.NewResponse().WithDescription("done")
		if _, raw := answers.(octets); raw {
			done.WithContent(openapi3.NewContentWithSchema(openapi3.NewStringSchema().WithFormat("binary"), []string{"application/octet-stream"}))
		} else {
			done.WithJSONSchemaRef(schema(t, doc, answers))
		}
		op.AddResponse(200, done)
		op.AddResponse(0, openapi3.NewResponse().WithDescription("refused").WithJSONSchemaRef(failure))
		doc.AddOperation(r.path, r.method, op)
	}
	return doc
}

// schema describes a type; structs stand among the components.
func schema(t *testing.T, doc *openapi3.T, v any) *openapi3.SchemaRef {
	t.Helper()
	ref, err := openapi3gen.NewSchemaRefForValue(v, doc.Components.Schemas, openapi3gen.CreateComponentSchemas(openapi3gen.ExportComponentSchemasOptions{
		ExportComponentSchemas: true, ExportTopLevelSchema: reflect.TypeOf(v).Name() != ""}))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func sorted(m map[string]string) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
