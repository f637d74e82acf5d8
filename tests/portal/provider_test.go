package portal

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	oidcprovider "sallyport/tests/oidc-provider"
)

// TestProvider: a person signs in at an identity provider, and comes back to where they wanted to go. Appliance, provider and
// browser share this machine's loopback, since a provider's name may be without TLS only there.
func TestProvider(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir, err := os.MkdirTemp("", "sallyport-portal-") // which the worker's user may go into
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &site{t: t, bin: bin, dir: filepath.Join(dir, "appliance"), home: filepath.Join(dir, "home"), url: fmt.Sprintf("https://bastion.example:%d", port), at: "127.0.0.1", run: exec.CommandContext}
	w.folders()
	p := oidcprovider.Start(t, w.url+"/login/corp")
	w.write("client-secret", oidcprovider.ClientSecret)
	w.write("access.yaml", "targets:\n  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}}\nrules:\n  - {name: operators, who: [ann], targets: [db-1], protocols: [ssh]}\n")
	w.write("sallyport.yaml", fmt.Sprintf(`
name: bastion
listen: {address: "127.0.0.1:%d"}
tls: {self_signed: true}
state: %s
access: access.yaml
identity:
  url: %q
  providers:
    - {name: corp, issuer: %q, client_id: %s, client_secret_file: client-secret, scopes: [openid, profile, email, groups]}
drain: {grace: 1s}
vnets:
  hub: {link: {kernel: {}}, prefixes: [10.99.0.0/16]}
`, port, filepath.Join(dir, "state"), w.url, p.Issuer, oidcprovider.ClientID))
	w.serve(exec.CommandContext)
	w.browse("provider.mjs", map[string]any{"issuer": p.Issuer})
}
