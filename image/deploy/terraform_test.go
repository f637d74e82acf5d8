package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"sallyport/appliance/config"
	"sallyport/host/source"
)

var clouds = []string{"azure", "aws", "gcp"}

// A schema is what testdata/schema.mjs has extracted from the providers' own.
type schema struct {
	Providers map[string]string // versions
	Types     map[string]struct {
		block
		Exports string
	}
}

type block struct {
	Required, Optional string // names of arguments and of nested blocks, with blanks between
	Blocks             map[string]block
}

func readSchema(t *testing.T) schema {
	t.Helper()
	data, err := os.ReadFile("testdata/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A module is a folder of Terraform files.
type module struct {
	schema    schema
	faults    []string
	bodies    map[string]*hclsyntax.Body // by file
	variables map[string]bool
	locals    map[string]bool
	resources map[string]bool // "azurerm_lb.this", "data.aws_subnet.public"
	used      map[string]bool
}

// readModule reads a folder, in whose text edit may change something.
func readModule(t *testing.T, dir string, edit *strings.Replacer) *module {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(files) < 4 {
		t.Fatalf("files of %s: %v, %v", dir, files, err)
	}
	m := &module{schema: readSchema(t), bodies: map[string]*hclsyntax.Body{}, variables: map[string]bool{}, locals: map[string]bool{}, resources: map[string]bool{}, used: map[string]bool{}}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data = []byte(edit.Replace(string(data)))
		if !bytes.Equal(hclwrite.Format(data), data) {
			m.fault("%s is not formatted; terraform fmt does that", file)
		}
		parsed, diags := hclsyntax.ParseConfig(data, file, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		m.bodies[file] = parsed.Body.(*hclsyntax.Body)
	}
	for _, body := range m.bodies {
		for _, b := range body.Blocks {
			switch b.Type {
			case "variable":
				m.variables[b.Labels[0]] = true
			case "locals":
				for name := range b.Body.Attributes {
					m.locals[name] = true
				}
			case "resource":
				m.resources[strings.Join(b.Labels, ".")] = true
			case "data":
				m.resources["data."+strings.Join(b.Labels, ".")] = true
			}
		}
	}
	return m
}

func (m *module) fault(format string, a ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, a...))
}

// TestTerraform checks the templates as far as that goes without a cloud: the syntax and the format, that what they refer to
// is there, and that the providers' schemas have the types, arguments, blocks and exports that they use, and nothing that
// must be given is missing. Values are not looked at.
func TestTerraform(t *testing.T) {
	for _, cloud := range clouds {
		t.Run(cloud, func(t *testing.T) {
			m := readModule(t, cloud, strings.NewReplacer())
			m.check()
			for _, f := range m.faults {
				t.Error(f)
			}
		})
	}
}

// TestTerraformFaults: that check sees what it is for.
func TestTerraformFaults(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"  load_distribution ", "  load_distributing ", "there is no argument load_distributing"},
		{"  protocol                       = each.key\n", "", "protocol must be given"},
		{"  boot_diagnostics {}", "  boot_diagnosis {}", "there is no block boot_diagnosis"},
		{"      primary                       =", "      first                         =", "there is no argument first"},
		{"  identifier {", "  purchase_plan {", "identifier must be given"},
		{"azurerm_lb.this.id\n", "azurerm_lb.that.id\n", "there is no azurerm_lb.that.id"},
		{"azurerm_public_ip.this.ip_address", "azurerm_public_ip.this.address", "azurerm_public_ip exports no address"},
		{"var.size", "var.siz", "there is no variable siz"},
		{"local.image_id\n  user", "local.image\n  user", "there is no local image"},
		{"= var.idle_minutes", "= 30", "the variable idle_minutes is not used"},
		{`"azurerm_lb_probe" "this"`, `"azurerm_lb_prober" "this"`, "the schema has no azurerm_lb_prober"},
		{`"~> 4.55"`, `"~> 3.0"`, "version ~> 3.0, and the schema is that of 4.55.0"},
		{"  sku                 = \"Standard\"\n", "  sku = \"Standard\"\n", "is not formatted"},
	} {
		m := readModule(t, "azure", strings.NewReplacer(c.old, c.new))
		m.check()
		if !slices.ContainsFunc(m.faults, func(f string) bool { return strings.Contains(f, c.want) }) {
			t.Errorf("%q for %q: faults are %q, without %q", c.new, c.old, m.faults, c.want)
		}
	}
}

