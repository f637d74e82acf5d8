// Package tests holds what is tested about the whole: here, who may import whom.
package tests

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "sallyport"

// allowed says which of our packages each folder may import. Arrows point one way.
var allowed = map[string][]string{
	"frame":                              {},
	"frame/frametest":                    {"frame"},
	"relay":                              {},
	"netstack":                           {"netstack/link"},
	"netstack/link":                      {},
	"netstack/dhcp":                      {},
	"host":                               {},
	"host/disk":                          {},
	"host/slots":                         {},
	"image/update":                       {},
	"host/boot":                          {},
	"host/metadata":                      {},
	"host/source":                        {},
	"transport":                          {"frame"},
	"appliance/api":                      {},
	"appliance":                          {"appliance/access", "appliance/api", "appliance/audit", "appliance/auth", "appliance/auth/token", "appliance/hostkey", "appliance/policy", "appliance/sshca", "frame", "relay"},
	"appliance/access":                   {"appliance/auth", "appliance/policy", "appliance/policy/yamlfile", "appliance/policy/spell"},
	"appliance/audit":                    {},
	"appliance/auth":                     {},
	"appliance/auth/lockout":             {"appliance/auth"},
	"appliance/auth/oidc":                {"appliance/auth", "appliance/auth/pending"},
	"appliance/auth/passkey":             {"appliance/auth", "appliance/auth/pending"},
	"appliance/auth/passkey/passkeytest": {},
	"appliance/auth/password":            {"appliance/auth"},
	"appliance/auth/pending":             {},
	"appliance/auth/signin":              {"appliance/auth", "appliance/auth/lockout", "appliance/auth/oidc", "appliance/auth/passkey", "appliance/auth/password", "appliance/auth/pending", "appliance/auth/totp"},
	"appliance/auth/token":               {"appliance/auth"},
	"appliance/auth/totp":                {"appliance/auth"},
	"appliance/clients":                  {"appliance/api", "frame"},
	"appliance/config":                   {"appliance/policy/yamlfile", "appliance/policy/spell"},
	"appliance/desktop":                  {"appliance", "appliance/audit", "appliance/credssp", "appliance/message", "appliance/policy", "appliance/rdp", "appliance/rdp/der", "frame"},
	"appliance/files":                    {"appliance", "appliance/audit", "appliance/message", "appliance/policy", "appliance/sshlogin", "frame"},
	"appliance/hostkey":                  {},
	"appliance/people":                   {"appliance/auth", "appliance/auth/oidc", "appliance/auth/passkey", "appliance/auth/pending", "appliance/auth/signin", "appliance/store"},
	"appliance/portal":                   {"appliance/api", "appliance/auth", "appliance/auth/lockout", "appliance/auth/oidc", "appliance/auth/passkey", "appliance/auth/password", "appliance/auth/signin", "appliance/auth/totp", "appliance/people", "appliance/portal/web"},
	"appliance/portal/web":               {},
	"appliance/policy":                   {"appliance/policy/yamlfile", "appliance/policy/spell"},
	"appliance/policy/yamlfile":          {"appliance/policy/spell"},
	"appliance/policy/spell":             {},
	"appliance/credssp":                  {"appliance/rdp/der"},
	"appliance/rdp":                      {"appliance/rdp/der"},
	"appliance/rdp/der":                  {},
	"appliance/sshca":                    {},
	"appliance/store":                    {},
	"appliance/message":                  {},
	"appliance/sshlogin":                 {"appliance", "appliance/message", "frame"},
	"appliance/terminal":                 {"appliance", "appliance/audit", "appliance/message", "appliance/policy", "appliance/sshlogin", "frame"},
	"client":                             {"appliance/api", "frame", "relay", "transport"},
	"client/clienttest":                  {"appliance/api", "client", "frame", "transport"},
	"image/release":                      {"appliance/portal/web", "image/gobuild", "image/sbom"},
	"image/gobuild":                      {},
	"image/sbom":                         {"appliance/portal/web"},
	"bench":                              {},
	"bench/lab":                          {"bench"},
	"image":                              {"appliance/portal/web", "image/cpio", "image/deb", "image/disk", "image/kmod", "image/gobuild", "image/sbom", "image/uki", "image/update"},
	"image/cpio":                         {},
	"image/deb":                          {},
	"image/disk":                         {},
	"image/kmod":                         {},
	"image/uki":                          {},
	"image/uki/ukitest":                  {},
	"cmd/internal/manual":                {},
	"cmd/sallyport-image":                {"image", "image/deb", "image/release", "image/uki", "image/update"},
	"cmd/sallyport-bench":                {"bench", "bench/lab"},
	"cmd/sallyport":                      {"appliance/api", "appliance/audit", "appliance/policy/spell", "client", "cmd/internal/manual", "frame", "transport"},
	"cmd/sallyportd":                     {"appliance", "appliance/access", "appliance/api", "appliance/audit", "appliance/auth", "appliance/auth/lockout", "appliance/auth/oidc", "appliance/auth/passkey", "appliance/auth/password", "appliance/auth/pending", "appliance/auth/signin", "appliance/auth/token", "appliance/clients", "appliance/config", "appliance/desktop", "appliance/files", "appliance/hostkey", "appliance/people", "appliance/policy", "appliance/portal", "appliance/sshca", "appliance/store", "appliance/terminal", "client", "cmd/internal/manual", "frame", "host", "host/boot", "host/disk", "host/metadata", "host/slots", "host/source", "image/uki", "image/update", "netstack", "netstack/dhcp", "netstack/link", "transport"},
}

