package release

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// debian has the files that only packages have.
//
//go:embed debian
var debian embed.FS

// maintainer stands in packages, which must name one. The address leads nowhere (RFC 2606 §2).
const maintainer = "The Sallyport authors <sallyport@packages.invalid>"

// clientArchive is the client for people who unpack it where they like.
func (r *release) clientArchive(ctx context.Context, p platform) (output, error) {
	b, notices, err := r.linked(ctx, program{"sallyport", p})
	if err != nil {
		return output{}, err
	}
	folder := fmt.Sprintf("sallyport-%s-%s", r.Version, p)
	files := []entry{
		file("LICENSE", r.papers.license),
		file("README.md", r.papers.readme),
		file("third-party-licenses.txt", notices),
	}
	files = append(files, r.papers.docs...)
	for _, shell := range shells {
		files = append(files, file("completions/"+shell.file, r.papers.completions[shell.name]))
	}
	encode, suffix := zipped, ".zip"
	if p.os != "windows" {
		encode, suffix = tarGz, ".tar.gz"
		for _, page := range r.papers.pages["sallyport"] {
			files = append(files, file("man/man1/"+page.name, page.data))
		}
	}
	for i := range files {
		files[i].name = folder + "/" + files[i].name
	}
	return output{folder + suffix, b.binary, func() ([]byte, error) {
		executable, err := os.ReadFile(b.file)
		if err != nil {
			return nil, err
		}
		all := append(slices.Clone(files), entry{folder + "/" + p.executable("sallyport"), 0o755, executable})
		return encode("", withFolders(all), r.Epoch)
	}}, nil
}

// A packaging is what a program's Debian package is, besides what each package has.
type packaging struct {
	program   string
	fields    [][2]string // of the control file
	files     []entry
	conffiles []string
	scripts   []string // in debian
}

func (r *release) packagings() ([]packaging, error) {
	unit, err := packagedUnit(string(r.papers.unit))
	if err != nil {
		return nil, err
	}
	client := packaging{
		program: "sallyport",
		fields: [][2]string{
			{"Recommends", "openssh-client"},
			{"Suggests", "freerdp2-x11 | freerdp3-x11"},
			{"Section", "net"}, {"Priority", "optional"},
			{"Description", "reach SSH and RDP of a private network through a Sallyport appliance\n" +
				" The command brings ssh, scp, rsync and RDP clients to machines that have no\n" +
				" public address, over QUIC or, where UDP is blocked, HTTPS."},
		},
	}
	for shell, path := range map[string]string{
		"bash": "usr/share/bash-completion/completions/sallyport",
		"zsh":  "usr/share/zsh/vendor-completions/_sallyport",
		"fish": "usr/share/fish/vendor_completions.d/sallyport.fish",
	} {
		client.files = append(client.files, file(path, r.papers.completions[shell]))
	}
	daemon := packaging{
		program: "sallyportd",
		fields: [][2]string{
			{"Depends", "adduser, init-system-helpers (>= 1.54)"},
			{"Suggests", "sallyport"},
			{"Section", "net"}, {"Priority", "optional"},
			{"Description", "bastion that brings people to SSH and RDP of a private network\n" +
				" The appliance stands in a private network and lets people reach its targets\n" +
				" through one public port. What its rules do not allow is denied before any\n" +
				" packet is sent. It is not started before there is a configuration."},
		},
		files:     []entry{file("usr/lib/systemd/system/sallyportd.service", unit)},
		conffiles: []string{"/etc/sallyport/access.yaml.example", "/etc/sallyport/sallyport.yaml.example"},
		scripts:   []string{"postinst", "postrm", "prerm"},
	}
	for _, conffile := range daemon.conffiles {
		data, err := debian.ReadFile("debian/" + path.Base(conffile))
		if err != nil {
			return nil, err
		}
		daemon.files = append(daemon.files, file(strings.TrimPrefix(conffile, "/"), data))
	}
	return []packaging{client, daemon}, nil
}

// packagedUnit is the daemon's unit as the package has it: for a program in /usr/bin, and quiet until there is a
// configuration. The comment before its first section says how to install it by hand.
func packagedUnit(unit string) ([]byte, error) {
	_, unit, found := strings.Cut(unit, "\n[Unit]\n")
	unit = "[Unit]\n" + unit
	for _, change := range [][2]string{
		{"ExecStart=/usr/local/bin/", "ExecStart=/usr/bin/"},
		{"Documentation=file:///usr/share/doc/sallyport/README.md\n", "Documentation=man:sallyportd(8) file:///usr/share/doc/sallyportd/README.md\n" +
			"# One that exists is to be right: a missing one means that the appliance is not set up yet.\n" +
			"ConditionPathExists=/etc/sallyport/sallyport.yaml\n"},
	} {
		found = found && strings.Count(unit, change[0]) == 1
		unit = strings.Replace(unit, change[0], change[1], 1)
	}
	if !found {
		return nil, fmt.Errorf("docs/sallyportd.service is not as the package's unit is made from")
	}
	return []byte(unit), nil
}

// debianPackage is a program's package for a platform.
func (r *release) debianPackage(ctx context.Context, k packaging, p platform) (output, error) {
	b, notices, err := r.linked(ctx, program{k.program, p})
	if err != nil {
		return output{}, err
	}
	d := deb{
		name: k.program, version: debianVersion(r.Version), arch: p.arch,
		fields:    append([][2]string{{"Maintainer", maintainer}}, k.fields...),
		files:     k.files,
		conffiles: k.conffiles,
		scripts:   map[string][]byte{},
	}
	for _, script := range k.scripts {
		if d.scripts[script], err = debian.ReadFile("debian/" + script); err != nil {
			return output{}, err
		}
	}
	docs := "usr/share/doc/" + k.program + "/"
	copyright, err := debian.ReadFile("debian/copyright")
	if err != nil {
		return output{}, err
	}
	changelog := fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- %s  %s\n", k.program, d.version, r.Version,
		maintainer, r.Epoch.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	override := fmt.Sprintf("# A program of Go's, which is linked so that it runs on every Linux.\n%s: statically-linked-binary [usr/bin/%[1]s]\n", k.program)
	d.files = append(d.files, file("usr/share/lintian/overrides/"+k.program, []byte(override)))
	d.files = append(d.files, file(docs+"copyright", copyright), file(docs+"README.md", r.papers.readme))
	for _, doc := range r.papers.docs {
		d.files = append(d.files, file(docs+doc.name, doc.data))
	}
	compressed := map[string][]byte{docs + "changelog": []byte(changelog), docs + "third-party-licenses.txt": notices}
	for _, page := range r.papers.pages[k.program] {
		compressed["usr/share/man/man"+strings.TrimPrefix(path.Ext(page.name), ".")+"/"+page.name] = page.data
	}
	for name, data := range compressed {
		if data, err = gzipped(data); err != nil {
			return output{}, err
		}
		d.files = append(d.files, file(name+".gz", data))
	}
	name := fmt.Sprintf("%s_%s_%s.deb", d.name, d.version, d.arch)
	return output{name, b.binary, func() ([]byte, error) {
		executable, err := os.ReadFile(b.file)
		if err != nil {
			return nil, err
		}
		whole := d
		whole.files = append(slices.Clone(d.files), entry{"usr/bin/" + k.program, 0o755, executable})
		return whole.encode(r.Epoch)
	}}, nil
}
