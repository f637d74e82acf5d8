package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestConfigSSH: with the file that config-ssh writes, and nothing else of Sallyport's, OpenSSH's programs and those that
// use them reach targets by name, and go to machines with the keys that the appliance pins and no others.
func TestConfigSSH(t *testing.T) {
	t.Parallel()
	const other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	b := start(t, settings{prepare: func(b *bastion) {
		b.write("access.yaml", fmt.Sprintf(`
targets:
  - {name: db-1, vnet: hub, address: 10.99.0.10, protocols: ssh, host_keys: [%q]}
  - {name: changed, vnet: hub, address: 10.99.0.10, protocols: ssh, host_keys: [%q]}
rules:
  - {name: all, who: [ann], targets: ["*"]}
`, b.sshd.HostKey, other))
	}})
	targets, conf := filepath.Join(b.Dir, "sallyport.conf"), filepath.Join(b.Dir, "config")
	if r := b.client("config-ssh", "--write", targets); r.exit != 0 {
		t.Fatalf("config-ssh: %v", r)
	}
	own := fmt.Sprintf("Include %s\nHost *\n    User root\n    IdentityFile %s\n    IdentitiesOnly yes\n    BatchMode yes\n    LogLevel ERROR\n", targets, b.sshd.KeyFile)
	if err := os.WriteFile(conf, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	w := way{name: "config-ssh", from: b.Client, home: b.home, conf: conf}
	for name, c := range map[string]struct{ script, want string }{
		"ssh":   {`ssh -F $C db-1 "cat; echo err >&2; exit 7" < local/tree/a 2> said; echo "exit $?"; cat said`, "this is a\nexit 7\nerr\n"},
		"scp":   {`scp -F $C -q local/big db-1:$PWD/remote/f && scp -F $C -q db-1:$PWD/remote/f back && cmp local/big back && echo same`, "same\n"},
		"sftp":  {`echo "put local/big $PWD/remote/f" | sftp -F $C -q -b - db-1 >/dev/null && cmp local/big remote/f && echo same`, "same\n"},
		"rsync": {`rsync -a -e "ssh -F $C" local/ db-1:$PWD/remote/ && diff -r local remote && echo same`, "same\n"},
		"git": {`export GIT_SSH_COMMAND="ssh -F $C" GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
			git init -q --bare remote/r.git && git clone -q db-1:$PWD/remote/r.git clone 2>/dev/null && cd clone &&
			git -c user.name=ann -c user.email=ann@example commit -q --allow-empty -m "by Sallyport" && git push -q origin HEAD:main &&
			git ls-remote --heads origin | cut -f 2`, "refs/heads/main\n"},
		"another key": {`ssh -F $C changed true 2>&1 | grep -c 'changed shows another host key'`, "1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.on(t)
			if r := b.script(w, b.workshop(), c.script); r.stdout != c.want {
				t.Errorf("%v\nwant %q\n%s", r, c.want, b.daemon.Output())
			}
		})
	}
}