func (m *module) check() {
	for _, file := range slices.Sorted(maps.Keys(m.bodies)) {
		for _, b := range m.bodies[file].Blocks {
			m.checkBlock(b)
		}
	}
	for name := range m.variables {
		if !m.used["var."+name] {
			m.fault("the variable %s is not used", name)
		}
	}
	for name := range m.locals {
		if !m.used["local."+name] {
			m.fault("the local %s is not used", name)
		}
	}
}

// checkBlock checks a block that stands for itself.
func (m *module) checkBlock(b *hclsyntax.Block) {
	switch b.Type {
	case "resource", "data":
		name := b.Labels[0]
		if b.Type == "data" {
			name = "data." + name
		}
		if provider, _, _ := strings.Cut(b.Labels[0], "_"); m.schema.Providers[provider] != "" {
			kind, ok := m.schema.Types[name]
			if !ok {
				m.fault("%s: the schema has no %s; extract it again", b.TypeRange, name)
			} else {
				m.checkBody(b.Body, kind.block, true)
			}
		}
	case "variable":
		for _, must := range []string{"description", "type"} {
			if b.Body.Attributes[must] == nil {
				m.fault("%s: variable %s has no %s", b.TypeRange, b.Labels[0], must)
			}
		}
		if typ := b.Body.Attributes["type"]; typ != nil {
			delete(b.Body.Attributes, "type") // an expression of a language of its own
		}
	case "terraform":
		for _, provider := range b.Body.Blocks[0].Body.Attributes {
			m.checkProvider(provider)
		}
		return
	case "output", "locals", "provider":
	default:
		m.fault("%s: what is %s?", b.TypeRange, b.Type)
	}
	m.checkReferences(b.Body)
}

// checkProvider wants the version that the schema was taken from, or a later one of the same major.
func (m *module) checkProvider(a *hclsyntax.Attribute) {
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		m.fault("%v", diags)
		return
	}
	seen := m.schema.Providers[a.Name]
	if a.Name == "random" {
		return
	}
	minor := strings.Join(strings.Split(seen, ".")[:2], ".")
	if got := v.GetAttr("version").AsString(); got != "~> "+minor {
		m.fault("%s: version %s, and the schema is that of %s", a.SrcRange, got, seen)
	}
}

// Terraform's own arguments and blocks of resources.
var meta = []string{"count", "for_each", "depends_on", "lifecycle", "provider", "dynamic"}

func (m *module) checkBody(body *hclsyntax.Body, s block, top bool) {
	required, optional := strings.Fields(s.Required), strings.Fields(s.Optional)
	given := map[string]bool{}
	for _, a := range body.Attributes {
		given[a.Name] = true
		if !slices.Contains(required, a.Name) && !slices.Contains(optional, a.Name) && !(top && slices.Contains(meta, a.Name)) {
			m.fault("%s: there is no argument %s", a.NameRange, a.Name)
		}
	}
	for _, b := range body.Blocks {
		name, inner := b.Type, b.Body
		if name == "dynamic" {
			name = b.Labels[0]
			inner = b.Body.Blocks[0].Body // content
		} else if top && slices.Contains(meta, name) {
			continue
		}
		given[name] = true
		nested, ok := s.Blocks[name]
		if !ok {
			m.fault("%s: there is no block %s", b.TypeRange, name)
			continue
		}
		m.checkBody(inner, nested, false)
	}
	for _, name := range required {
		if !given[name] {
			m.fault("%s: %s must be given", body.SrcRange, name)
		}
	}
}

// checkReferences looks for what the expressions refer to.
func (m *module) checkReferences(body *hclsyntax.Body) {
	for _, a := range body.Attributes {
		for _, v := range a.Expr.Variables() {
			m.checkReference(v)
		}
	}
	for _, b := range body.Blocks {
		m.checkReferences(b.Body)
	}
}

// dynamic blocks' own names, and words that are no references.
var words = []string{"each", "count", "self", "path", "string", "number", "create_before_destroy"}