// only says where a library may be imported, and why nowhere else.
var only = map[string]struct {
	by  []string
	why string
}{
	"github.com/CycloneDX":         {[]string{"image/sbom"}, "how a bill of materials looks is one package's business"},
	"github.com/quic-go/quic-go":   {[]string{"transport"}, "QUIC is the transport's business"},
	"github.com/coder/websocket":   {[]string{"transport"}, "so are WebSockets"},
	"gvisor.dev/gvisor":            {[]string{"netstack", "netstack/link"}, "the stack is the netstack's business"},
	"golang.zx2c4.com/wireguard":   {[]string{"netstack/link", "bench/lab"}, "tunnels are links; the lab measures another's beside ours"},
	"github.com/insomniacslk":      {[]string{"netstack/dhcp"}, "leases are one package's business"},
	"github.com/diskfs":            {[]string{"host/disk", "host/source", "image/disk"}, "disks and volumes are read and made in few places"},
	"github.com/vishvananda":       {[]string{"host"}, "only the parent touches the host's network"},
	"github.com/coreos/go-oidc":    {[]string{"appliance/auth/oidc"}, "identity providers are one package's business"},
	"golang.org/x/oauth2":          {[]string{"appliance/auth/oidc"}, "identity providers are one package's business"},
	"github.com/go-jose/go-jose":   {[]string{"appliance/auth/oidc"}, "others' tokens are read in one place; ours have one form"},
	"github.com/go-webauthn":       {[]string{"appliance/auth/passkey"}, "ceremonies are one package's business"},
	"github.com/pquerna/otp":       {[]string{"appliance/auth/totp"}, "one-time passwords are one package's business"},
	"golang.org/x/crypto/argon2":   {[]string{"appliance/auth/password"}, "what a password costs is decided in one place"},
	"github.com/cedar-policy":      {[]string{"appliance/policy"}, "Cedar is the policy's own language"},
	"database/sql":                 {[]string{"appliance/store"}, "SQL is the store's business"},
	"github.com/jackc/pgx":         {[]string{"appliance/store"}, "so is PostgreSQL"},
	"github.com/pressly/goose":     {[]string{"appliance/store"}, "so are the tables"},
	"github.com/pkg/sftp":          {[]string{"appliance/files"}, "files are one package's business"},
	"github.com/zalando":           {[]string{"client"}, "where the device key is kept is the client's business"},
	"github.com/godbus/dbus":       {[]string{"client"}, "so is whether there is a keychain"},
	"github.com/ulikunitz/xz":      {[]string{"image/deb"}, "only Debian packs with it"},
	"modernc.org/sqlite":           {[]string{"appliance/store"}, "so is SQLite"},
	"github.com/elastic":           {[]string{"host"}, "what a worker may call is decided in one place"},
	"github.com/coreos/go-systemd": {[]string{"host"}, "the service manager is the parent's business"},
	"github.com/beevik/ntp":        {[]string{"cmd/sallyportd"}, "the time is asked for in one place"},
}

// TestImports reads the files of all platforms. Test files may import what they like.
func TestImports(t *testing.T) {
	root := ".."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(rel))
		if strings.HasPrefix(dir, "tests") {
			return nil
		}
		seen[dir] = true
		checkFile(t, file, dir)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range allowed {
		if !seen[dir] {
			t.Errorf("%s is in the list and has no files", dir)
		}
	}
}

func checkFile(t *testing.T, file, dir string) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	list, known := allowed[dir]
	if !known {
		t.Errorf("%s: its folder is not in the list", file)
	}
	for _, spec := range parsed.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(list, ours) {
			t.Errorf("%s imports %s, which %s may not", file, imported, dir)
		}
		for library, rule := range only {
			if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(rule.by, dir) {
				t.Errorf("%s imports %s: %s", file, imported, rule.why)
			}
		}
	}
}
