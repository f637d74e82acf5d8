package deploy

import (
	"embed"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/tests/npm"
)

//go:embed testdata/bicep
var bicep embed.FS

// checkBicep returns what testdata/bicep/check.mjs says of the files.
func checkBicep(t *testing.T, files ...string) []string {
	t.Helper()
	sub, err := fs.Sub(bicep, "testdata/bicep")
	if err != nil {
		t.Fatal(err)
	}
	dir := npm.Install(t, "bicep", sub)
	out, err := exec.CommandContext(t.Context(), "node", append([]string{filepath.Join(dir, "check.mjs"), "testdata/arm.json"}, files...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// TestBicep checks the files as far as that goes without Azure: the syntax, that names are declared and used, and that the
// resources have no properties but those that Azure's own client libraries know, in that shape. Those seldom say that one must
// be given. Values are not looked at, and no
// function's arguments.
func TestBicep(t *testing.T) {
	for _, fault := range checkBicep(t, "azure/main.bicep", "azure/image.bicep") {
		t.Error(fault)
	}
}

// TestBicepFaults: that check sees what it is for.
func TestBicepFaults(t *testing.T) {
	text, err := os.ReadFile("azure/main.bicep")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ old, new, want string }{
		{"enableAcceleratedNetworking:", "acceleratedNetworking:", "there is no property acceleratedNetworking"},
		{"    probes: [\n", "    probe: [\n", "there is no property probe"},
		{"probe: { id:", "probe: [ { id:", "this is no Bicep"},
		{"sku: { name: 'Standard' }", "sku: 'Standard'", "a plain value where none is wanted"},
		{"userData: base64(document)", "userData: { text: document }", "an object where none is wanted"},
		{"destinationPortRanges: [ '53' ]", "destinationPortRange: [ '53' ]", "a list where none is wanted"},
		{"base64(document)", "base64(doc)", "there is no doc"},
		{"int = 30", "int = 30\nparam hours int = 1", "hours is not used"},
		{"virtualMachineScaleSets@2024-11-01", "virtualMachineScaleSets@2019-01-01", "version 2019-01-01, and the schema is that of 2024-11-01"},
		{"  location: location\n  zones: zones\n  sku: { name: size", "  zones: zones\n  sku: { name: size", "location must be given"},
	}
	var files []string
	dir := t.TempDir()
	for i, c := range cases {
		edited := strings.ReplaceAll(string(text), c.old, c.new)
		if edited == string(text) {
			t.Errorf("there is no %q to change", c.old)
		}
		file := filepath.Join(dir, string(rune('a'+i))+".bicep")
		if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	faults := checkBicep(t, files...)
	for i, c := range cases {
		name := filepath.Base(files[i])
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, name+":") && strings.Contains(f, c.want) }) {
			t.Errorf("%q for %q: no fault %q in\n%s", c.new, c.old, c.want, strings.Join(faults, "\n"))
		}
	}
}

// TestBicepDocument reads a document that is put together as main.bicep says, by whose words it goes.
func TestBicepDocument(t *testing.T) {
	main, err := os.ReadFile("azure/main.bicep")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`file => '  ${file.key}: |\n    ${replace(file.value, '\n', '\n    ')}\n')`,
		`'\nfiles:\n${join(texts, '')}'`,
		`'\nstore: ${string(store)}\n'`,
		`'${configuration}${addedFiles}${addedStore}'`,
	} {
		if !strings.Contains(string(main), line) {
			t.Errorf("main.bicep does it in another way than this test, without %s", line)
		}
	}
	document, err := os.ReadFile("samples/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	access, err := os.ReadFile("samples/access.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := func(name, value string) string {
		return "  " + name + ": |\n    " + strings.ReplaceAll(value, "\n", "\n    ") + "\n"
	}
	checkDocument(t, string(document)+"\nfiles:\n"+text("access.yaml", string(access))+text("store.password", "hunter2")+
		"\nstore: "+`{"url":"postgres://sallyport@db.example/sallyport?sslmode=verify-full","password_file":"store.password"}`+"\n")
}

// TestBicepParameters: the example gives what must be given, and nothing that is not there.
func TestBicepParameters(t *testing.T) {
	main, err := os.ReadFile("azure/main.bicep")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("azure/main.bicepparam")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, p := range regexp.MustCompile(`(?m)^param (\w+) = `).FindAllStringSubmatch(string(example), -1) {
		given[p[1]] = true
	}
	for _, p := range regexp.MustCompile(`(?m)^param (\w+) \w+( =)?`).FindAllStringSubmatch(string(main), -1) {
		if p[2] == "" && !given[p[1]] {
			t.Errorf("the example gives no %s", p[1])
		}
		delete(given, p[1])
	}
	for name := range given {
		t.Errorf("the example gives %s, which is no parameter", name)
	}
	for _, file := range regexp.MustCompile(`loadTextContent\('([^']+)'\)`).FindAllStringSubmatch(string(example), -1) {
		if _, err := os.Stat(filepath.Join("azure", file[1])); err != nil {
			t.Errorf("the example names what is not there: %v", err)
		}
	}
}

// TestBicepRules: main.bicep lets in and out what rules.tf does, which Terraform evaluates in TestTerraformDocument.
func TestBicepRules(t *testing.T) {
	main, err := os.ReadFile("azure/main.bicep")
	if err != nil {
		t.Fatal(err)
	}
	terraform, err := os.ReadFile("azure/rules.tf")
	if err != nil {
		t.Fatal(err)
	}
	var bicep, hcl []string
	plain := strings.NewReplacer("'", "", `"`, "", " ", "").Replace
	for _, r := range regexp.MustCompile(`(?s)name: '([^']+)'\s+properties: \{\s+priority: ([^\n]+)\s+direction: '(\w+)'\s+access: '(\w+)'\s+protocol: '([^']+)'\s+`+
		`sourceAddressPrefix: '([^']+)'\s+sourcePortRange: '\*'\s+destinationAddressPrefix: ([^\n]+)\s+destinationPortRanges: ([^\n]+)`).FindAllStringSubmatch(string(main), -1) {
		bicep = append(bicep, plain(strings.Join(r[1:], ";")))
	}
	for _, r := range regexp.MustCompile(`\{ name = "([^"]+)", priority = ([^,]+), direction = "(\w+)", access = "(\w+)", protocol = "([^"]+)", source = "([^"]+)", `+
		`destination = ([^,]+), ports = (.+) \}`).FindAllStringSubmatch(string(terraform), -1) {
		hcl = append(hcl, plain(strings.Join(r[1:], ";")))
	}
	ports := regexp.MustCompile(`^(targets;.*;).*`) // which depend on the database, in the words of each
	for _, rules := range [][]string{bicep, hcl} {
		for i := range rules {
			rules[i] = ports.ReplaceAllString(rules[i], "$1")
		}
		slices.Sort(rules)
	}
	if len(bicep) < 8 || !slices.Equal(bicep, hcl) {
		t.Errorf("main.bicep has the rules\n%s\nand rules.tf\n%s", strings.Join(bicep, "\n"), strings.Join(hcl, "\n"))
	}
	for _, line := range []string{
		"  public: concat(people, empty(privateSubnetId) ? targets : [], services, platform)\n",
		"  private: concat(nobody, targets, services, platform)\n",
		"properties: { securityRules: rules[nic] }",
	} {
		if !strings.Contains(string(main), line) {
			t.Errorf("main.bicep has no %q", line)
		}
	}
}
