package audit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestDocs wants each kind and each field in docs/audit.md.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := declaredKinds(t)
	if len(kinds) < 20 {
		t.Fatalf("only %d kinds: %q", len(kinds), kinds)
	}
	for _, kind := range kinds {
		if !strings.Contains(string(page), "\n| `"+kind+"` | ") {
			t.Errorf("docs/audit.md does not list the kind %s", kind)
		}
		if !kindForm.MatchString(kind) || len(kind) > maxKind {
			t.Errorf("%q does not look like a kind", kind)
		}
	}
	for e, i := reflect.TypeFor[Event](), 0; i < e.NumField(); i++ {
		name, _, _ := strings.Cut(e.Field(i).Tag.Get("json"), ",")
		if !strings.Contains(string(page), "\n| `"+name+"` | ") {
			t.Errorf("docs/audit.md does not list the field %s", name)
		}
	}
}

// declaredKinds are the string constants of kinds.go.
func declaredKinds(t *testing.T) []string {
	file, err := parser.ParseFile(token.NewFileSet(), "kinds.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range file.Decls {
		constants, ok := d.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, spec := range constants.Specs {
			for _, value := range spec.(*ast.ValueSpec).Values {
				if text, ok := value.(*ast.BasicLit); ok && text.Kind == token.STRING {
					kind, err := strconv.Unquote(text.Value)
					if err != nil {
						t.Fatal(err)
					}
					kinds = append(kinds, kind)
				}
			}
		}
	}
	return kinds
}
