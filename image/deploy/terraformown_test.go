//go:build terraform

package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTerraformDocument has Terraform itself evaluate what needs no provider. Debian has no package of it, so that this is
// for who has it: go test -tags terraform ./image/deploy
func TestTerraformDocument(t *testing.T) {
	samples, err := filepath.Abs("samples")
	if err != nil {
		t.Fatal(err)
	}
	evaluate := func(t *testing.T, expression string, variables ...string) string {
		t.Helper()
		dir := t.TempDir()
		for _, name := range []string{"document.tf", "variables.tf", "rules.tf"} {
			data, err := os.ReadFile("azure/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args := []string{"console", "-var", "location=x", "-var", "public_subnet_id=public"}
		for _, v := range variables {
			args = append(args, "-var", v)
		}
		cmd := exec.CommandContext(t.Context(), "terraform", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1") // it asks nobody for its latest version
		cmd.Stdin = strings.NewReader("base64encode(nonsensitive(jsonencode(" + expression + ")))\n")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
		}
		var encoded []byte
		if err := json.Unmarshal(out, &encoded); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(encoded)
	}

	t.Run("fleet", func(t *testing.T) {
		var document string
		if err := json.Unmarshal([]byte(evaluate(t, "local.document", "configuration="+samples+"/fleet.yaml",
			fmt.Sprintf("files={%q = %q}", "access.yaml", samples+"/access.yaml"),
			"store_url=postgres://sallyport@db.example/sallyport?sslmode=verify-full", "store_password=hunter2")), &document); err != nil {
			t.Fatal(err)
		}
		written, _ := os.ReadFile("samples/fleet.yaml")
		if !strings.HasPrefix(document, string(written)) {
			t.Errorf("it does not begin with the configuration")
		}
		checkDocument(t, document)
	})
	t.Run("one, without files", func(t *testing.T) {
		var document string
		if err := json.Unmarshal([]byte(evaluate(t, "local.document", "configuration="+samples+"/one-nic.yaml")), &document); err != nil {
			t.Fatal(err)
		}
		if written, _ := os.ReadFile("samples/one-nic.yaml"); document != string(written) {
			t.Errorf("it is not as it was written:\n%s", document)
		}
	})
	inbound, targets, services := []string{"people", "vnet-in"}, []string{"targets", "names"}, []string{"platform", "service-0", "service-1", "out"}
	for _, c := range []struct {
		private         string
		nics            string
		public, targets []string
	}{
		{"", `["public"]`, slices.Concat(inbound, targets, services), nil},
		{"private", `["public","private"]`, slices.Concat(inbound, services), slices.Concat(inbound[1:], targets, services)},
	} {
		t.Run("rules of "+c.nics, func(t *testing.T) {
			variables := []string{"configuration=" + samples + "/one-nic.yaml", "private_subnet_id=" + c.private, `service_networks=["192.0.2.0/24","198.51.100.7/32"]`}
			if got := evaluate(t, "local.nics", variables...); got != c.nics {
				t.Errorf("NICs are %s", got)
			}
			var got map[string][]struct {
				Name, Direction, Access, Protocol, Source, Destination string
				Priority                                               int
				Ports                                                  []string
			}
			if err := json.Unmarshal([]byte(evaluate(t, "local.rules", variables...)), &got); err != nil {
				t.Fatal(err)
			}
			for nic, want := range map[string][]string{"public": c.public, "private": c.targets} {
				if want == nil {
					continue
				}
				var names []string
				for _, r := range got[nic] {
					names = append(names, r.Name)
				}
				if !slices.Equal(names, want) {
					t.Errorf("rules of %s are %v", nic, names)
				}
				// The last one leaves nothing to what Azure allows by itself, into the VNet least of all.
				if last := got[nic][len(got[nic])-1]; last.Direction != "Outbound" || last.Access != "Deny" || last.Protocol != "*" || last.Source != "*" ||
					last.Destination != "*" || last.Priority != 4000 || !slices.Equal(last.Ports, []string{"0-65535"}) {
					t.Errorf("the last rule of %s is %+v", nic, last)
				}
			}
		})
	}
}
