package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withVersions starts a bastion whose access files are in the database, which begins with those of withFolder, and enrols
// bob beside ann. apply gives it a folder with other ones.
func withVersions(t *testing.T) (b *bastion, bob string) {
	b = start(t, settings{prepare: func(b *bastion) {
		b.policy("access.yaml", accessFolder)
		config, err := os.ReadFile(filepath.Join(b.dir, "sallyport.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		b.write("sallyport.yaml", strings.Replace(string(config), "access: access.yaml", "access: database\naccess_seed: access", 1))
	}})
	bob = filepath.Join(b.Dir, "bob")
	if err := os.Mkdir(bob, 0o700); err != nil {
		t.Fatal(err)
	}
	b.enrol("bob", bob)
	return b, bob
}

// folder is a new folder of access files.
func (b *bastion) folder(files map[string]string) string {
	b.t.Helper()
	dir, err := os.MkdirTemp(b.Dir, "access-")
	if err != nil {
		b.t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return dir
}

// TestApply: access files in the database are compared, taken in one piece or not at all, and put back; what they do not
// allow any more ends within five seconds, and is told why.
func TestApply(t *testing.T) {
	b, bob := withVersions(t)
	two := strings.Replace(accessFolder, "rules:", "  - {name: db-2, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}}\nrules:", 1)
	two = strings.Replace(two, "targets: [db-1]", "targets: [db-1, db-2]", 1)
	folder := b.folder(map[string]string{"access.yaml": two, "accounts.yaml": "accounts:\n  - {user: carl, groups: [ops]}\n", "notes.txt": "not for the appliance"})

	r := b.client("admin", "apply", "-f", folder, "--dry-run")
	for _, line := range []string{"+ target db-2\n", "~ rule operators\n    targets: db-1 → db-1, db-2\n", "+ account carl\n"} {
		if r.exit != 0 || !strings.Contains(r.stdout, line) {
			t.Errorf("a dry run does not say %q: %v", line, r)
		}
	}
	t.Logf("\n%s", r.stdout)
	if r := b.client("admin", "apply", "-f", folder); r.exit != 2 || !strings.Contains(r.stderr, "use --yes") {
		t.Errorf("without a terminal: %v", r)
	}
	if r := b.client("admin", "access", "list"); strings.Count(r.stdout, "\n") != 2 || !strings.Contains(r.stdout, "access_seed") {
		t.Errorf("nothing should have been taken yet: %v", r)
	}
	b.mustClient("admin", "apply", "-f", folder, "--yes", "--comment", "db-2 is new")
	if r := b.client("ls"); !strings.Contains(r.stdout, "db-2") {
		t.Errorf("what was taken is not in force: %v", r)
	}
	if r := b.client("admin", "accounts"); !strings.Contains(r.stdout, "carl  local   ops") {
		t.Errorf("accounts: %v", r)
	}

	broken := b.folder(map[string]string{"access.yaml": two + "lifetme: 1h\n", "more.cedar": "permit (principal, action, resource);\nforbid (principal, action, resourc);\n"})
	r = b.client("admin", "apply", "-f", broken, "--yes")
	if r.exit != 1 || !strings.Contains(r.stderr, "more.cedar:2:28: ") || !strings.Contains(r.stderr, "access.yaml:9:1: ") {
		t.Errorf("files with faults: %v", r)
	}
	if r := b.as(bob, "", "admin", "apply", "-f", folder, "--yes"); r.exit != 11 {
		t.Errorf("bob: %v", r)
	}
	alone := b.folder(map[string]string{"access.yaml": strings.Replace(two, "admins: [ann]", "admins: [bob]", 1)})
	if r := b.client("admin", "apply", "-f", alone, "--yes"); r.exit != 11 || !strings.Contains(r.stderr, "ann would be no administrator any more") {
		t.Errorf("ann locks herself out: %v", r)
	}

	bobs := *b
	bobs.home = bob
	session := bobs.heldTo("quic", "db-2")
	was := time.Now()
	r = b.mustClient("admin", "access", "rollback", "1", "--yes")
	if !strings.Contains(r.stderr, "- target db-2") || !strings.Contains(r.stderr, "of bob to db-2: the rules have changed: no target \"db-2\" that you may use") {
		t.Errorf("going back says: %v", r)
	}
	b.ends(session, 5*time.Second-time.Since(was), "the rules have changed: no target \"db-2\" that you may use")
	if r := b.client("admin", "accounts"); strings.Contains(r.stdout, "carl") {
		t.Errorf("accounts: %v", r)
	}
	r = b.mustClient("admin", "access", "diff", "2", "3")
	if !strings.Contains(r.stdout, "- target db-2") || !strings.Contains(r.stdout, "- account carl") {
		t.Errorf("diff: %v", r)
	}
	r = b.mustClient("admin", "access", "show")
	if !strings.Contains(r.stdout, "# access.yaml of version 3") || strings.Contains(r.stdout, "db-2") {
		t.Errorf("show: %v", r)
	}

	// Two who have looked at the same version: the second is told.
	b.conflict(folder)

	var written []string
	for line := range strings.Lines(b.mustClient("audit", "--event", "access.changed", "--json").stdout) {
		var e struct {
			By, Object, Code string
			Detail           struct{ Summary string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		written = append(written, strings.TrimSpace(fmt.Sprintf("%s by %s: %s %s", e.Object, e.By, e.Detail.Summary, e.Code)))
	}
	want := []string{"version 1 by root:", "version 2 by ann: 2 added: target db-2, account carl; 1 changed: rule operators",
		"version 3 by ann: 1 changed: rule operators; 2 removed: target db-2, account carl", "version 4 by ann: 2 added: target db-2, account carl; 1 changed: rule operators"}
	if fmt.Sprint(written) != fmt.Sprint(want) {
		t.Errorf("written:\n%s", strings.Join(written, "\n"))
	}
}

// conflict has two apply a folder at once, by the API: of those that have compared it with the same version one wins.
func (b *bastion) conflict(folder string) {
	b.t.Helper()
	const tries = 6
	results := make(chan run, tries)
	for range tries {
		go func() { results <- b.client("admin", "apply", "-f", folder, "--yes") }()
	}
	taken := 0
	for range tries {
		switch r := <-results; {
		case r.exit == 0 && strings.Contains(r.stderr, "version 4 is in force"):
			taken++
		case r.exit == 0 && strings.Contains(r.stdout, "nothing changes: version 4 says the same"):
		case r.exit == 2 && strings.Contains(r.stderr, "somebody has changed the access files meanwhile"):
		default:
			b.t.Errorf("%v", r)
		}
	}
	if taken != 1 {
		b.t.Errorf("%d have put version 4 in force", taken)
	}
}

// TestAccounts: an account that is disabled or removed loses its devices, and its sessions within five seconds.
func TestAccounts(t *testing.T) {
	b, bob := withVersions(t)
	if r := b.client("admin", "accounts", "add", "bob", "--group", "opps"); r.exit != 2 {
		t.Errorf("a group that there is not: %v", r)
	}
	r := b.mustClient("admin", "accounts", "add", "bob", "--group", "ops")
	if link, ok := strings.CutPrefix(strings.TrimSpace(r.stdout), b.url+"/setup#"); !ok || len(link) != 22 {
		t.Errorf("%v", r)
	}
	if r := b.client("admin", "accounts", "add", "bob"); r.exit != 2 || !strings.Contains(r.stderr, "there is an account of that name") {
		t.Errorf("%v", r)
	}
	again := b.mustClient("admin", "accounts", "reset", "bob", "--second-factor")
	if again.stdout == r.stdout {
		t.Error("the same link twice")
	}
	session := b.heldBy(bob, "https")
	was := time.Now()
	b.mustClient("admin", "accounts", "disable", "bob")
	b.ends(session, 5*time.Second-time.Since(was), "this device has been revoked")
	if r := b.as(bob, "", "ls"); r.exit != 10 {
		t.Errorf("bob's device: %v", r)
	}
	if r := b.client("admin", "accounts", "disable", "ann"); r.exit != 2 {
		t.Errorf("ann disables an account that there is not, and is her own: %v", r)
	}
	b.mustClient("admin", "accounts", "enable", "bob")
	b.mustClient("admin", "accounts", "remove", "bob")
	if r := b.client("admin", "accounts"); !strings.Contains(r.stderr, "there are no accounts") {
		t.Errorf("%v", r)
	}
	if r := b.client("admin", "signins"); !strings.Contains(r.stderr, "nobody is signed in") {
		t.Errorf("%v", r)
	}
}