func (m *module) checkReference(v hcl.Traversal) {
	at := v.SourceRange()
	names := steps(v)
	switch root := names[0]; {
	case slices.Contains(words, root) || root == "network_interface" || root == "network_interfaces" || root == "security_rule" ||
		root == "allow" || root == "guest_os_features" || root == "shielded_instance_initial_state":
	case root == "var":
		m.used["var."+names[1]] = true
		if !m.variables[names[1]] {
			m.fault("%s: there is no variable %s", at, names[1])
		}
	case root == "local":
		m.used["local."+names[1]] = true
		if !m.locals[names[1]] {
			m.fault("%s: there is no local %s", at, names[1])
		}
	default:
		kind := 0
		if root == "data" {
			kind = 1
		}
		if len(names) < kind+2 || !m.resources[strings.Join(names[:kind+2], ".")] {
			m.fault("%s: there is no %s", at, strings.Join(names, "."))
			return
		}
		export := kind + 2
		typ := strings.Join(names[:kind+1], ".")
		if s, ok := m.schema.Types[typ]; ok && len(names) > export && !slices.Contains(strings.Fields(s.Exports), names[export]) {
			m.fault("%s: %s exports no %s", at, typ, names[export])
		}
	}
}

// steps are the names of a reference, without its indices.
func steps(v hcl.Traversal) (names []string) {
	for _, step := range v {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			names = append(names, s.Name)
		case hcl.TraverseAttr:
			names = append(names, s.Name)
		}
	}
	return names
}

// TestDocsGiveVariables: the commands of docs/deploy.md give the variables that must be given, and none that is not there.
func TestDocsGiveVariables(t *testing.T) {
	docs, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	for cloud, heading := range map[string]string{"azure": "\n## Azure\n", "aws": "\n## AWS\n", "gcp": "\n## Google Cloud\n"} {
		_, section, ok := strings.Cut(string(docs), heading)
		section, _, _ = strings.Cut(section, "\n## ")
		if !ok {
			t.Errorf("docs/deploy.md has no section %q", heading)
		}
		given := map[string]bool{}
		for _, m := range regexp.MustCompile(`-var '?(\w+) ?=`).FindAllStringSubmatch(section, -1) {
			given[m[1]] = true
		}
		for _, body := range readModule(t, cloud, strings.NewReplacer()).bodies {
			for _, b := range body.Blocks {
				if b.Type != "variable" {
					continue
				}
				if b.Body.Attributes["default"] == nil && !given[b.Labels[0]] {
					t.Errorf("%s: the command does not give %s", cloud, b.Labels[0])
				}
				delete(given, b.Labels[0])
			}
		}
		for name := range given {
			t.Errorf("%s has no variable %s", cloud, name)
		}
	}
}

// TestDocument: the clouds' templates make one document of the configuration and its files in the same way.
func TestDocument(t *testing.T) {
	first, err := os.ReadFile("azure/document.tf")
	if err != nil {
		t.Fatal(err)
	}
	for _, cloud := range clouds {
		if data, err := os.ReadFile(cloud + "/document.tf"); err != nil || !bytes.Equal(data, first) {
			t.Errorf("%s/document.tf is another than azure's: %v", cloud, err)
		}
	}
}

// checkDocument reads a fleet's document as the image does.
func checkDocument(t *testing.T, document string) {
	t.Helper()
	d, err := source.Document{Config: []byte(document)}.Split()
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	c, err := config.Parse("sallyport.yaml", d.Config)
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	if c.Store.URL != "postgres://sallyport@db.example/sallyport?sslmode=verify-full" || !strings.HasSuffix(c.Store.PasswordFile, "store.password") {
		t.Errorf("the store is %+v", c.Store)
	}
	if want, _ := os.ReadFile("samples/access.yaml"); !bytes.Equal(d.Files["access.yaml"], want) {
		t.Errorf("access.yaml has become\n%s", d.Files["access.yaml"])
	}
	if got := string(d.Files["store.password"]); got != "hunter2\n" || len(d.Files) != 2 {
		t.Errorf("the password is %q, of %d files", got, len(d.Files))
	}
}
